import jax.numpy as jnp

from relstab_jax.training import losses

OUTPUTS, LABELS = jnp.array([2.0, 0.25, -3.0, 0.0]), jnp.array([1, 1, 1, -1])


def test_hinge():
    assert losses.hinge(OUTPUTS, LABELS).tolist() == [0, 0.75, 4, 1]


def test_error_counts_a_zero_output_as_wrong():
    assert losses.error(OUTPUTS, LABELS).tolist() == [0, 0, 1, 1]


def test_error_of_classes():
    outputs = jnp.array([[1.0, 3.0, 0.0], [2.0, -1.0, 2.5]])
    assert losses.classification_error(outputs, jnp.array([1, 0])).tolist() == [0, 1]
