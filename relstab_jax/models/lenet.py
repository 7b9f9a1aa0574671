"""LeNet (LeCun et al. 1998) with ReLU and max-pooling."""

from collections.abc import Mapping
from math import isqrt
from typing import Any

import flax.linen as nn
import numpy as np
from jaxtyping import Array, Float

from relstab_jax.errors import InputError
from relstab_jax.models import layers, weights
from relstab_jax.models.model import Model, Variables, from_flax

NAMES = ("LeNet",)


class LeNet(nn.Module):
    """Two 5×5 convolutions without padding, each pooled, and three dense layers."""

    num_classes: int

    @nn.compact
    def __call__(
        self, x: Float[Array, "P H W C"], train: bool = False, axis_name: str | None = None
    ) -> Float[Array, "P classes"]:
        """Returns the outputs."""
        for layer, pool, width in (("conv1", "pool1", 6), ("conv2", "pool2", 16)):
            x = layers.activate(self, layer, layers.Conv(width, 5, name=layer)(x))
            x = layers.max_pool(self, pool, x, 2, stride=2)
        x = layers.flatten(x)
        for layer, width in (("fc1", 120), ("fc2", 84)):
            x = layers.activate(self, layer, layers.Dense(width, name=layer)(x))
        return layers.output(self, "fc3", x, self.num_classes)


def build(name: str, *, num_classes: int, image_size: int, channels: int) -> Model:
    """Makes a LeNet for images [P, image_size, image_size, channels].

    Args:
        name: "LeNet".
        num_classes: number of outputs; 0 leaves the output layer out.
        image_size: pixels along each axis.
        channels: channels of the images.

    Raises:
        InputError: for images that the convolutions and poolings reduce to nothing.
    """
    if image_size < 16:
        raise InputError(f"image_size={image_size}: {name} needs at least 16 pixels")
    return from_flax(LeNet(num_classes), image_size=image_size, channels=channels)


def form(name: str, shapes: weights.Shapes) -> dict[str, Any]:
    """Returns what `build` asks for, read off the shapes of the tensors of a state dict."""
    last_map = isqrt(weights.dimension(shapes, "fc1.weight", 1, otherwise=400) // 16)
    return {
        "num_classes": weights.outputs(shapes, "fc3"),
        "image_size": 4 * max(last_map, 1) + 12,
        "channels": weights.dimension(shapes, "conv1.weight", 1, otherwise=3),
    }


def from_torch(name: str, state_dict: Mapping[str, np.ndarray]) -> Variables:
    """Maps a state dict with `conv1`, `conv2`, `fc1`, `fc2` and `fc3`.

    Raises:
        InputError: for a missing, surplus or mis-shaped tensor.
    """
    model = build(name, **form(name, weights.shapes(state_dict)))
    return weights.to_variables(model, state_dict)
