import pathlib

import jax
import numpy as np
import pytest

jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture(scope="session")
def golden() -> dict[str, np.ndarray]:
    """Numbers of the authors' PyTorch programs, in float64."""
    return dict(np.load(pathlib.Path(__file__).parent / "golden" / "kernels.npz"))


@pytest.fixture
def float64():
    with jax.enable_x64(True):
        yield
