"""JAX's persistent compilation cache, so that runs reuse the programs of earlier ones."""

import contextlib
import hashlib
import os
import pathlib
import platform
import re
import warnings
from typing import Any

import jax

_TIME_SAVED_EVENT = "/jax/compilation_cache/compile_time_saved_sec"
_FAILURE = re.compile(
    r"Error (?P<what>reading|writing) persistent compilation cache entry for '(?P<program>\w+)': "
    r"\w+: (\[Errno \d+\] )?(?P<reason>.*)"
)


class CompilationCache:
    """Enables the cache, and measures the time that it saves.

    The cache is in `relstab_jax/<processor>` in the user's cache folder, since compiled programs
    may use instructions that other processors lack. JAX_COMPILATION_CACHE_DIR sets another folder,
    and JAX_ENABLE_COMPILATION_CACHE=0 disables the cache.

    JAX warns where it cannot write a program, as on a full disk, and goes on; but it leaves a part
    of it, of which it warns in every later run. Here such a part is deleted, and the user is warned
    once.

    Attributes:
        seconds: compilation time that it has saved this process so far.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self._warned = False
        self._show = warnings.showwarning
        warnings.showwarning = self._handle
        warnings.filterwarnings("always", _FAILURE.pattern)
        if jax.config.jax_compilation_cache_dir is None:  # pyright: ignore[reportAttributeAccessIssue]
            caches = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
            folder = caches / "relstab_jax" / processor()
            jax.config.update("jax_compilation_cache_dir", str(folder))
        jax.monitoring.register_event_duration_secs_listener(self._listen)

    def _listen(self, event: str, duration_secs: float, **_: str | int) -> None:
        if event == _TIME_SAVED_EVENT:
            self.seconds += duration_secs

    def _handle(self, message: Warning | str, *arguments: Any, **options: Any) -> None:
        """Shows a warning, or handles it if it is one of JAX about the cache."""
        failure = _FAILURE.match(str(message))
        if not failure:
            self._show(message, *arguments, **options)
            return
        folder = pathlib.Path(jax.config.jax_compilation_cache_dir)  # pyright: ignore[reportAttributeAccessIssue]
        with contextlib.suppress(OSError):
            for entry in folder.glob(f"{failure['program']}-*"):
                entry.unlink()
        if failure["what"] == "writing" and not self._warned:
            self._warned = True
            text = (
                f"compiled programs cannot be kept in {folder} ({failure['reason']}): the run goes "
                "on; to start faster, make room or set JAX_COMPILATION_CACHE_DIR to another folder"
            )
            self._show(UserWarning(text), *arguments, **options)


def processor() -> str:
    """Returns a name of the processor's instruction set, such as x86_64-0123abcd."""
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
        known = sorted({line for line in lines if line.startswith(("flags", "Features"))})
    except OSError:  # not Linux
        known = [platform.processor()]
    digest = hashlib.sha256("\n".join(known).encode()).hexdigest()
    return f"{platform.machine()}-{digest[:8]}"
