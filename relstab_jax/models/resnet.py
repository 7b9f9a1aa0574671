"""ResNets (He et al. 2016) for CIFAR, for single-channel images and for ImageNet."""

from functools import partial
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from relstab_jax.models import features, layers, pytorch
from relstab_jax.models.model import Model, as_model

# Attributes of `ResNet` by depth: those of four stages, and those of Section 4.2 of He et al.
_FOUR_STAGES: dict[int, dict[str, Any]] = {
    18: {"blocks": (2, 2, 2, 2)},
    34: {"blocks": (3, 4, 6, 3)},
    50: {"blocks": (3, 4, 6, 3), "bottleneck": True, "strided": 1},
}
_THREE_STAGES: dict[int, dict[str, Any]] = {
    6 * n + 2: {"blocks": (n, n, n), "width": 16, "shortcut": None} for n in (3, 5, 7, 9, 18)
}
_CIFAR = {f"ResNet{depth}": form for depth, form in (_FOUR_STAGES | _THREE_STAGES).items()}
_IMAGENET = {
    f"resnet{depth}": form | {"imagenet": True, "shortcut": "downsample"}
    for depth, form in _FOUR_STAGES.items()
}
_IMAGENET["resnet50_v1"] = _IMAGENET["resnet50"] | {"strided": 0}
NAMES = (*_CIFAR, *_IMAGENET)


class Block(nn.Module):
    """Convolutions with batch-norm and ReLU; the input of the block is added before the last ReLU.

    Attributes:
        convolutions: (filter size, stride, channels) of each.
        shortcut: name of the 1×1 convolution of the input, which exists where the shape changes;
            None for `subsampled` instead.
        norm: makes a batch-norm with a given name.
    """

    convolutions: tuple[tuple[int, int, int], ...]
    shortcut: str | None
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
            if n > 1:
                z = features.activate(self, f"conv{n - 1}", z)
            z = convolve(z, f"conv{n}", f"bn{n}", *convolution)
        if x.shape != z.shape:
            stride = max(stride for _, stride, _ in self.convolutions)
            if self.shortcut is None:
                x = subsampled(x, stride, z.shape[-1])
            else:
                x = convolve(x, f"{self.shortcut}.0", f"{self.shortcut}.1", 1, stride, z.shape[-1])
        return features.activate(self, f"conv{len(self.convolutions)}", z + x)


def subsampled(
    x: Float[Array, "P H W C"], stride: int, channels: int
) -> Float[Array, "P H_out W_out K"]:
    """Takes every so many pixels, between as many channels of zeros on either side (option A)."""
    zeros = (channels - x.shape[-1]) // 2
    return jnp.pad(x[:, ::stride, ::stride], ((0, 0), (0, 0), (0, 0), (zeros, zeros)))


class ResNet(nn.Module):
    """A convolution, stages of blocks, the mean over space and a dense layer.

    Layers are named as in PyTorch's state dict. The representation of the last convolution of a
    block is that after the sum with the input of the block and the ReLU; the 1×1 convolutions of
    the input have no activation of their own, so they are not among the features.

    Attributes:
        num_classes: number of outputs; 0 for a network without its output layer.
        blocks: number of blocks in each stage.
        width: channels of the first stage; each of the others has twice those of the one before.
        bottleneck: whether blocks are 1×1, 3×3 and 1×1 convolutions, the last with four times as
            many channels, rather than two of 3×3.
        strided: which convolution of the first block of each stage but the first has stride 2.
        shortcut: as of `Block`.
        imagenet: True for torchvision's form, whose first convolution is 7×7 with stride 2 and has
            a max-pooling; False for the CIFAR form, whose first convolution is 3×3.
    """

    num_classes: int
    blocks: tuple[int, ...]
    width: int = 64
    bottleneck: bool = False
    strided: int = 0
    shortcut: str | None = "shortcut"
    imagenet: bool = False

    @nn.compact
    def __call__(
        self, x: Float[Array, "P H W C"], train: bool = False, axis_name: str | None = None
    ) -> Float[Array, "P classes"]:
        """Returns the outputs."""
        norm = partial(layers.BatchNorm, train=train, axis_name=axis_name)
        filter_size, stride, padding = (7, 2, 3) if self.imagenet else (3, 1, 1)
        x = layers.Conv(self.width, filter_size, stride, padding, use_bias=False, name="conv1")(x)
        x = features.activate(self, "conv1", norm(name="bn1")(x))
        if self.imagenet:
            x = features.max_pool(self, "maxpool", x, 3, stride=2, padding=1)
        for stage, blocks in enumerate(self.blocks):
            width = self.width * 2**stage
            filters = ((3, width), (3, width))
            if self.bottleneck:
                filters = ((1, width), (3, width), (1, 4 * width))
            for n in range(blocks):
                strided = self.strided if stage > 0 and n == 0 else None
                convolutions = tuple(
                    (filter_size, 2 if k == strided else 1, channels)
                    for k, (filter_size, channels) in enumerate(filters)
                )
                x = Block(convolutions, self.shortcut, norm, name=f"layer{stage + 1}.{n}")(x)
        x = features.mean_pool(self, "avgpool", x)
        return features.output(self, _output_layer(self.imagenet), x, self.num_classes)


def _output_layer(imagenet: bool) -> str:
    return "fc" if imagenet else "linear"


def build(name: str, *, num_classes: int, image_size: int, channels: int) -> Model:
    """Makes a ResNet.

    "ResNet18", "ResNet34" and "ResNet50" are the CIFAR form; "resnet18", "resnet34" and "resnet50"
    torchvision's, and "resnet50_v1" the original's and Keras', which has the strides in the 1×1
    convolutions; "ResNet20", "ResNet32", "ResNet44", "ResNet56" and "ResNet110" are those of
    Section 4.2 of He et al., whose shortcuts have no parameters.
    """
    net = ResNet(num_classes, **(_CIFAR | _IMAGENET)[name])
    return as_model(net, image_size=image_size, channels=channels)


def settings(name: str, shapes: pytorch.Shapes) -> dict[str, Any]:
    """Returns the arguments of `build` for a network whose tensors have these shapes."""
    return {
        "num_classes": pytorch.outputs(shapes, _output_layer(name in _IMAGENET)),
        "image_size": 32,
        "channels": pytorch.dimension(shapes, "conv1.weight", 1, default=3),
    }
