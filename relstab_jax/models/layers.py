"""Flax layers that PyTorch defines or initialises differently from Flax."""

import math
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.linen.dtypes import promote_dtype
from jax import lax
from jaxtyping import Array, Float

from relstab_jax.errors import InputError
from relstab_jax.models.convolution import conv

MOMENTUM = 0.9  # of batch-norm's running statistics


def torch_uniform(fan_in: int) -> Callable[..., Array]:
    """Returns an initialiser with PyTorch's default distribution, U(-1/√fan_in, 1/√fan_in).

    It serves weights and biases alike. (`nn.initializers.variance_scaling(1/3, "fan_in",
    "uniform")` is the same distribution, but cannot know the fan-in of a bias.)
    """
    bound = 1 / math.sqrt(fan_in)

    def init(key: Array, shape: tuple[int, ...], dtype: jax.typing.DTypeLike = float) -> Array:
        # Drawn flat, which XLA compiles in a third of the time.
        flat = jax.random.uniform(key, (math.prod(shape),), dtype, minval=-bound, maxval=bound)
        return flat.reshape(shape)

    return init


class Conv(nn.Module):
    """PyTorch's `Conv2d` with square filters and its default initialisation.

    Variables: `kernel` [F, F, C_in, features] and, if `use_bias`, `bias` [features].

    Attributes:
        features: number of output channels.
        filter_size: F, pixels along each axis of the filters.
        stride: pixels from one output to the next.
        padding: pixels of zeros added on every side.
        use_bias: whether to add a bias.
        depthwise: whether output channel c sees input channel c alone; then C_in = 1.
    """

    features: int
    filter_size: int
    stride: int = 1
    padding: int = 0
    use_bias: bool = True
    depthwise: bool = False

    @nn.compact
    def __call__(self, x: Float[Array, "P H W C"]) -> Float[Array, "P H_out W_out K"]:
        """Returns the pre-activations."""
        F, seen = self.filter_size, 1 if self.depthwise else x.shape[-1]
        init = torch_uniform(F * F * seen)
        kernel = self.param("kernel", init, (F, F, seen, self.features))
        bias = self.param("bias", init, (self.features,)) if self.use_bias else None
        x, kernel, bias = promote_dtype(x, kernel, bias)
        x = conv(x, kernel, stride=self.stride, padding=self.padding, depthwise=self.depthwise)
        return x if bias is None else x + bias[None, None, None]


def dense(x: Float[Array, "P C"], features: int, name: str) -> Float[Array, "P K"]:
    """Applies PyTorch's `Linear` in its default initialisation, as a layer of the calling module.

    Variables: `kernel` [C, features] and `bias` [features].
    """
    init = torch_uniform(x.shape[-1])
    dtype = jnp.result_type(float)
    return nn.Dense(features, kernel_init=init, bias_init=init, param_dtype=dtype, name=name)(x)


class BatchNorm(nn.Module):
    """PyTorch's `BatchNorm2d`, with its momentum of 0.1 (here 0.9, of the old) and ε = 1e-5.

    It normalises by the biased variance of a batch but averages the unbiased one. (Flax averages
    the biased one, which is 1/8 smaller for two images on 2×2 maps.)

    Attributes:
        train: whether to normalise by the statistics of the batch and update the running ones,
            rather than normalise by the running ones.
        axis_name: the mapped axis, such as pmap's, over which the batch is sharded.
    """

    train: bool
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "P H W C"]) -> Float[Array, "P H W C"]:
        """Returns (x - mean) / √(variance + ε) · scale + bias, channel by channel.

        Raises:
            InputError: in training, for a single value per channel, which has no variance.
        """
        channels = x.shape[-1:]
        scale = self.param("scale", nn.initializers.ones, channels)
        bias = self.param("bias", nn.initializers.zeros, channels)
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, channels)
        running_var = self.variable("batch_stats", "var", jnp.ones, channels)
        mean, var = running_mean.value, running_var.value
        if self.train:
            devices = lax.axis_size(self.axis_name) if self.axis_name else 1
            n = devices * x.size // x.shape[-1]
            if n == 1:
                raise InputError(
                    "batch-norm cannot train on one value per channel: use more or larger images"
                )
            mean, var = self._moments(x, about=mean)
            running_mean.value = MOMENTUM * running_mean.value + (1 - MOMENTUM) * mean
            unbiased = var * (n / (n - 1))
            running_var.value = MOMENTUM * running_var.value + (1 - MOMENTUM) * unbiased
        scale = scale * lax.rsqrt(var + 1e-5)
        shift = bias - mean * scale
        return x * scale[None, None, None] + shift[None, None, None]

    def _moments(
        self, x: Float[Array, "P H W C"], about: Float[Array | np.ndarray, " C"]
    ) -> tuple[Float[Array, " C"], Float[Array, " C"]]:
        """Returns the mean and the variance of each channel over the batch, on all devices."""
        mean = x.mean(axis=(0, 1, 2))
        # The derivative of the variance with respect to the mean is zero.
        var = ((x - lax.stop_gradient(mean)[None, None, None]) ** 2).mean(axis=(0, 1, 2))
        if not self.axis_name:
            return mean, var
        # Means and squares are sent together, about the running mean, lest digits be lost.
        shift = mean - about
        shift, square = lax.pmean(jnp.stack([shift, var + shift**2]), self.axis_name)
        return about + shift, jnp.maximum(square - shift**2, 0)


class Dropout(nn.Module):
    """Zeroes values with probability `rate` in training, and divides the others by 1 - rate.

    What is dropped does not depend on how a batch is sharded over devices. (Flax draws the same
    numbers on every device of a mapped axis.)

    Attributes:
        rate: the probability.
        train: whether to drop anything.
        axis_name: the mapped axis, such as pmap's, over which the batch is sharded. Every device
            draws for the whole batch, from the same key, and takes the part of its own examples.
        whole_examples: whether to drop or keep all values of an example together.
    """

    rate: float
    train: bool
    axis_name: str | None = None
    whole_examples: bool = False

    @nn.compact
    def __call__(self, x: Float[Array, "P ..."]) -> Float[Array, "P ..."]:
        """Returns `x` with some of its values zeroed."""
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


def adaptive_average_pool(x: Float[Array, "P H W C"], size: int) -> Float[Array, "P size size C"]:
    """Averages over size² windows that cover the maps evenly: PyTorch's `adaptive_avg_pool2d`."""

    def windows(pixels: int) -> Array:
        start = np.arange(size)[:, None] * pixels // size
        stop = -(-np.arange(1, size + 1)[:, None] * pixels // size)  # rounded up
        inside = (start <= np.arange(pixels)) & (np.arange(pixels) < stop)
        return jnp.asarray(inside / inside.sum(axis=1, keepdims=True), x.dtype)

    return jnp.einsum("ih,jw,phwc->pijc", windows(x.shape[1]), windows(x.shape[2]), x)


def flatten(x: Float[Array, "P H W C"]) -> Float[Array, "P CHW"]:
    """Flattens maps in PyTorch's order, channel by channel, as its dense layers expect."""
    return x.transpose(0, 3, 1, 2).reshape(x.shape[0], -1)
