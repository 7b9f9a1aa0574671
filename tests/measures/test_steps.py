"""The two forms of each distance, of which a device takes one, against NumPy."""

import jax.numpy as jnp
import numpy as np
import pytest

from relstab_jax.measures import steps

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(100, 1, (5, 3, 4, 2)).astype(np.float32)


@pytest.mark.parametrize("changes", [steps.changes_at_once, steps.changes_in_turn])
def test_changes(changes):
    copies = RANDOM.normal(100, 1, (10, 3, 4, 2)).astype(np.float32)
    expected = ((copies.reshape(2, 5, -1).astype(float) - X.reshape(5, -1)) ** 2).sum(-1)
    np.testing.assert_allclose(changes(jnp.asarray(X), jnp.asarray(copies)), expected, rtol=1e-6)


@pytest.mark.parametrize("offset", [steps.offset_one_by_one, steps.offset_as_product])
def test_offset(offset):
    c = np.full(X.shape[1:], 100, np.float32)
    counts = np.array([1, 1, 1, 0, 1], np.float32)
    expected = np.einsum("b,bijk->ijk", counts, X.astype(float) - c)
    np.testing.assert_allclose(
        offset(*map(jnp.asarray, (c, X, counts))), expected, rtol=1e-5, atol=1e-5
    )
