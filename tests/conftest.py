import os
import pathlib

import jax
import numpy as np
import pytest

from relstab_jax.compilation import processor
from relstab_jax.messages import log

jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")


def pytest_configure(config):
    """Caches compiled programs for all tests, their subprocesses, and later runs of the tests.

    They are in pytest's cache; `pytest --cache-clear` deletes them.
    """
    if config.option.markexpr == "not slow":
        # Most of the time goes into compiling. With the slow tests, programs are fully optimised.
        os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"
        jax.config.update("jax_disable_most_optimizations", True)
    if not config.pluginmanager.hasplugin("cacheprovider"):
        return
    folder = config.cache.mkdir(f"compiled-{processor()}")
    variables = {
        "JAX_COMPILATION_CACHE_DIR": str(folder),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }
    os.environ.update(variables)
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


@pytest.fixture(scope="session")
def golden() -> dict[str, np.ndarray]:
    """Returns reference numbers of the authors' PyTorch programs, in float64."""
    return dict(np.load(pathlib.Path(__file__).parent / "golden" / "kernels.npz"))


@pytest.fixture
def float64():
    with jax.enable_x64(True):
        yield


@pytest.fixture(autouse=True)
def _logger_as_it_was():
    """Restores the logger, which the command configures, so that `caplog` hears it."""
    level, handlers, propagate = log.level, log.handlers[:], log.propagate
    yield
    log.handlers[:] = handlers
    log.propagate = propagate
    log.setLevel(level)
