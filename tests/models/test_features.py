import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from relstab_jax.models import features


@pytest.mark.parametrize(("size", "stride", "padding"), [(2, 2, 0), (3, 2, 0), (3, 2, 1)])
def test_max_pool(size, stride, padding, float64):
    """Values and gradients are those of XLA's own windows."""

    class Pool(nn.Module):
        @nn.compact
        def __call__(self, x):
            return features.max_pool(self, "pool", x, size, stride, padding)

    def plain(x):
        pads = (0, 0), (padding, padding), (padding, padding), (0, 0)
        windows, strides = (1, size, size, 1), (1, stride, stride, 1)
        return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, windows, strides, pads)

    x = jnp.asarray(np.random.default_rng(0).standard_normal((2, 9, 8, 3)))
    found, expected = (
        jax.jit(jax.value_and_grad(lambda x, f=f: (f(x) ** 3).sum()))(x)
        for f in (lambda x: Pool().apply({}, x), plain)
    )
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-12)
    np.testing.assert_allclose(found[1], expected[1], rtol=1e-12)


def test_overlapping_max_pool_ignores_its_padding():
    x = -1 - jnp.arange(25.0).reshape(1, 5, 5, 1)
    module = nn.Dense(1)  # any: outside `Model.features`, nothing is recorded
    pooled = module.apply({}, x, method=lambda m, x: features.max_pool(m, "pool", x, 3, 2, 1))
    np.testing.assert_array_equal(pooled[0, :, :, 0], [[-1, -2, -4], [-6, -7, -9], [-16, -17, -19]])
