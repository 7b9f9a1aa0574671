"""JAX's persistent compilation cache, so that runs reuse the programs of earlier ones."""

import hashlib
import os
import pathlib
import platform

import jax

_TIME_SAVED_EVENT = "/jax/compilation_cache/compile_time_saved_sec"


class CompilationCache:
    """Enables the cache, and measures the time that it saves.

    The cache is in `relstab_jax/<processor>` in the user's cache folder, since compiled programs
    may use instructions that other processors lack. JAX_COMPILATION_CACHE_DIR sets another folder,
    and JAX_ENABLE_COMPILATION_CACHE=0 disables the cache.

    Attributes:
        seconds: compilation time that it has saved this process so far.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        if jax.config.jax_compilation_cache_dir is None:  # pyright: ignore[reportAttributeAccessIssue]
            caches = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
            folder = caches / "relstab_jax" / processor()
            jax.config.update("jax_compilation_cache_dir", str(folder))
        jax.monitoring.register_event_duration_secs_listener(self._listen)

    def _listen(self, event: str, duration_secs: float, **_: str | int) -> None:
        if event == _TIME_SAVED_EVENT:
            self.seconds += duration_secs


def processor() -> str:
    """Returns a name of the processor's instruction set, such as x86_64-0123abcd."""
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
        known = sorted({line for line in lines if line.startswith(("flags", "Features"))})
    except OSError:  # not Linux
        known = [platform.processor()]
    digest = hashlib.sha256("\n".join(known).encode()).hexdigest()
    return f"{platform.machine()}-{digest[:8]}"
