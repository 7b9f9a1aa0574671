"""The one-dimensional CNN of Section 4, in the NTK parametrisation."""

import math
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import cast

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from relstab_jax.errors import InputError
from relstab_jax.models.model import Features, Model, Variables

NAMES = ("SimpleCNN",)


def patches(x: Float[Array, "P L C"], filter_size: int, stride: int) -> Float[Array, "P L_out FC"]:
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


class CircularConv(nn.Module):
    """√F · ReLU(patches · w / √(F · C_in) + b), with w, b ~ N(0, 1) at initialisation."""

    width: int
    filter_size: int
    stride: int

    @nn.compact
    def __call__(self, x: Float[Array, "P L C_in"]) -> Float[Array, "P L_out H"]:
        """Returns the representation after the activation."""
        F, H, C = self.filter_size, self.width, x.shape[-1]
        normal = nn.initializers.normal(1.0, x.dtype)
        w = self.param("kernel", normal, (F, C, H)).reshape(F * C, H)
        b = self.param("bias", normal, (H,))
        seen = patches(x, F, self.stride)
        z = seen.reshape(-1, F * C) @ w / math.sqrt(F * C) + b
        return math.sqrt(F) * nn.relu(z).reshape(*seen.shape[:2], H)


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
        return self.alpha * (x.mean(axis=1) @ beta / x.shape[-1] + c)


class SimpleCNN(nn.Module):
    """Circular convolutions f_1 .. f_K, one for each stride, then a linear readout."""

    width: int
    filter_size: int
    strides: tuple[int, ...]
    num_classes: int
    alpha: float

    @nn.compact
    def __call__(self, x: Float[Array, "P L C"]) -> tuple[Float[Array, "P classes"], Features]:
        """Returns the outputs and {"conv1": f_1 [P, L_1, H], ...}."""
        features = OrderedDict()
        for k, stride in enumerate(self.strides, start=1):
            x = CircularConv(self.width, self.filter_size, stride, name=f"conv{k}")(x)
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
    net = SimpleCNN(width, filter_size, strides, num_classes, alpha)
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
        odd = ", ".join(sorted(expected ^ set(state_dict)))
        raise InputError(f"not the state dict of a {name}: missing or surplus {odd}")
    params = {
        f"conv{k + 1}": {
            "kernel": jnp.asarray(state_dict[f"conv.{k}.w"].transpose(2, 1, 0)),
            "bias": jnp.asarray(state_dict[f"conv.{k}.b"]),
        }
        for k in range(depth)
    }
    params["readout"] = {
        "kernel": jnp.asarray(state_dict["beta"]),
        "bias": jnp.asarray(state_dict["biasFinal"]),
    }
    return {"params": params}
