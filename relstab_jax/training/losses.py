"""Losses and errors of the binary tasks."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int


def hinge(outputs: Float[Array, " P"], labels: Int[Array, " P"]) -> Float[Array, ""]:
    """Returns mean ReLU(1 - y · output), for labels y = ±1."""
    return jnp.mean(jax.nn.relu(1 - labels.astype(outputs.dtype) * outputs))


def error(outputs: Float[Array, " P"], labels: Int[Array, " P"]) -> Float[Array, ""]:
    """Returns the fraction of outputs without the sign of their label ±1."""
    return jnp.mean(~(labels * outputs > 0), dtype=outputs.dtype)


def ridge(kernels: list[Float[Array, "F _ H"]]) -> Float[Array, ""]:
    """Returns Σ_k ‖w_k‖² / (H · K), over the kernels of K layers of H channels (App. B.2)."""
    return sum((jnp.sum(w**2) / w.shape[-1] for w in kernels), jnp.zeros(())) / len(kernels)
