"""Dropout that does not depend on how a batch is spread over devices."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float


class Dropout(nn.Module):
    """Zeroes each value with probability `rate` in training, and divides the others by 1 - rate.

    (Flax's draws the same numbers on every device of a mapped axis.)

    Attributes:
        rate: the probability.
        train: whether to drop anything.
        axis_name: the mapped axis, such as pmap's, over which the batch is spread. Every device
            draws for the whole batch, from the same key, and takes the part of its own examples.
        whole_examples: whether all values of an example are dropped or kept together.
    """

    rate: float
    train: bool
    axis_name: str | None = None
    whole_examples: bool = False

    @nn.compact
    def __call__(self, x: Float[Array, "P ..."]) -> Float[Array, "P ..."]:
        """Returns `x` with some of its values zero."""
        if not self.train or self.rate == 0:
            return x
        P = len(x)
        devices = lax.axis_size(self.axis_name) if self.axis_name else 1
        of_an_example = (1,) * (x.ndim - 1) if self.whole_examples else x.shape[1:]
        key = self.make_rng("dropout")
        kept = jax.random.bernoulli(key, 1 - self.rate, (devices * P, *of_an_example))
        if self.axis_name:
            kept = lax.dynamic_slice_in_dim(kept, lax.axis_index(self.axis_name) * P, P)
        return jnp.where(kept, x / (1 - self.rate), 0)
