"""ResNet (He et al. 2016) for CIFAR, for single-channel images and for ImageNet."""

from functools import partial
from typing import Any

import flax.linen as nn
from jaxtyping import Array, Float

from relstab_jax.models import features, layers, pytorch
from relstab_jax.models.model import Model, from_flax

# By depth: the number of blocks in each of the four stages, and whether they are bottlenecks.
_BLOCKS = {
    "18": ((2, 2, 2, 2), False),
    "34": ((3, 4, 6, 3), False),
    "50": ((3, 4, 6, 3), True),
}
_CIFAR_NAMES = tuple(f"ResNet{depth}" for depth in _BLOCKS)
_IMAGENET_NAMES = tuple(f"resnet{depth}" for depth in _BLOCKS)
NAMES = _CIFAR_NAMES + _IMAGENET_NAMES


class Block(nn.Module):
    """Convolutions with batch-norm and ReLU; the input of the block is added before the last ReLU.

    Attributes:
        convolutions: (filter size, stride, channels) of each.
        shortcut: name of the 1×1 convolution of the input, which exists where the shape changes.
        norm: makes a batch-norm with a given name.
    """

    convolutions: tuple[tuple[int, int, int], ...]
    shortcut: str
    norm: Any

    @nn.compact
    def __call__(self, x: Float[Array, "P H W C"]) -> Float[Array, "P H_out W_out K"]:
        """Returns the representation after the last ReLU."""

        def convolve(x, name, norm_name, filter_size, stride, channels):
            x = layers.Conv(
                channels, filter_size, stride, filter_size // 2, use_bias=False, name=name
            )(x)
            return self.norm(name=norm_name)(x)

        z = x
        for n, convolution in enumerate(self.convolutions, start=1):
            y = z if n == 1 else features.activate(self, f"conv{n - 1}", z)
            z = convolve(y, f"conv{n}", f"bn{n}", *convolution)
        if x.shape != z.shape:
            stride = max(stride for _, stride, _ in self.convolutions)
            x = convolve(x, f"{self.shortcut}.0", f"{self.shortcut}.1", 1, stride, z.shape[-1])
        return features.activate(self, f"conv{len(self.convolutions)}", z + x)


class ResNet(nn.Module):
    """A convolution, four stages of blocks, the mean over space and a dense layer.

    Layers are named as in PyTorch's state dict. The representation of the last convolution of a
    block is that after the sum with the input of the block and the ReLU; the 1×1 convolutions of
    the input have no activation of their own, so they are not among the features.

    Attributes:
        blocks: number of blocks in each stage.
        bottleneck: whether blocks are 1×1, 3×3 and 1×1 convolutions rather than two of 3×3.
        imagenet: True for torchvision's form, whose first convolution is 7×7 with stride 2 and has
            a max-pooling; False for the CIFAR form, whose first convolution is 3×3.
        num_classes: number of outputs; 0 for a network without its output layer.
    """

    blocks: tuple[int, ...]
    bottleneck: bool
    imagenet: bool
    num_classes: int

    @nn.compact
    def __call__(
        self, x: Float[Array, "P H W C"], train: bool = False, axis_name: str | None = None
    ) -> Float[Array, "P classes"]:
        """Returns the outputs."""
        norm = partial(layers.BatchNorm, train=train, axis_name=axis_name)
        filter_size, stride, padding = (7, 2, 3) if self.imagenet else (3, 1, 1)
        x = layers.Conv(64, filter_size, stride, padding, use_bias=False, name="conv1")(x)
        x = features.activate(self, "conv1", norm(name="bn1")(x))
        if self.imagenet:
            x = features.max_pool(self, "maxpool", x, 3, stride=2, padding=1)
        for stage, (blocks, width) in enumerate(
            zip(self.blocks, (64, 128, 256, 512), strict=True), start=1
        ):
            for n in range(blocks):
                stride = 2 if stage > 1 and n == 0 else 1
                if self.bottleneck:
                    convolutions = ((1, 1, width), (3, stride, width), (1, 1, 4 * width))
                else:
                    convolutions = ((3, stride, width), (3, 1, width))
                shortcut = "downsample" if self.imagenet else "shortcut"
                x = Block(convolutions, shortcut, norm, name=f"layer{stage}.{n}")(x)
        x = features.mean_pool(self, "avgpool", x)
        return features.output(self, _output_layer(self.imagenet), x, self.num_classes)


def _output_layer(imagenet: bool) -> str:
    return "fc" if imagenet else "linear"


def build(name: str, *, num_classes: int, image_size: int, channels: int) -> Model:
    """Makes a ResNet for images [P, image_size, image_size, channels].

    Args:
        name: "ResNet18", "ResNet34" or "ResNet50" for the CIFAR form; "resnet18", "resnet34" or
            "resnet50" for torchvision's.
        num_classes: number of outputs; 0 for a network without its output layer.
        image_size: pixels along each axis.
        channels: channels of the images.
    """
    blocks, bottleneck = _BLOCKS[name[-2:]]
    net = ResNet(blocks, bottleneck, name in _IMAGENET_NAMES, num_classes)
    return from_flax(net, image_size=image_size, channels=channels)


def settings(name: str, shapes: pytorch.Shapes) -> dict[str, Any]:
    """Returns the arguments of `build` for a network whose tensors have these shapes."""
    return {
        "num_classes": pytorch.outputs(shapes, _output_layer(name in _IMAGENET_NAMES)),
        "image_size": 32,
        "channels": pytorch.dimension(shapes, "conv1.weight", 1, default=3),
    }
