"""Two-dimensional convolution: XLA's on accelerators, matrix products on CPUs.

On a CPU, XLA's convolution is up to 80 times slower than matrix products, depending on the shapes:
in the gradient with respect to the filters, on small maps, inside loops, in float64, and under
`vmap` over filters, where it becomes a grouped convolution.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

# Elements that a convolution on a CPU holds in memory at a time: 16 MB in float32, which stay in
# the cache between slicing the images and multiplying by the filters.
_CHUNK_ELEMENTS = 2**22


@partial(jax.jit, static_argnames=("stride", "padding", "depthwise"), inline=True)
def conv(
    x: Float[Array, "P H W C"],
    kernel: Float[Array, "F F C_in K"],
    *,
    stride: int = 1,
    padding: int = 0,
    depthwise: bool = False,
) -> Float[Array, "P H_out W_out K"]:
    """Convolves images with filters, like PyTorch's `conv2d` but with channels last.

    Which implementation runs is decided when the code is lowered for a device. The lowered code for
    an accelerator is a conditional with XLA's convolution as its only branch, which XLA inlines.

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


def pad(x: Float[Array, "P H W C"], padding: int, value: float = 0.0) -> Float[Array, "P H2 W2 C"]:
    """Pads images by `padding` pixels of `value` on every side."""
    widths = (0, 0), (padding, padding), (padding, padding), (0, 0)
    return jnp.pad(x, widths, constant_values=value)


def taps(
    x: Float[Array, "P H W C"], axis: int, size: int, stride: int
) -> list[Float[Array, "P H2 W2 C"]]:
    """Returns what each of the `size` taps of a moving window sees along `axis`.

    Element f is the slice f, f + stride, f + 2 stride, ... of the images. The gradient of slices is
    a sum, whereas that of a gather would be a scatter, pixel by pixel.
    """
    stop = x.shape[axis] - size + 1
    return [lax.slice_in_dim(x, f, f + stop, stride, axis) for f in range(size)]


def _conv_on_cpu(x: Array, kernel: Array, stride: int, padding: int) -> Array:
    """Convolves as matrix products, a few images at a time."""
    F, _, C, K = kernel.shape
    H, W = ((size + 2 * padding - F) // stride + 1 for size in x.shape[1:3])
    if F == 3 and stride == 1 and C >= 32:  # with fewer, sums before and after take longer
        convolve, held = _winograd, 4 * H * W * (C + K)
    else:
        convolve, held = partial(_by_columns, stride=stride), H * W * F * (F * C + K)

    # The backward pass slices the images again rather than keep copies of them.
    @partial(jax.checkpoint, prevent_cse=False)
    def convolve_some(x: Array) -> Array:
        return convolve(pad(x, padding), kernel)

    at_most = max(1, _CHUNK_ELEMENTS // held)
    images = max(n for n in range(1, at_most + 1) if len(x) % n == 0)
    y = lax.map(convolve_some, x.reshape(-1, images, *x.shape[1:]))
    return y.reshape(-1, H, W, K)


def _by_columns(x: Array, kernel: Array, stride: int) -> Array:
    """Convolves, without padding, as a matrix product for each column of the filters."""
    F, _, C, K = kernel.shape
    y = jnp.zeros((), x.dtype)
    for g, column in enumerate(taps(x, axis=2, size=F, stride=stride)):
        patches = jnp.concatenate(taps(column, 1, F, stride), axis=-1)
        y = y + patches.reshape(-1, F * C) @ kernel[:, g].reshape(F * C, K)
    return y


def _winograd(x: Array, kernel: Array) -> Array:
    """Convolves with 3×3 filters, without padding, as a matrix product for each of 16 numbers.

    These make 2×2 outputs out of 4×4 pixels, where the sum over the filter's pixels takes 36:
    Winograd's F(2×2, 3×3) (Lavin and Gray, CVPR 2016, Section 4). Its rounding error is up to
    half again that of the sum.
    """
    P, H, W, C = x.shape
    K = kernel.shape[-1]
    H, W = H - 2, W - 2
    x = jnp.pad(x, ((0, 0), (0, H % 2), (0, W % 2), (0, 0)))  # whole 4×4 tiles
    tiles = [tile.reshape(-1, C) for rows in _of_inputs(x, 1) for tile in _of_inputs(rows, 2)]
    filters = [filter for rows in _of_filters(kernel) for filter in _of_filters(rows)]
    products = [tile @ filter for tile, filter in zip(tiles, filters, strict=True)]
    columns = [_outputs(*products[i : i + 4]) for i in range(0, 16, 4)]
    left, right = (_outputs(*column) for column in zip(*columns, strict=True))
    y = jnp.stack([jnp.stack(pair, axis=1) for pair in zip(left, right, strict=True)])
    y = y.reshape(2, P, (H + 1) // 2, (W + 1) // 2, 2, K).transpose(1, 2, 0, 3, 4, 5)
    return y.reshape(P, H + H % 2, W + W % 2, K)[:, :H, :W]


def _of_inputs(x: Array, axis: int) -> list[Array]:
    """Returns what is multiplied by `_of_filters`, from the four pixels of a tile along `axis`."""
    a, b, c, d = taps(x, axis, size=4, stride=2)
    return [a - c, b + c, c - b, b - d]


def _of_filters(kernel: Array) -> list[Array]:
    """Returns what is multiplied by `_of_inputs`, from the three pixels along the first axis."""
    left, middle, right = kernel
    ends = (left + right) / 2
    return [left, ends + middle / 2, ends - middle / 2, right]


def _outputs(p: Array, q: Array, r: Array, s: Array) -> tuple[Array, Array]:
    """Returns the two outputs of a tile along one axis from the four products."""
    return p + q + r, q - r - s


def _depthwise_conv_on_cpu(x: Array, kernel: Array, stride: int, padding: int) -> Array:
    """Convolves each channel with its own filter, as a sum over the filter's pixels."""
    F = len(kernel)
    y = jnp.zeros((), x.dtype)
    for f, row in enumerate(taps(pad(x, padding), 1, F, stride)):
        for g, pixel in enumerate(taps(row, 2, F, stride)):
            y = y + pixel * kernel[f, g][None, None]
    return y
