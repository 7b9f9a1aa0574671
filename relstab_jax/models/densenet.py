"""Fully connected networks in the NTK parametrisation (Jacot et al. 2018)."""

import math
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import numpy as np
from jaxtyping import Array, Float

from relstab_jax.models import layers, weights
from relstab_jax.models.model import Model, Variables, from_flax

_DEPTHS = {"DenseNetL2": 2, "DenseNetL4": 4, "DenseNetL6": 6}
NAMES = tuple(_DEPTHS)

_WIDTH = 64


class ScaledDense(nn.Module):
    """A dense layer x · w / √d + b, or x · w / d for the last, with d the length of x.

    w and b are N(0, 1) at initialisation. The last layer has a b too, which nothing uses: it is
    among the parameters of the PyTorch original.
    """

    features: int
    last: bool

    @nn.compact
    def __call__(self, x: Float[Array, "P d"]) -> Float[Array, "P K"]:
        """Returns the pre-activations."""
        d = x.shape[-1]
        normal = nn.initializers.normal(1.0)
        w = self.param("w", normal, (d, self.features))
        b = self.param("b", normal, (self.features,))
        return x @ w / d if self.last else x @ w / math.sqrt(d) + b[None]


class DenseNet(nn.Module):
    """Dense layers of 64 neurons with ReLU, and a linear output layer: `depth` in all."""

    depth: int
    num_classes: int

    @nn.compact
    def __call__(
        self, x: Float[Array, "P H W C"], train: bool = False, axis_name: str | None = None
    ) -> Float[Array, "P classes"]:
        """Returns the outputs."""
        x = layers.flatten(x)
        for n in range(self.depth - 1):
            z = ScaledDense(_WIDTH, last=False, name=f"fcn.{n}")(x)
            x = layers.activate(self, f"fcn.{n}", z)
        if self.num_classes == 0:
            return x
        layer = f"fcn.{self.depth - 1}"
        x = ScaledDense(self.num_classes, last=True, name=layer)(x)
        layers.keep(self, f"{layer}:pre", x)
        return x


def build(name: str, *, num_classes: int, image_size: int, channels: int) -> Model:
    """Makes a fully connected network for images [P, image_size, image_size, channels].

    Args:
        name: "DenseNetL2", "DenseNetL4" or "DenseNetL6", by the number of layers.
        num_classes: number of outputs; 0 leaves the output layer out.
        image_size: pixels along each axis.
        channels: channels of the images.
    """
    return from_flax(DenseNet(_DEPTHS[name], num_classes), image_size=image_size, channels=channels)


def form(name: str, shapes: weights.Shapes) -> dict[str, Any]:
    """Returns what `build` asks for, read off the shapes of the tensors of a state dict."""
    return {
        "num_classes": weights.outputs(shapes, f"fcn.{_DEPTHS[name] - 1}", "w", axis=1),
        # The variables depend on the shape of the images only through the number of values.
        "image_size": 1,
        "channels": weights.dimension(shapes, "fcn.0.w", 0, otherwise=3 * 32**2),
    }


def from_torch(name: str, state_dict: Mapping[str, np.ndarray]) -> Variables:
    """Maps a state dict with `fcn.{n}.w` [d, K] and `fcn.{n}.b` [K].

    Raises:
        InputError: for a missing, surplus or mis-shaped tensor.
    """
    model = build(name, **form(name, weights.shapes(state_dict)))
    return weights.to_variables(model, state_dict)
