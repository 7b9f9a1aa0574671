"""Layers as PyTorch defines and initialises them, with convolutions that every device runs fast."""

import math
from collections.abc import Callable
from functools import partial, reduce

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.linen.dtypes import promote_dtype
from jax import lax
from jaxtyping import Array, Float

from relstab_jax.errors import InputError

# Elements that a convolution on a CPU has in memory at a time: 8 MB in float32, which stay in the
# cache between the cutting of what the filters see and the products.
_CHUNK_ELEMENTS = 2**21


def torch_uniform(fan_in: int) -> Callable[..., Array]:
    """Returns U(-1/√fan_in, 1/√fan_in): PyTorch's default for both weights and biases."""
    bound = 1 / math.sqrt(fan_in)

    def init(key: Array, shape: tuple[int, ...]) -> Array:
        # Drawn flat, which XLA compiles in a third of the time.
        flat = jax.random.uniform(key, (math.prod(shape),), minval=-bound, maxval=bound)
        return flat.reshape(shape)

    return init


def _pad(x: Array, padding: int, value: float = 0.0) -> Array:
    widths = (0, 0), (padding, padding), (padding, padding), (0, 0)
    return jnp.pad(x, widths, constant_values=value)


def _views(x: Array, axis: int, filter_size: int, stride: int) -> list[Array]:
    """Returns what each of the F pixels of a filter along `axis` sees of the images.

    They are slices, whose gradient is a sum. That of a gather would be a scatter, pixel by pixel.
    """
    stop = x.shape[axis] - filter_size + 1
    return [lax.slice_in_dim(x, f, f + stop, stride, axis) for f in range(filter_size)]


def _conv_on_cpu(x: Array, kernel: Array, stride: int, padding: int) -> Array:
    """A convolution as a matrix product for each column of the filters, a few images at a time.

    3×3 filters that move by one pixel make two outputs from four columns of the image in four
    products rather than six: Winograd's F(2, 3) (Lavin and Gray, CVPR 2016, Section 4). It rounds
    half again as much as the direct sum.
    """
    F, _, C, K = kernel.shape
    H, W = ((size + 2 * padding - F) // stride + 1 for size in x.shape[1:3])
    in_pairs = F == 3 and stride == 1 and W % 2 == 0
    if in_pairs:
        left, middle, right = (kernel[:, g] for g in range(3))
        ends = (left + right) / 2
        filters = [left, ends + middle / 2, ends - middle / 2, right]
    else:
        filters = [kernel[:, g] for g in range(F)]

    # The backward pass cuts the views again rather than keep copies of the images.
    @partial(jax.checkpoint, prevent_cse=False)
    def some_images(x: Array) -> Array:
        x = _pad(x, padding)
        if in_pairs:
            a, b, c, d = _views(x, 2, 4, 2)
            columns = [a - c, b + c, c - b, b - d]
        else:
            columns = _views(x, 2, F, stride)
        products = [
            jnp.concatenate(_views(column, 1, F, stride), axis=-1).reshape(-1, F * C)
            @ filter.reshape(-1, K)
            for column, filter in zip(columns, filters, strict=True)
        ]
        if in_pairs:
            p, q, r, s = products
            y = jnp.stack([p + q + r, q - r - s], axis=1)
        else:
            y = sum(products, start=jnp.zeros((), x.dtype))
        return y.reshape(-1, H, W, K)

    at_most = max(1, _CHUNK_ELEMENTS // (H * W * F * (F * C + K)))
    images = max(n for n in range(1, at_most + 1) if len(x) % n == 0)
    y = lax.map(some_images, x.reshape(-1, images, *x.shape[1:]))
    return y.reshape(-1, H, W, K)


def _depthwise_conv_on_cpu(x: Array, kernel: Array, stride: int, padding: int) -> Array:
    """A convolution of each channel with its own filter, as a sum over the filter's pixels."""
    F = len(kernel)
    return sum(
        (
            view * kernel[f, g][None, None]
            for f, row in enumerate(_views(_pad(x, padding), 1, F, stride))
            for g, view in enumerate(_views(row, 2, F, stride))
        ),
        start=jnp.zeros((), x.dtype),
    )


@partial(jax.jit, static_argnames=("stride", "padding", "depthwise"), inline=True)
def conv(
    x: Float[Array, "P H W C"],
    kernel: Float[Array, "F F C_in K"],
    *,
    stride: int = 1,
    padding: int = 0,
    depthwise: bool = False,
) -> Float[Array, "P H_out W_out K"]:
    """Convolves images with filters; PyTorch's `conv2d` in the order height, width, channel.

    Accelerators run XLA's convolution. On a CPU, XLA's is up to 80 times slower than patches times
    matrix, depending on the shapes: in the gradient with respect to the filters, on small maps,
    inside loops, in float64, and under `vmap` over filters, where it becomes a grouped convolution.
    So a CPU gets patches times matrix. The choice is made when the code is lowered for a device:
    the others see a conditional with XLA's convolution as its one branch, which XLA inlines.

    Args:
        x: images or feature maps.
        kernel: filters; C_in is C, or 1 if `depthwise`.
        stride: pixels from one output to the next.
        padding: pixels of zeros added on every side.
        depthwise: whether output channel c sees input channel c alone; then K = C.
    """

    def on_accelerator(x: Array, kernel: Array) -> Array:
        return lax.conv_general_dilated(
            x,
            kernel,
            window_strides=(stride, stride),
            padding=[(padding, padding)] * 2,
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            feature_group_count=x.shape[-1] if depthwise else 1,
        )

    on_cpu = _depthwise_conv_on_cpu if depthwise else _conv_on_cpu
    return lax.platform_dependent(
        x, kernel, cpu=partial(on_cpu, stride=stride, padding=padding), default=on_accelerator
    )


class Conv(nn.Module):
    """PyTorch's `Conv2d` with square filters, in its default initialisation.

    Variables: `kernel` [F, F, C_in, features] and, unless told otherwise, `bias` [features].
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


class Dense(nn.Module):
    """PyTorch's `Linear`, in its default initialisation: `kernel` [C, features] and `bias`."""

    features: int

    @nn.compact
    def __call__(self, x: Float[Array, "P C"]) -> Float[Array, "P K"]:
        """Returns the pre-activations."""
        init = torch_uniform(x.shape[-1])
        kernel = self.param("kernel", init, (x.shape[-1], self.features))
        return x @ kernel + self.param("bias", init, (self.features,))[None]


class BatchNorm(nn.Module):
    """PyTorch's `BatchNorm2d`, which normalises by the biased variance and remembers the unbiased.

    (Flax's remembers the biased one: 1 + 1/7 too small for two images on 2×2 maps.)

    Attributes:
        train: whether to normalise by the statistics of the batch, and update the running ones,
            rather than by the running ones.
        axis_name: the mapped axis, such as pmap's, over which the batch is spread.
    """

    train: bool
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "P H W C"]) -> Float[Array, "P H W C"]:
        """Returns (x - mean) / √(variance + 1e-5) · scale + bias, channel by channel."""
        channels = x.shape[-1:]
        scale = self.param("scale", nn.initializers.ones, channels)
        bias = self.param("bias", nn.initializers.zeros, channels)
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, channels)
        running_var = self.variable("batch_stats", "var", jnp.ones, channels)
        mean, var = running_mean.value, running_var.value
        if self.train:
            n = x.size // x.shape[-1] * (lax.axis_size(self.axis_name) if self.axis_name else 1)
            if n == 1:
                raise InputError("batch-norm cannot train on one value a channel: use more images")
            mean = self._mean(x)
            # The variance is least about the mean: no gradient flows that way.
            var = self._mean((x - lax.stop_gradient(mean)[None, None, None]) ** 2)
            running_mean.value = 0.9 * running_mean.value + 0.1 * mean
            running_var.value = 0.9 * running_var.value + 0.1 * var * (n / (n - 1))
        scale = scale * lax.rsqrt(var + 1e-5)
        shift = bias - mean * scale
        return x * scale[None, None, None] + shift[None, None, None]

    def _mean(self, x: Float[Array, "P H W C"]) -> Float[Array, " C"]:
        mean = x.mean(axis=(0, 1, 2))
        return lax.pmean(mean, self.axis_name) if self.axis_name else mean


def keep(module: nn.Module, name: str, x: Array) -> None:
    """Shows `x` to `Model.features`, after what `module` has shown before."""
    module.sow("intermediates", name, x, reduce_fn=lambda _, x: x, init_fn=lambda: x)


def activate(
    module: nn.Module, layer: str, x: Array, function: Callable[[Array], Array] = nn.relu
) -> Array:
    """Returns the representation of `layer` of `module`, and shows it to `Model.features`."""
    keep(module, f"{layer}:pre", x)
    x = function(x)
    keep(module, f"{layer}:f", x)
    return x


def max_pool(
    module: nn.Module,
    layer: str,
    x: Float[Array, "P H W C"],
    size: int,
    stride: int,
    padding: int = 0,
) -> Float[Array, "P H_out W_out C"]:
    """Returns the maxima over windows of `size`², and shows them to `Model.features`."""
    # On a CPU, the gradient of XLA's own windows takes three to four times as long.
    x = _pad(x, padding, -jnp.inf)
    for axis in (1, 2):
        x = reduce(jnp.maximum, _views(x, axis, size, stride))
    keep(module, f"{layer}:pool", x)
    return x


def mean_pool(module: nn.Module, layer: str, x: Float[Array, "P H W C"]) -> Float[Array, "P C"]:
    """Returns the means over space, and shows them to `Model.features`."""
    x = x.mean(axis=(1, 2))
    keep(module, f"{layer}:pool", x)
    return x


def output(module: nn.Module, layer: str, x: Float[Array, "P C"], num_classes: int) -> Array:
    """Returns the outputs of a network: a dense layer without activation, or `x` for 0 classes."""
    if num_classes == 0:
        return x
    x = Dense(num_classes, name=layer)(x)
    keep(module, f"{layer}:pre", x)
    return x


def adaptive_average_pool(x: Float[Array, "P H W C"], size: int) -> Float[Array, "P size size C"]:
    """Averages over size² windows that cover the maps evenly: PyTorch's `adaptive_avg_pool2d`."""

    def windows(pixels: int) -> Array:
        start = np.arange(size)[:, None] * pixels // size
        stop = -(-np.arange(1, size + 1)[:, None] * pixels // size)
        inside = (start <= np.arange(pixels)) & (np.arange(pixels) < stop)
        return jnp.asarray(inside / inside.sum(axis=1, keepdims=True), x.dtype)

    return jnp.einsum("ih,jw,phwc->pijc", windows(x.shape[1]), windows(x.shape[2]), x)


def flatten(x: Float[Array, "P H W C"]) -> Float[Array, "P CHW"]:
    """Flattens the maps in PyTorch's order, channel by channel, as its dense layers expect."""
    return x.transpose(0, 3, 1, 2).reshape(x.shape[0], -1)
