"""VGG (Simonyan & Zisserman 2015) for CIFAR, for single-channel images and for ImageNet."""

from typing import Any

import flax.linen as nn
from jaxtyping import Array, Float

from relstab_jax.errors import InputError
from relstab_jax.models import features, layers, pytorch
from relstab_jax.models.convolution import pad
from relstab_jax.models.model import Model, as_model

_WIDTHS = (64, 128, 256, 512, 512)
_DEPTHS = {
    "11": (1, 1, 2, 2, 2),
    "13": (2, 2, 2, 2, 2),
    "16": (2, 2, 3, 3, 3),
    "19": (2, 2, 4, 4, 4),
}

_CIFAR_NAMES = tuple(f"VGG{depth}{norm}" for depth in _DEPTHS for norm in ("", "bn"))
_IMAGENET_NAMES = tuple(f"vgg{depth}{norm}" for depth in _DEPTHS for norm in ("", "_bn"))
NAMES = _CIFAR_NAMES + _IMAGENET_NAMES

_HIDDEN = ("classifier.0", "classifier.3")  # of torchvision's form


class VGG(nn.Module):
    """Five stages of 3×3 convolutions with ReLU, a max-pooling after each, then dense layers.

    Layers are named as in PyTorch's state dict: "features.{n}", where n counts convolutions,
    batch-norms, ReLUs, poolings and the padding, and "classifier" or "classifier.{n}".

    Attributes:
        depths: number of convolutions in each stage.
        batch_norm: whether a batch-norm follows each convolution.
        imagenet: True for torchvision's form, with three dense layers and dropout after an average
            pooling to 7×7; False for the CIFAR form, with one dense layer, which pads
            single-channel images by 2 pixels of zeros.
        num_classes: number of outputs; 0 for a network without its output layer.
        hidden: how many of the two dense layers before the output layer torchvision's form has;
            without any, the last maps are flattened as they are, channel by channel.
    """

    depths: tuple[int, ...]
    batch_norm: bool
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
        for depth, width in zip(self.depths, _WIDTHS, strict=True):
            for _ in range(depth):
                layer = f"features.{n}"
                x = layers.Conv(width, 3, padding=1, name=layer)(x)
                if self.batch_norm:
                    x = layers.BatchNorm(train, axis_name, name=f"features.{n + 1}")(x)
                x = features.activate(self, layer, x)
                n += 3 if self.batch_norm else 2
            x = features.max_pool(self, f"features.{n}", x, 2, stride=2)
            n += 1
        if self.hidden:
            x = layers.adaptive_average_pool(x, 7)
        x = layers.flatten(x)
        for layer in _HIDDEN[: self.hidden]:
            x = features.activate(self, layer, layers.dense(x, 4096, name=layer))
            x = layers.Dropout(0.5, train, axis_name)(x)
        return features.output(self, _output_layer(self.imagenet), x, self.num_classes)


def _output_layer(imagenet: bool) -> str:
    return "classifier.6" if imagenet else "classifier"


def build(
    name: str, *, num_classes: int, image_size: int, channels: int, hidden: int | None = None
) -> Model:
    """Makes "VGG11", "VGG11bn", …, the CIFAR form, or "vgg11", "vgg11_bn", …, torchvision's.

    `hidden` is as of `VGG`; None is 2 for torchvision's form with an output layer, and 0 without.

    Raises:
        InputError: for images that five poolings would reduce to nothing.
    """
    imagenet = name in _IMAGENET_NAMES
    smallest = 28 if channels == 1 and not imagenet else 32
    if image_size < smallest:
        raise InputError(
            f"image_size={image_size} is too small for the 5 poolings of {name}: use at least "
            f"{smallest} pixels"
        )
    if hidden is None:
        hidden = len(_HIDDEN) if imagenet and num_classes else 0
    net = VGG(
        depths=_DEPTHS[name[3:5]],
        batch_norm=name.endswith("bn"),
        imagenet=imagenet,
        num_classes=num_classes,
        hidden=hidden,
    )
    return as_model(net, image_size=image_size, channels=channels)


def settings(name: str, shapes: pytorch.Shapes) -> dict[str, Any]:
    """Returns the arguments of `build` for a network whose tensors have these shapes."""
    imagenet = name in _IMAGENET_NAMES
    padded = not pytorch.has(shapes, "features.0")  # which pads single-channel images
    return {
        **pytorch.head(shapes, _HIDDEN if imagenet else (), _output_layer(imagenet)),
        "image_size": 32,
        "channels": 1 if padded else pytorch.dimension(shapes, "features.0.weight", 1, default=3),
    }
