"""Losses and errors of each example."""

import jax
from jaxtyping import Array, Float, Int


def margins(outputs: Float[Array, " P"], labels: Int[Array, " P"]) -> Float[Array, " P"]:
    """Returns y · output for labels y = ±1."""
    return labels.astype(outputs.dtype) * outputs


def hinge(outputs: Float[Array, " P"], labels: Int[Array, " P"]) -> Float[Array, " P"]:
    """Returns ReLU(1 - y · output) for labels y = ±1."""
    return jax.nn.relu(1 - margins(outputs, labels))


def error(outputs: Float[Array, " P"], labels: Int[Array, " P"]) -> Float[Array, " P"]:
    """Returns 1 for outputs without the sign of their label ±1, which a zero lacks, else 0."""
    return (~(margins(outputs, labels) > 0)).astype(outputs.dtype)


def classification_error(
    outputs: Float[Array, "P classes"], labels: Int[Array, " P"]
) -> Float[Array, " P"]:
    """Returns 1 for examples whose largest output is not at their label, else 0."""
    return (outputs.argmax(axis=-1) != labels).astype(outputs.dtype)
