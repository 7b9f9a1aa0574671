"""What XLA has compiled is kept on disk, so that a run does not compile what an earlier one did."""

import hashlib
import os
import pathlib
import platform

import jax

_SAVED = "/jax/compilation_cache/compile_time_saved_sec"


class CompilationCache:
    """JAX's cache of compiled programs, switched on where the user has not chosen a folder.

    Its folder is in `relstab_jax` in the user's cache folder, one for each kind of processor,
    whose instructions another may lack; JAX_COMPILATION_CACHE_DIR names another, and
    JAX_ENABLE_COMPILATION_CACHE=0 does without.

    Attributes:
        seconds: of compiling that it has saved this process so far.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        if jax.config.jax_compilation_cache_dir is None:  # pyright: ignore[reportAttributeAccessIssue]
            caches = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
            folder = caches / "relstab_jax" / processor()
            jax.config.update("jax_compilation_cache_dir", str(folder))
        jax.monitoring.register_event_duration_secs_listener(self._listen)

    def _listen(self, event: str, duration_secs: float, **_: str | int) -> None:
        if event == _SAVED:
            self.seconds += duration_secs


def processor() -> str:
    """Returns a name of the processor's instruction set."""
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
        known = sorted({line for line in lines if line.startswith(("flags", "Features"))})
    except OSError:  # not Linux
        known = [platform.processor()]
    digest = hashlib.sha256("\n".join(known).encode()).hexdigest()
    return f"{platform.machine()}-{digest[:8]}"
