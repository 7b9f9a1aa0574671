"""EfficientNet-B0 (Tan & Le 2019) for CIFAR: its first convolution has stride 1."""

from functools import partial
from typing import Any

import flax.linen as nn
from jaxtyping import Array, Float

from relstab_jax.models import features, layers, pytorch
from relstab_jax.models.model import Model, as_model

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
    """Multiplies each channel by a number in (0, 1), computed from the means of all channels.

    Attributes:
        squeezed: number of hidden neurons.
    """

    squeezed: int

    @nn.compact
    def __call__(self, x: Float[Array, "P H W C"]) -> Float[Array, "P H W C"]:
        """Returns the rescaled maps."""
        mean = x.mean(axis=(1, 2), keepdims=True)
        squeezed = nn.swish(layers.Conv(self.squeezed, 1, name="se1")(mean))
        return x * nn.sigmoid(layers.Conv(x.shape[-1], 1, name="se2")(squeezed))


class Block(nn.Module):
    """1×1 expansion, depthwise convolution, squeeze-excite, 1×1 projection, and a skip connection.

    Attributes:
        expansion: channels inside the block, as a multiple of those of its input. At 1 there is no
            expansion, although its parameters exist, as in the authors' PyTorch program.
        channels: channels of the output.
        filter_size: of the depthwise convolution.
        stride: of the depthwise convolution.
        drop_connect: probability that an example skips the block in training, where input and
            output have the same shape.
        norm: makes a batch-norm with a given name.
        drop: makes a dropout with a given probability.
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
        """Returns the projection plus the input where shapes agree, without activation."""
        inside = self.expansion * x.shape[-1]
        expand = layers.Conv(inside, 1, use_bias=False, name="conv1")
        if self.expansion == 1:
            self.norm(name="bn1", train=False)(expand(x))
            y = x
        else:
            y = features.activate(self, "conv1", self.norm(name="bn1")(expand(x)), nn.swish)
        F = self.filter_size
        y = layers.Conv(
            inside, F, self.stride, F // 2, use_bias=False, depthwise=True, name="conv2"
        )(y)
        y = features.activate(self, "conv2", self.norm(name="bn2")(y), nn.swish)
        y = SqueezeExcite(x.shape[-1] // 4, name="se")(y)
        y = layers.Conv(self.channels, 1, use_bias=False, name="conv3")(y)
        y = self.norm(name="bn3")(y)
        if x.shape == y.shape:
            y = x + self.drop(self.drop_connect, whole_examples=True)(y)
        return features.activate(self, "conv3", y, function=lambda y: y)


class EfficientNet(nn.Module):
    """A convolution, seven stages of blocks, the mean over space, dropout and a dense layer.

    Layers are named as in PyTorch's state dict. The last convolution of a block has no activation:
    its representation is the output of the block. Squeeze-excite is not among the features.

    Attributes:
        num_classes: number of outputs; 0 for a network without its output layer.
        drop_connect: p; block n = 0, 1, … of N has the drop-connect probability p · n / N.
    """

    num_classes: int
    drop_connect: float

    @nn.compact
    def __call__(
        self, x: Float[Array, "P H W C"], train: bool = False, axis_name: str | None = None
    ) -> Float[Array, "P classes"]:
        """Returns the outputs."""
        norm = partial(layers.BatchNorm, train=train, axis_name=axis_name)
        drop = partial(layers.Dropout, train=train, axis_name=axis_name)
        x = layers.Conv(32, 3, padding=1, use_bias=False, name="conv1")(x)
        x = features.activate(self, "conv1", norm(name="bn1")(x), nn.swish)
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
        x = features.mean_pool(self, "avgpool", x)
        x = drop(0.2)(x)
        return features.output(self, "linear", x, self.num_classes)


def build(
    name: str, *, num_classes: int, image_size: int, channels: int, drop_connect: float = 0.2
) -> Model:
    """Makes "EfficientNetB0"; `drop_connect` is as of `EfficientNet`.

    (The authors' program does not count the blocks, so it computes what drop_connect=0 does.)
    """
    net = EfficientNet(num_classes, drop_connect)
    return as_model(net, image_size=image_size, channels=channels)


def settings(name: str, shapes: pytorch.Shapes) -> dict[str, Any]:
    """Returns the arguments of `build` for a network whose tensors have these shapes."""
    return {
        "num_classes": pytorch.outputs(shapes, "linear"),
        "image_size": 32,
        "channels": pytorch.dimension(shapes, "conv1.weight", 1, default=3),
    }
