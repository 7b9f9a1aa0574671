import jax.numpy as jnp
import numpy as np

from relstab_jax.training import losses

OUTPUTS, LABELS = jnp.array([2.0, 0.25, -3.0, 0.0]), jnp.array([1, 1, 1, -1])


def test_hinge():
    assert losses.hinge(OUTPUTS, LABELS) == (0 + 0.75 + 4 + 1) / 4


def test_error_counts_a_zero_output_as_wrong():
    assert losses.error(OUTPUTS, LABELS) == 2 / 4


def test_cross_entropy_and_error_of_classes():
    outputs = np.array([[1.0, 3.0, 0.0], [2.0, -1.0, 2.5]])
    probabilities = np.exp(outputs) / np.exp(outputs).sum(1, keepdims=True)
    expected = -np.log(probabilities[[0, 1], [1, 0]]).mean()
    labels = jnp.array([1, 0])
    np.testing.assert_allclose(
        losses.cross_entropy(jnp.array(outputs), labels), expected, rtol=1e-6
    )
    assert losses.classification_error(jnp.array(outputs), labels) == 0.5
