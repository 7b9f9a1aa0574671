"""ResNet (He et al. 2016), for CIFAR, for single-channel images and for ImageNet."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import flax.linen as nn
import numpy as np
from jaxtyping import Array, Float

from relstab_jax.models import layers, weights
from relstab_jax.models.model import Model, Variables, from_flax

# Blocks in each of the four stages, and whether they are bottlenecks.
_FORMS = {
    "18": ((2, 2, 2, 2), False),
    "34": ((3, 4, 6, 3), False),
    "50": ((3, 4, 6, 3), True),
}
NAMES = tuple(f"{resnet}{depth}" for resnet in ("ResNet", "resnet") for depth in _FORMS)


class Block(nn.Module):
    """Convolutions with batch-norm and ReLU around which the input skips, before the last ReLU.

    Attributes:
        convolutions: (filter size, stride, channels) of each.
        shortcut: name of the projection of the input, present where the shape changes.
        norm: makes a batch-norm from its name.
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
        for n, form in enumerate(self.convolutions, start=1):
            y = z if n == 1 else layers.activate(self, f"conv{n - 1}", z)
            z = convolve(y, f"conv{n}", f"bn{n}", *form)
        if x.shape != z.shape:
            stride = max(stride for _, stride, _ in self.convolutions)
            x = convolve(x, f"{self.shortcut}.0", f"{self.shortcut}.1", 1, stride, z.shape[-1])
        return layers.activate(self, f"conv{len(self.convolutions)}", z + x)


class ResNet(nn.Module):
    """A convolution, four stages of blocks, the mean over space and a dense layer.

    Layers are named as in PyTorch's state dict. The representation of the last convolution of a
    block is after the sum with the skipped input, and its ReLU; the projections of the input have
    no activation of their own and do not show.

    Attributes:
        blocks: number of blocks in each stage.
        bottleneck: whether blocks are 1×1, 3×3, 1×1 convolutions rather than two 3×3.
        imagenet: whether it is torchvision's form, with a 7×7 stem of stride 2 and a pooling, or
            the CIFAR form, with a 3×3 stem.
        num_classes: number of outputs; 0 leaves the output layer out.
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
        x = layers.activate(self, "conv1", norm(name="bn1")(x))
        if self.imagenet:
            x = layers.max_pool(self, "maxpool", x, 3, stride=2, padding=1)
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
        x = layers.mean_pool(self, "avgpool", x)
        return layers.output(self, "fc" if self.imagenet else "linear", x, self.num_classes)


def build(name: str, *, num_classes: int, image_size: int, channels: int) -> Model:
    """Makes a ResNet for images [P, image_size, image_size, channels].

    Args:
        name: "ResNet18", "ResNet34" or "ResNet50" for the CIFAR form; "resnet18", "resnet34" or
            "resnet50" for torchvision's.
        num_classes: number of outputs; 0 leaves the output layer out.
        image_size: pixels along each axis.
        channels: channels of the images.
    """
    blocks, bottleneck = _FORMS[name[-2:]]
    net = ResNet(blocks, bottleneck, imagenet=name.islower(), num_classes=num_classes)
    return from_flax(net, image_size=image_size, channels=channels)


def form(name: str, shapes: weights.Shapes) -> dict[str, Any]:
    """Returns what `build` asks for, read off the shapes of the tensors of a state dict."""
    return {
        "num_classes": weights.outputs(shapes, "fc" if name.islower() else "linear"),
        "image_size": 32,
        "channels": weights.dimension(shapes, "conv1.weight", 1, otherwise=3),
    }


def from_torch(name: str, state_dict: Mapping[str, np.ndarray]) -> Variables:
    """Maps the authors' state dicts (ResNet*), and torchvision's (resnet*).

    Raises:
        InputError: for a missing, surplus or mis-shaped tensor.
    """
    model = build(name, **form(name, weights.shapes(state_dict)))
    return weights.to_variables(model, state_dict)
