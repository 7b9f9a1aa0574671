"""Optimizers of deep networks, as PyTorch defines them."""

import jax
import jax.numpy as jnp
import optax
from jaxtyping import PyTree


def cosine_annealing(learning_rate: float, epochs: float, steps_per_epoch: int) -> optax.Schedule:
    """Returns learning_rate · (1 + cos(π epoch / epochs)) / 2, constant within an epoch.

    It reaches zero at `epochs` and then rises again, as PyTorch's CosineAnnealingLR does.
    """

    def schedule(step: jax.typing.ArrayLike) -> jax.Array:
        epoch = (jnp.asarray(step) // steps_per_epoch).astype(jnp.result_type(float))
        return learning_rate * (1 + jnp.cos(jnp.pi * epoch / epochs)) / 2

    return schedule


def adam(learning_rate: optax.ScalarOrSchedule) -> optax.GradientTransformation:
    """Returns `optax.adam` for use under strict dtype promotion, which its step counter breaks."""
    plain = optax.adam(learning_rate)

    def update(
        updates: optax.Updates, state: optax.OptState, params: optax.Params | None = None
    ) -> tuple[optax.Updates, optax.OptState]:
        with jax.numpy_dtype_promotion("standard"):
            return plain.update(updates, state, params)

    return optax.GradientTransformation(plain.init, update)


def sgd(
    learning_rate: optax.ScalarOrSchedule, *, momentum: float, weight_decay: float
) -> optax.GradientTransformation:
    """Returns stochastic gradient descent with momentum and weight decay (App. B.1).

    v ← momentum · v + g + weight_decay · w and w ← w - learning_rate · v. Only parameters of at
    least two dimensions decay: not biases, nor the scales of batch-norm.
    """

    def decayed(params: PyTree) -> PyTree:
        return jax.tree.map(lambda w: w.ndim >= 2, params)

    return optax.chain(
        optax.add_decayed_weights(weight_decay, mask=decayed),
        optax.sgd(learning_rate, momentum=momentum),
    )
