"""The one-dimensional CNN of Section 4, in the NTK parametrisation.

Its inputs are almost empty, so most patches are equal. Two variants compute the same outputs in
fewer operations:

- `build(..., active_pixels=A)` is for batches. If patches do not overlap, each layer computes one
  patch for the background and A for each image.
- `outputs` is for images that are known beforehand, and for every stride. `patches.distinct` finds
  the patches that differ, over all images and positions, and each is computed once.
"""

import math
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import cast

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from relstab_jax.errors import InputError
from relstab_jax.models import pytorch
from relstab_jax.models.model import Features, Model, Variables, in_order
from relstab_jax.models.patches import (
    DistinctPatches,
    DistinctRows,
    distinct_patches,
    distinct_pixels,
    patches,
)

NAMES = ("SimpleCNN",)


def _activation(z: Float[Array, "*N H"], filter_size: int) -> Float[Array, "*N H"]:
    return math.sqrt(filter_size) * nn.relu(z)


class Conv(nn.Module):
    """√F · ReLU(decay · patches · w / √(F · C_in) + b), with w, b ~ N(0, 1) at initialisation.

    Attributes:
        width: H, output channels.
        filter_size: F.
    """

    width: int
    filter_size: int

    @nn.compact
    def __call__(
        self, seen: Float[Array, "*N FC"], decay: Float[Array, ""] | float
    ) -> Float[Array, "*N H"]:
        """Returns the representation after the activation."""
        F, H, FC = self.filter_size, self.width, seen.shape[-1]
        normal = nn.initializers.normal(1.0, seen.dtype)
        w = self.param("kernel", normal, (F, FC // F, H)).reshape(FC, H)
        b = self.param("bias", normal, (H,))
        z = decay * (seen.reshape(-1, FC) @ w) / math.sqrt(FC) + b[None]
        return _activation(z, F).reshape(*seen.shape[:-1], H)


class MeanReadout(nn.Module):
    """alpha · (mean over space · β / H + c), with β, c ~ N(0, 1) at initialisation.

    Attributes:
        num_classes: number of outputs.
        alpha: factor on the outputs.
    """

    num_classes: int
    alpha: float

    @nn.compact
    def __call__(self, x: Float[Array, "P L H"]) -> Float[Array, "P classes"]:
        """Returns the outputs."""
        normal = nn.initializers.normal(1.0, x.dtype)
        beta = self.param("kernel", normal, (x.shape[-1], self.num_classes))
        c = self.param("bias", normal, (self.num_classes,))
        return self.alpha * (x.mean(axis=1) @ beta / x.shape[-1] + c[None])


class SimpleCNN(nn.Module):
    """Circular convolutions f_1, …, f_K, one for each stride, and a linear readout; see `build`.

    Without outputs (num_classes=0) it returns the means over space, which the readout would see.
    """

    width: int
    filter_size: int
    strides: tuple[int, ...]
    num_classes: int
    alpha: float
    active_pixels: int | None

    @nn.compact
    def __call__(
        self, x: Float[Array, "P L C"], decay: Float[Array, ""] | float = 1.0
    ) -> tuple[Float[Array, "P classes"], Features]:
        """Returns the outputs and {"conv1": f_1 [P, L_1, H], …}, for filters times `decay`."""
        features = OrderedDict()
        rows = distinct_pixels(x, self.active_pixels) if self.active_pixels else None
        for k, stride in enumerate(self.strides, start=1):
            conv = Conv(self.width, self.filter_size, name=f"conv{k}")
            if rows is None:
                x = conv(patches(x, self.filter_size, stride), decay)
            else:
                seen = distinct_patches(rows, self.filter_size)
                rows = DistinctRows(conv(seen.values, decay), seen.row)
                x = rows.images()
            features[f"conv{k}"] = x
        if self.num_classes == 0:
            return x.mean(axis=1), features
        return MeanReadout(self.num_classes, self.alpha, name="readout")(x), features


def outputs(
    variables: Variables, images: DistinctPatches, decay: Float[Array, " T"], alpha: float = 1.0
) -> Float[Array, "T P classes"]:
    """Returns the outputs of T networks, whose filters are `decay` times those of `variables`.

    Each layer multiplies every distinct pixel (or patch of the layer before) by every tap of the
    filters, and then adds up the products in each patch. That takes fewer operations than to
    multiply patches, of which there are more.
    """
    params = variables["params"]
    T = len(decay)
    f = jnp.broadcast_to(images.pixels, (T, *images.pixels.shape))
    for k, rows in enumerate(images.rows, start=1):
        w, b = params[f"conv{k}"]["kernel"], params[f"conv{k}"]["bias"]
        F, C, H = w.shape
        products = [(f.reshape(-1, C) @ w[tap]).reshape(T, -1, H) for tap in range(F)]
        z = sum(product[:, rows[:, tap]] for tap, product in enumerate(products))
        f = _activation(decay[:, None, None] * z / math.sqrt(F * C) + b[None, None], F)
    beta, c = params["readout"]["kernel"], params["readout"]["bias"]
    of_rows = f @ beta / len(beta)
    return alpha * (of_rows[:, images.positions].mean(axis=2) + c[None, None])


def kernels(variables: Variables) -> list[Float[Array, "F _ H"]]:
    """Returns the unscaled filters w_1, …, w_K, on which the ridge acts, first layer first."""
    params = variables["params"]
    return [params[layer]["kernel"] for layer in in_order(params) if layer != "readout"]


def with_kernels_times(variables: Variables, factor: Float[Array, ""]) -> Variables:
    """Multiplies every filter by `factor`."""
    return jax.tree_util.tree_map_with_path(
        lambda path, x: x * factor if "conv" in path[1].key and path[2].key == "kernel" else x,
        variables,
    )


def layer_strides(
    *, size: int, filter_size: int, stride: int, depth: int, strided_layers: int | None = None
) -> tuple[int, ...]:
    """Returns the stride of each layer of a network; arguments as of `build`, `size` is L.

    Raises:
        InputError: for another stride, a filter larger than the input, strides that do not divide
            the input, or no layer.
    """
    if depth < 1:
        raise InputError(f"depth={depth} must be at least 1")
    if not 1 <= filter_size <= size:
        raise InputError(f"filter_size={filter_size} must lie between 1 and size={size}")
    if stride not in (1, filter_size):
        raise InputError(f"stride={stride} must be 1 or filter_size={filter_size}")
    strided = depth if strided_layers is None else strided_layers
    if not 0 <= strided <= depth:
        raise InputError(f"strided_layers={strided} must lie between 0 and depth={depth}")
    if size % stride**strided:
        possible = max(k for k in range(strided) if size % stride**k == 0)
        raise InputError(
            f"{strided} layers of stride {stride} need a size divisible by {stride**strided}: "
            f"size={size} allows at most {possible}"
        )
    return (stride,) * strided + (1,) * (depth - strided)


def build(
    name: str,
    *,
    num_classes: int,
    image_size: int,
    channels: int,
    width: int,
    depth: int,
    filter_size: int,
    stride: int,
    strided_layers: int | None = None,
    alpha: float = 1.0,
    active_pixels: int | None = None,
) -> Model:
    """Makes the CNN of Section 4 for inputs [P, image_size, channels].

    The Model's `apply` takes the option `decay`, a factor on every filter.

    Args:
        name: "SimpleCNN".
        num_classes: number of outputs; 1 in the paper; 0 for a network without its readout.
        image_size: L, pixels of the input.
        channels: channels of the input; 1 in the paper.
        width: H, channels of every layer.
        depth: K, number of convolution layers.
        filter_size: F.
        stride: 1 or F.
        strided_layers: the first so many layers have stride `stride`, the others 1. None for all,
            as in Section 4.2; the authors' published program computes 1.
        alpha: factor on the outputs.
        active_pixels: an upper bound on the nonzero pixels of an image. It saves time if every
            layer has stride F; outputs are NaN if an image has more.

    Raises:
        InputError: for another stride, a filter larger than the input, strides that do not divide
            the input, or sizes below 1.
    """
    if width < 1:
        raise InputError(f"width={width} must be at least 1")
    strides = layer_strides(
        size=image_size,
        filter_size=filter_size,
        stride=stride,
        depth=depth,
        strided_layers=strided_layers,
    )
    if set(strides) != {filter_size}:
        active_pixels = None  # patches overlap
    net = SimpleCNN(width, filter_size, strides, num_classes, alpha, active_pixels)
    forward = cast(Callable[..., tuple[Array, Features]], net.apply)
    return Model(
        init=lambda key: net.init(key, jnp.zeros((1, image_size, channels))),
        apply=lambda variables, images, decay=1.0: forward(variables, images, decay)[0],
        features=lambda variables, images: forward(variables, images)[1],
        train=lambda variables, images, key, axis_name=None: (
            forward(variables, images)[0],
            variables,
        ),
    )


def from_torch(name: str, state_dict: Mapping[str, np.ndarray]) -> Variables:
    """Turns the state dict of the authors' program into variables.

    It has `conv.{k}.w` [H, C_in, F], `conv.{k}.b` [H], `beta` [H, classes] and `biasFinal`
    [classes]. Without the last two, the network has no readout.

    Raises:
        InputError: for a missing, surplus or mis-shaped tensor, or one that has other than finite
            floating-point numbers.
    """
    shapes = pytorch.shapes_of_tensors(state_dict)
    depth = max(sum(tensor.endswith(".w") for tensor in shapes), 1)
    H, C, F = (
        pytorch.dimension(shapes, "conv.0.w", axis, default=default)
        for axis, default in enumerate((1000, 1, 3))
    )
    expected: dict[str, tuple[int, ...]] = {}
    for k in range(depth):
        expected |= {f"conv.{k}.w": (H, C if k == 0 else H, F), f"conv.{k}.b": (H,)}
    if "beta" in shapes or "biasFinal" in shapes:
        classes = pytorch.dimension(shapes, "biasFinal", 0, default=1)
        expected |= {"beta": (H, classes), "biasFinal": (classes,)}
    if wrong := pytorch.differences(expected, shapes):
        raise InputError(f"not the weights of a {name}: {wrong}")
    tensors = {tensor: pytorch.as_float(tensor, state_dict[tensor]) for tensor in expected}
    params = {
        f"conv{k + 1}": {
            "kernel": tensors[f"conv.{k}.w"].transpose(2, 1, 0),
            "bias": tensors[f"conv.{k}.b"],
        }
        for k in range(depth)
    }
    if "beta" in tensors:
        params["readout"] = {"kernel": tensors["beta"], "bias": tensors["biasFinal"]}
    return jax.tree.map(jnp.asarray, {"params": params})
