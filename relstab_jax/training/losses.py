"""Losses and errors, averaged over examples."""

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int


def hinge(outputs: Float[Array, " P"], labels: Int[Array, " P"]) -> Float[Array, ""]:
    """Returns the mean of ReLU(1 - y · output) over labels y = ±1."""
    return jnp.mean(jax.nn.relu(1 - labels.astype(outputs.dtype) * outputs))


def error(outputs: Float[Array, " P"], labels: Int[Array, " P"]) -> Float[Array, ""]:
    """Returns the fraction of outputs without the sign of their label ±1; a zero has neither."""
    return jnp.mean(~(labels.astype(outputs.dtype) * outputs > 0), dtype=outputs.dtype)


def cross_entropy(outputs: Float[Array, "P classes"], labels: Int[Array, " P"]) -> Float[Array, ""]:
    """Returns the mean of -log softmax(outputs) at the label."""
    return optax.softmax_cross_entropy_with_integer_labels(outputs, labels).mean()


def classification_error(
    outputs: Float[Array, "P classes"], labels: Int[Array, " P"]
) -> Float[Array, ""]:
    """Returns the fraction of examples whose largest output is not at their label."""
    return jnp.mean(outputs.argmax(axis=-1) != labels, dtype=outputs.dtype)
