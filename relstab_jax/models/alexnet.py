"""AlexNet (Krizhevsky 2014) for CIFAR, for single-channel images and for ImageNet."""

from typing import Any

import flax.linen as nn
from jaxtyping import Array, Float

from relstab_jax.errors import InputError
from relstab_jax.models import features, layers, pytorch
from relstab_jax.models.convolution import pad
from relstab_jax.models.model import Model, as_model

NAMES = ("AlexNet", "alexnet")

_HIDDEN = ("classifier.1", "classifier.4")


class AlexNet(nn.Module):
    """Five convolutions and three dense layers, named as in PyTorch's state dict.

    Attributes:
        imagenet: True for torchvision's form, with large filters, overlapping max-pooling and an
            average pooling to 6×6; False for the CIFAR form, with 3×3 filters and 2×2 max-pooling,
            which pads single-channel images by 2 pixels of zeros.
        num_classes: number of outputs; 0 for a network without its output layer.
        hidden: how many of the two dense layers before the output layer there are; without any, the
            last maps are flattened as they are.
    """

    imagenet: bool
    num_classes: int
    hidden: int

    @nn.compact
    def __call__(
        self, x: Float[Array, "P H W C"], train: bool = False, axis_name: str | None = None
    ) -> Float[Array, "P classes"]:
        """Returns the outputs."""
        n = 0  # the index in PyTorch's nn.Sequential
        if not self.imagenet and x.shape[-1] == 1:
            x = pad(x, 2)
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
            x = features.activate(self, layer, x)
            n += 2
            if pooled:
                x = features.max_pool(self, f"features.{n}", x, window, stride=2)
                n += 1
        if self.imagenet and self.hidden:
            x = layers.adaptive_average_pool(x, 6)
        x = layers.flatten(x)
        for layer in _HIDDEN[: self.hidden]:
            x = layers.Dropout(0.5, train, axis_name)(x)
            x = features.activate(self, layer, layers.dense(x, 4096, name=layer))
        return features.output(self, "classifier.6", x, self.num_classes)


def build(
    name: str, *, num_classes: int, image_size: int, channels: int, hidden: int | None = None
) -> Model:
    """Makes "AlexNet", the CIFAR form, or "alexnet", torchvision's.

    `hidden` is as of `AlexNet`; None is 2 with an output layer, and 0 without.

    Raises:
        InputError: for images that the strides and poolings would reduce to nothing.
    """
    imagenet = name == "alexnet"
    smallest = 63 if imagenet else 11 if channels == 1 else 15
    if image_size < smallest:
        raise InputError(
            f"image_size={image_size} is too small for {name}: use at least {smallest} pixels"
        )
    if hidden is None:
        hidden = len(_HIDDEN) if num_classes else 0
    net = AlexNet(imagenet, num_classes, hidden)
    return as_model(net, image_size=image_size, channels=channels)


def settings(name: str, shapes: pytorch.Shapes) -> dict[str, Any]:
    """Returns the arguments of `build` for a network whose tensors have these shapes."""
    padded = not pytorch.has(shapes, "features.0")  # which pads single-channel images
    return {
        **pytorch.head(shapes, _HIDDEN, "classifier.6"),
        "image_size": 224 if name == "alexnet" else 28 if padded else 32,
        "channels": 1 if padded else pytorch.dimension(shapes, "features.0.weight", 1, default=3),
    }
