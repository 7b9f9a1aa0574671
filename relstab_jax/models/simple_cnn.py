"""The one-dimensional CNN of Section 4, in the NTK parametrisation.

Its inputs are almost empty. Where patches do not overlap, all patches without an active pixel look
the same, in every layer. `build(..., active_pixels=A)` therefore computes one patch of each layer
for the background and A for each image, instead of all: the same function, in fewer operations.
"""

import math
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import NamedTuple, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Shaped

from relstab_jax.errors import InputError, some
from relstab_jax.models.model import Features, Model, Variables

NAMES = ("SimpleCNN",)


def patches(
    x: Shaped[Array, "P L C"], filter_size: int, stride: int
) -> Shaped[Array, "P L_out FC"]:
    """Returns the patches of a circular convolution, flattened to (tap, channel).

    `stride` is 1, or the filter size, which then divides L. The patch of output pixel o begins
    (F - 1) // 2 pixels left of pixel o * stride, for odd and even F alike.

    Patches and one matrix product make the convolution: under `vmap` over seeds that stays a
    batched matrix product, which every device runs fast, inside loops too.
    """
    left = (filter_size - 1) // 2
    if stride == 1:
        return jnp.concatenate([jnp.roll(x, left - f, axis=1) for f in range(filter_size)], axis=-1)
    P, L, C = x.shape
    return jnp.roll(x, left, axis=1).reshape(P, L // filter_size, filter_size * C)


class DistinctRows(NamedTuple):
    """Images [P, L, C] with few different pixels: pixel l of image p is values[row[p, l]].

    Row 0 is the background. Image p owns rows p·A + 1 .. p·A + A; it need not use all of them.
    """

    values: Float[Array, "N C"]
    row: Int[Array, "P L"]

    @property
    def active(self) -> int:
        """A, how many rows each image owns."""
        return (len(self.values) - 1) // len(self.row)

    def images(self) -> Float[Array, "P L C"]:
        """Returns the images in full."""
        return self.values[self.row]


def first_of_each_row(
    x: Shaped[Array, "P L C"], row: Int[Array, "P L"], active: int
) -> Shaped[Array, "N C"]:
    """Returns the first pixel of each row in use, zeros for the background."""
    P, _, C = x.shape
    owned = 1 + jnp.arange(P * active).reshape(P, active, 1)
    where = (row[:, None, :] == owned).argmax(axis=-1)
    pixels = jnp.take_along_axis(x, where[..., None], axis=1)
    return jnp.concatenate([jnp.zeros((1, C), x.dtype), pixels.reshape(P * active, C)])


def distinct_pixels(x: Float[Array, "P L C"], active: int) -> DistinctRows:
    """Finds the `active` pixels of each image that are not zero; with more of them, all is NaN."""
    nonzero = (x != 0).any(axis=-1)
    nth = nonzero.cumsum(axis=1)
    row = jnp.where(nonzero, nth + active * jnp.arange(len(x))[:, None], 0)
    values = first_of_each_row(x, row, active)
    return DistinctRows(jnp.where(nth.max() > active, jnp.nan, values), row)


def distinct_patches(x: DistinctRows, filter_size: int) -> DistinctRows:
    """Returns `patches` with stride F: those that meet an active pixel, and the background's.

    Where several active pixels of an image meet in one patch, it is the row of the last.
    """
    met = patches(x.row[..., None], filter_size, filter_size)
    row = met.max(axis=-1)
    rows_met = first_of_each_row(met, row, x.active)
    N = len(rows_met)
    # A product with 0 and 1: unlike that of indexing, its gradient is deterministic on a GPU.
    select = jax.nn.one_hot(rows_met.reshape(-1), N, dtype=x.values.dtype)
    return DistinctRows((select @ x.values).reshape(N, -1), row)


class Conv(nn.Module):
    """√F · ReLU(patches · w / √(F · C_in) + b), with w, b ~ N(0, 1) at initialisation."""

    width: int
    filter_size: int

    @nn.compact
    def __call__(self, seen: Float[Array, "*N FC"]) -> Float[Array, "*N H"]:
        """Returns the representation after the activation."""
        F, H, FC = self.filter_size, self.width, seen.shape[-1]
        normal = nn.initializers.normal(1.0, seen.dtype)
        w = self.param("kernel", normal, (F, FC // F, H)).reshape(FC, H)
        b = self.param("bias", normal, (H,))
        z = seen.reshape(-1, FC) @ w / math.sqrt(FC) + b[None]
        return math.sqrt(F) * nn.relu(z).reshape(*seen.shape[:-1], H)


class MeanReadout(nn.Module):
    """alpha · (mean over space · β / H + c), with β, c ~ N(0, 1) at initialisation."""

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
    """Circular convolutions f_1 .. f_K, one for each stride, then a linear readout."""

    width: int
    filter_size: int
    strides: tuple[int, ...]
    num_classes: int
    alpha: float
    active_pixels: int | None

    @nn.compact
    def __call__(self, x: Float[Array, "P L C"]) -> tuple[Float[Array, "P classes"], Features]:
        """Returns the outputs and {"conv1": f_1 [P, L_1, H], ...}."""
        features = OrderedDict()
        rows = distinct_pixels(x, self.active_pixels) if self.active_pixels else None
        for k, stride in enumerate(self.strides, start=1):
            conv = Conv(self.width, self.filter_size, name=f"conv{k}")
            if rows is None:
                x = conv(patches(x, self.filter_size, stride))
            else:
                seen = distinct_patches(rows, self.filter_size)
                rows = DistinctRows(conv(seen.values), seen.row)
                x = rows.images()
            features[f"conv{k}"] = x
        return MeanReadout(self.num_classes, self.alpha, name="readout")(x), features


def kernels(variables: Variables) -> list[Float[Array, "F _ H"]]:
    """Returns the raw filters w_1 .. w_K, first layer first: what the ridge acts on."""
    params = variables["params"]
    return [params[f"conv{k}"]["kernel"] for k in range(1, len(params))]


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

    Args:
        name: "SimpleCNN".
        num_classes: number of outputs; 1 in the paper.
        image_size: L, pixels of the input.
        channels: channels of the input; 1 in the paper.
        width: H, channels of every layer.
        depth: K, number of convolution layers.
        filter_size: F.
        stride: 1 or F.
        strided_layers: how many of the first layers have the stride, the others having 1. All by
            default, as Section 4.2 has it; 1 is what the authors' published program computes.
        alpha: factor on the output.
        active_pixels: a promise that no image has more pixels that are not zero, which saves time
            where every layer has stride F; outputs are NaN where it is broken.

    Raises:
        InputError: for any other stride, a filter larger than the input, or strides that do not
            divide it.
    """
    if min(width, depth, filter_size) < 1:
        raise InputError(
            f"width={width}, depth={depth} and filter_size={filter_size} must all be at least 1"
        )
    if filter_size > image_size:
        raise InputError(f"filter_size={filter_size} exceeds the {image_size} pixels of the input")
    if stride not in (1, filter_size):
        raise InputError(f"stride={stride} is neither 1 nor the filter size, {filter_size}")
    strided = depth if strided_layers is None else strided_layers
    if not 0 <= strided <= depth:
        raise InputError(f"strided_layers={strided} is not between 0 and depth={depth}")
    if image_size % stride**strided:
        possible = max(k for k in range(strided) if image_size % stride**k == 0)
        raise InputError(
            f"{strided} layers of stride {stride} need a size divisible by {stride**strided}: "
            f"size={image_size} allows at most {possible}"
        )
    strides = (stride,) * strided + (1,) * (depth - strided)
    if set(strides) != {filter_size}:
        active_pixels = None  # patches overlap
    net = SimpleCNN(width, filter_size, strides, num_classes, alpha, active_pixels)
    forward = cast(Callable[[Variables, Array], tuple[Array, Features]], net.apply)
    return Model(
        init=lambda key: net.init(key, jnp.zeros((1, image_size, channels))),
        apply=lambda variables, images: forward(variables, images)[0],
        features=lambda variables, images: forward(variables, images)[1],
        train=lambda variables, images, key, axis_name=None: (
            forward(variables, images)[0],
            variables,
        ),
    )


def from_torch(name: str, state_dict: Mapping[str, np.ndarray]) -> Variables:
    """Maps `conv.{k}.w` [H, C_in, F], `conv.{k}.b`, `beta` [H, classes] and `biasFinal`."""
    depth = sum(key.endswith(".w") for key in state_dict)
    expected = {f"conv.{k}.{p}" for k in range(depth) for p in "wb"} | {"beta", "biasFinal"}
    if expected != set(state_dict):
        odd = some(sorted(expected ^ set(state_dict)))
        raise InputError(f"not the state dict of a {name}: missing or surplus {odd}")
    tensors = {key: jnp.asarray(x, float) for key, x in state_dict.items()}
    params = {
        f"conv{k + 1}": {
            "kernel": tensors[f"conv.{k}.w"].transpose(2, 1, 0),
            "bias": tensors[f"conv.{k}.b"],
        }
        for k in range(depth)
    }
    params["readout"] = {"kernel": tensors["beta"], "bias": tensors["biasFinal"]}
    return {"params": params}
