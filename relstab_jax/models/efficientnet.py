"""EfficientNet-B0 (Tan & Le 2019), with the stem of stride 1 of its CIFAR version."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import flax.linen as nn
import numpy as np
from jaxtyping import Array, Float

from relstab_jax.models import layers, weights
from relstab_jax.models.dropout import Dropout
from relstab_jax.models.model import Model, Variables, from_flax

NAMES = ("EfficientNetB0",)

# (expansion, channels, blocks, filter size, stride of the first block) of each stage.
_STAGES = (
    (1, 16, 1, 3, 1),
    (6, 24, 2, 3, 2),
    (6, 40, 2, 5, 2),
    (6, 80, 3, 3, 2),
    (6, 112, 3, 5, 1),
    (6, 192, 4, 5, 2),
    (6, 320, 1, 3, 1),
)


class SqueezeExcite(nn.Module):
    """Multiplies each channel by a number in (0, 1) that depends on the means of all of them."""

    squeezed: int

    @nn.compact
    def __call__(self, x: Float[Array, "P H W C"]) -> Float[Array, "P H W C"]:
        """Returns the rescaled maps."""
        mean = x.mean(axis=(1, 2), keepdims=True)
        squeezed = nn.swish(layers.Conv(self.squeezed, 1, name="se1")(mean))
        return x * nn.sigmoid(layers.Conv(x.shape[-1], 1, name="se2")(squeezed))


class Block(nn.Module):
    """1×1 expansion, depthwise convolution, squeeze-excite, 1×1 projection, around them a skip.

    Attributes:
        expansion: channels inside the block, as a multiple of those of its input. At 1 the
            expansion is left out, though its parameters exist, as in the PyTorch original.
        channels: channels of the output.
        filter_size: of the depthwise convolution.
        stride: of the depthwise convolution.
        drop_connect: probability that the block is skipped in training, example by example, where
            input and output have the same shape.
        norm: makes a batch-norm from its name.
        drop: makes a dropout from its probability.
    """

    expansion: int
    channels: int
    filter_size: int
    stride: int
    drop_connect: float
    norm: Any
    drop: Any

    @nn.compact
    def __call__(self, x: Float[Array, "P H W C"]) -> Float[Array, "P H_out W_out K"]:
        """Returns the representation after the projection and the skip, without activation."""
        inside = self.expansion * x.shape[-1]
        expand = layers.Conv(inside, 1, use_bias=False, name="conv1")
        if self.expansion == 1:
            self.norm(name="bn1", train=False)(expand(x))
            y = x
        else:
            y = layers.activate(self, "conv1", self.norm(name="bn1")(expand(x)), nn.swish)
        F = self.filter_size
        y = layers.Conv(
            inside, F, self.stride, F // 2, use_bias=False, depthwise=True, name="conv2"
        )(y)
        y = layers.activate(self, "conv2", self.norm(name="bn2")(y), nn.swish)
        y = SqueezeExcite(x.shape[-1] // 4, name="se")(y)
        y = layers.Conv(self.channels, 1, use_bias=False, name="conv3")(y)
        y = self.norm(name="bn3")(y)
        if x.shape == y.shape:
            y = x + self.drop(self.drop_connect, whole_examples=True)(y)
        return layers.activate(self, "conv3", y, function=lambda y: y)


class EfficientNet(nn.Module):
    """A convolution, seven stages of blocks, the mean over space, dropout and a dense layer.

    Layers are named as in PyTorch's state dict. The last convolution of a block has no activation:
    its representation is the output of the block. The gates of squeeze-excite do not show.

    Attributes:
        num_classes: number of outputs; 0 leaves the output layer out.
        drop_connect: drop-connect probability that the blocks approach, growing linearly from 0.
        dropout: dropout probability before the dense layer.
    """

    num_classes: int
    drop_connect: float
    dropout: float

    @nn.compact
    def __call__(
        self, x: Float[Array, "P H W C"], train: bool = False, axis_name: str | None = None
    ) -> Float[Array, "P classes"]:
        """Returns the outputs."""
        norm = partial(layers.BatchNorm, train=train, axis_name=axis_name)
        drop = partial(Dropout, train=train, axis_name=axis_name)
        x = layers.Conv(32, 3, padding=1, use_bias=False, name="conv1")(x)
        x = layers.activate(self, "conv1", norm(name="bn1")(x), nn.swish)
        total = sum(blocks for _, _, blocks, _, _ in _STAGES)
        n = 0
        for expansion, channels, blocks, filter_size, stride in _STAGES:
            for block in range(blocks):
                x = Block(
                    expansion,
                    channels,
                    filter_size,
                    stride if block == 0 else 1,
                    self.drop_connect * n / total,
                    norm,
                    drop,
                    name=f"layers.{n}",
                )(x)
                n += 1
        x = layers.mean_pool(self, "avgpool", x)
        x = drop(self.dropout)(x)
        return layers.output(self, "linear", x, self.num_classes)


def build(
    name: str,
    *,
    num_classes: int,
    image_size: int,
    channels: int,
    drop_connect: float = 0.2,
    dropout: float = 0.2,
) -> Model:
    """Makes an EfficientNet for images [P, image_size, image_size, channels].

    Args:
        name: "EfficientNetB0".
        num_classes: number of outputs; 0 leaves the output layer out.
        image_size: pixels along each axis.
        channels: channels of the images.
        drop_connect: drop-connect probability; block n of N has n/N of it. The authors' program
            leaves out the count of the blocks, so that 0 is what it computes.
        dropout: dropout probability before the dense layer.
    """
    net = EfficientNet(num_classes, drop_connect, dropout)
    return from_flax(net, image_size=image_size, channels=channels)


def form(name: str, shapes: weights.Shapes) -> dict[str, Any]:
    """Returns what `build` asks for, read off the shapes of the tensors of a state dict."""
    return {
        "num_classes": weights.outputs(shapes, "linear"),
        "image_size": 32,
        "channels": weights.dimension(shapes, "conv1.weight", 1, otherwise=3),
    }


def from_torch(name: str, state_dict: Mapping[str, np.ndarray]) -> Variables:
    """Maps the authors' state dict.

    Raises:
        InputError: for a missing, surplus or mis-shaped tensor.
    """
    model = build(name, **form(name, weights.shapes(state_dict)))
    return weights.to_variables(model, state_dict)
