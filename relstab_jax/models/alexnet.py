"""AlexNet (Krizhevsky 2014), for CIFAR, for single-channel images and for ImageNet."""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from relstab_jax.errors import InputError
from relstab_jax.models import layers, weights
from relstab_jax.models.dropout import Dropout
from relstab_jax.models.model import Model, Variables, from_flax

NAMES = ("AlexNet", "alexnet")


class AlexNet(nn.Module):
    """Five convolutions and three dense layers, named as in PyTorch's state dict.

    Attributes:
        imagenet: whether it is torchvision's form, with large filters, overlapping pooling and an
            average pooling to 6×6, or the CIFAR form, with 3×3 filters and 2×2 pooling, whose
            single-channel inputs are padded by 2 pixels of zeros.
        num_classes: number of outputs; 0 leaves the output layer out.
        hidden: whether there are the two dense layers before it.
    """

    imagenet: bool
    num_classes: int
    hidden: bool

    @nn.compact
    def __call__(
        self, x: Float[Array, "P H W C"], train: bool = False, axis_name: str | None = None
    ) -> Float[Array, "P classes"]:
        """Returns the outputs."""
        n = 0
        if not self.imagenet and x.shape[-1] == 1:
            x = jnp.pad(x, ((0, 0), (2, 2), (2, 2), (0, 0)))
            n = 1
        first, second = ((11, 4, 2), (5, 1, 2)) if self.imagenet else ((3, 2, 1), (3, 1, 1))
        window = 3 if self.imagenet else 2
        for width, (filter_size, stride, padding), pooled in (
            (64, first, True),
            (192, second, True),
            (384, (3, 1, 1), False),
            (256, (3, 1, 1), False),
            (256, (3, 1, 1), True),
        ):
            layer = f"features.{n}"
            x = layers.Conv(width, filter_size, stride, padding, name=layer)(x)
            x = layers.activate(self, layer, x)
            n += 2
            if pooled:
                x = layers.max_pool(self, f"features.{n}", x, window, stride=2)
                n += 1
        if self.imagenet:
            x = layers.adaptive_average_pool(x, 6)
        x = layers.flatten(x)
        for layer in ("classifier.1", "classifier.4") if self.hidden else ():
            x = Dropout(0.5, train, axis_name)(x)
            x = layers.activate(self, layer, layers.Dense(4096, name=layer)(x))
        return layers.output(self, "classifier.6", x, self.num_classes)


def build(
    name: str, *, num_classes: int, image_size: int, channels: int, hidden: bool | None = None
) -> Model:
    """Makes an AlexNet for images [P, image_size, image_size, channels].

    Args:
        name: "AlexNet" for the CIFAR form, "alexnet" for torchvision's.
        num_classes: number of outputs; 0 leaves the output layer out.
        image_size: pixels along each axis.
        channels: channels of the images. The CIFAR form pads single-channel images to
            image_size + 4.
        hidden: whether there are the two dense layers before the outputs; if not given, where there
            are outputs.

    Raises:
        InputError: for images that the poolings reduce to nothing.
    """
    imagenet = name == "alexnet"
    smallest = 63 if imagenet else 15 - 4 * (channels == 1)
    if image_size < smallest:
        raise InputError(
            f"image_size={image_size}: {name} needs at least {smallest} pixels for its poolings"
        )
    net = AlexNet(imagenet, num_classes, num_classes > 0 if hidden is None else hidden)
    return from_flax(net, image_size=image_size, channels=channels)


def form(name: str, shapes: weights.Shapes) -> dict[str, Any]:
    """Returns what `build` asks for, read off the shapes of the tensors of a state dict."""
    # The padding of single-channel images counts as layer 0.
    padded = not any(tensor.startswith("features.0.") for tensor in shapes)
    return {
        "num_classes": weights.outputs(shapes, "classifier.6"),
        "image_size": 224 if name == "alexnet" else 28 if padded else 32,
        "channels": 1 if padded else weights.dimension(shapes, "features.0.weight", 1, otherwise=3),
        "hidden": any(tensor.startswith("classifier.") for tensor in shapes),
    }


def from_torch(name: str, state_dict: Mapping[str, np.ndarray]) -> Variables:
    """Maps the authors' state dict (AlexNet) or torchvision's (alexnet).

    Raises:
        InputError: for a missing, surplus or mis-shaped tensor.
    """
    model = build(name, **form(name, weights.shapes(state_dict)))
    return weights.to_variables(model, state_dict)
