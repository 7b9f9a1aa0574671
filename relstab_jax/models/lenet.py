"""LeNet (LeCun et al. 1998) with ReLU and max-pooling."""

from math import isqrt
from typing import Any

import flax.linen as nn
from jaxtyping import Array, Float

from relstab_jax.errors import InputError
from relstab_jax.models import features, layers, pytorch
from relstab_jax.models.model import Model, as_model

NAMES = ("LeNet",)

_HIDDEN = {"fc1": 120, "fc2": 84}


class LeNet(nn.Module):
    """Two 5×5 convolutions without padding, each with a 2×2 max-pooling, and three dense layers.

    Attributes:
        num_classes: number of outputs; 0 for a network without its output layer.
        hidden: how many of the two dense layers before the output layer there are.
    """

    num_classes: int
    hidden: int

    @nn.compact
    def __call__(
        self, x: Float[Array, "P H W C"], train: bool = False, axis_name: str | None = None
    ) -> Float[Array, "P classes"]:
        """Returns the outputs."""
        for layer, pool, width in (("conv1", "pool1", 6), ("conv2", "pool2", 16)):
            x = features.activate(self, layer, layers.Conv(width, 5, name=layer)(x))
            x = features.max_pool(self, pool, x, 2, stride=2)
        x = layers.flatten(x)
        for layer, width in tuple(_HIDDEN.items())[: self.hidden]:
            x = features.activate(self, layer, layers.dense(x, width, name=layer))
        return features.output(self, "fc3", x, self.num_classes)


def build(
    name: str, *, num_classes: int, image_size: int, channels: int, hidden: int = len(_HIDDEN)
) -> Model:
    """Makes "LeNet"; `hidden` is as of `LeNet`.

    Raises:
        InputError: for images that the convolutions and poolings would reduce to nothing.
    """
    if image_size < 16:
        raise InputError(f"image_size={image_size} is too small for {name}: use at least 16 pixels")
    return as_model(LeNet(num_classes, hidden), image_size=image_size, channels=channels)


def settings(name: str, shapes: pytorch.Shapes) -> dict[str, Any]:
    """Returns the arguments of `build` for a network whose tensors have these shapes."""
    inputs = pytorch.dimension(shapes, "fc1.weight", 1, default=400)
    last_map = isqrt(inputs // 16)  # pixels along each axis of the 16 channels that fc1 sees
    return {
        **pytorch.head(shapes, tuple(_HIDDEN), "fc3"),
        "image_size": 4 * max(last_map, 1) + 12,
        "channels": pytorch.dimension(shapes, "conv1.weight", 1, default=3),
    }
