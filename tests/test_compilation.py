import os
import subprocess
import sys

import jax

from relstab_jax.compilation import CompilationCache, processor


def test_the_cache_is_in_the_users_cache_folder_unless_another_is_set(tmp_path, monkeypatch):
    named = jax.config.jax_compilation_cache_dir
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    try:
        CompilationCache()
        assert jax.config.jax_compilation_cache_dir == named
        jax.config.update("jax_compilation_cache_dir", None)
        CompilationCache()
        assert jax.config.jax_compilation_cache_dir == str(tmp_path / "relstab_jax" / processor())
    finally:
        jax.config.update("jax_compilation_cache_dir", named)


# Writing fails beyond a size of files, as on a full disk; reading does not.
LIMITED = """
import resource, sys, warnings
import jax
from relstab_jax.compilation import CompilationCache
warnings.formatwarning = lambda message, *_, **__: f"{message}\\n"
CompilationCache()
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), -1))
for shift in (1, 2):
    jax.jit(lambda x: x + shift)(1.0)
"""


def test_programs_without_room_are_told_once_and_leave_nothing_behind(tmp_path):
    environment = os.environ | {
        "JAX_PLATFORMS": "cpu", "JAX_COMPILATION_CACHE_DIR": str(tmp_path),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }  # fmt: skip

    def warnings_within(limit):
        done = subprocess.run(
            [sys.executable, "-c", LIMITED, str(limit)],
            env=environment, capture_output=True, text=True, check=True,
        )  # fmt: skip
        return done.stderr.splitlines()

    (told,) = warnings_within(100)
    assert f"compiled programs cannot be kept in {tmp_path} (File too large)" in told
    assert not list(tmp_path.iterdir())
    assert not warnings_within(2**30)
    for entry in tmp_path.iterdir():
        os.truncate(entry, 100)
    assert not warnings_within(2**30)
    assert {entry.stat().st_size > 100 for entry in tmp_path.iterdir()} == {True}
