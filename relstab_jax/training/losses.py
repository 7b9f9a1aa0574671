"""Losses and errors, means over examples."""

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int


def hinge(outputs: Float[Array, " P"], labels: Int[Array, " P"]) -> Float[Array, ""]:
    """Returns mean ReLU(1 - y · output), for labels y = ±1."""
    return jnp.mean(jax.nn.relu(1 - labels.astype(outputs.dtype) * outputs))


def error(outputs: Float[Array, " P"], labels: Int[Array, " P"]) -> Float[Array, ""]:
    """Returns the fraction of outputs without the sign of their label ±1."""
    return jnp.mean(~(labels.astype(outputs.dtype) * outputs > 0), dtype=outputs.dtype)


def cross_entropy(outputs: Float[Array, "P classes"], labels: Int[Array, " P"]) -> Float[Array, ""]:
    """Returns the mean of -log softmax(outputs) at the label."""
    return optax.softmax_cross_entropy_with_integer_labels(outputs, labels).mean()


def classification_error(
    outputs: Float[Array, "P classes"], labels: Int[Array, " P"]
) -> Float[Array, ""]:
    """Returns the fraction of examples whose largest output is not that of their label."""
    return jnp.mean(outputs.argmax(axis=-1) != labels, dtype=outputs.dtype)


def ridge(kernels: list[Float[Array, "F _ H"]]) -> Float[Array, ""]:
    """Returns Σ_k ‖w_k‖² / (H · K), over the kernels of K layers of H channels (App. B.2)."""
    return sum((jnp.sum(w**2) / w.shape[-1] for w in kernels), jnp.zeros(())) / len(kernels)
