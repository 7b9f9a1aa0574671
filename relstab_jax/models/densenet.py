"""Fully connected networks in the NTK parametrisation (Jacot et al. 2018).

The paper calls them DenseNetL2, L4 and L6. They are not the densely connected convolutional
networks of Huang et al. 2017, which are also called DenseNet.
"""

import math
from typing import Any

import flax.linen as nn
from jaxtyping import Array, Float

from relstab_jax.models import features, layers, pytorch
from relstab_jax.models.model import Model, as_model

_DEPTHS = {"DenseNetL2": 2, "DenseNetL4": 4, "DenseNetL6": 6}
NAMES = tuple(_DEPTHS)

_WIDTH = 64


class ScaledDense(nn.Module):
    """A dense layer x · w / √d + b, or x · w / d for the last, with d the length of x.

    w and b are N(0, 1) at initialisation. The last layer has an unused b, as the authors' PyTorch
    program has.

    Attributes:
        features: K, number of neurons.
        last: whether it is the last layer.
    """

    features: int
    last: bool

    @nn.compact
    def __call__(self, x: Float[Array, "P d"]) -> Float[Array, "P K"]:
        """Returns the pre-activations."""
        d = x.shape[-1]
        normal = nn.initializers.normal(1.0)
        w = self.param("w", normal, (d, self.features))
        b = self.param("b", normal, (self.features,))
        return x @ w / d if self.last else x @ w / math.sqrt(d) + b[None]


class DenseNet(nn.Module):
    """A fully connected network: layers of 64 neurons with ReLU, and a linear output layer.

    Attributes:
        depth: number of layers, with the output layer.
        num_classes: number of outputs; 0 for a network without its output layer.
    """

    depth: int
    num_classes: int

    @nn.compact
    def __call__(
        self, x: Float[Array, "P H W C"], train: bool = False, axis_name: str | None = None
    ) -> Float[Array, "P classes"]:
        """Returns the outputs."""
        x = layers.flatten(x)
        for n in range(self.depth - 1):
            z = ScaledDense(_WIDTH, last=False, name=f"fcn.{n}")(x)
            x = features.activate(self, f"fcn.{n}", z)
        if self.num_classes == 0:
            return x
        layer = _output_layer(self.depth)
        x = ScaledDense(self.num_classes, last=True, name=layer)(x)
        features.sow(self, f"{layer}:pre", x)
        return x


def _output_layer(depth: int) -> str:
    return f"fcn.{depth - 1}"


def build(name: str, *, num_classes: int, image_size: int, channels: int) -> Model:
    """Makes "DenseNetL2", "DenseNetL4" or "DenseNetL6", by the number of layers."""
    return as_model(DenseNet(_DEPTHS[name], num_classes), image_size=image_size, channels=channels)


def settings(name: str, shapes: pytorch.Shapes) -> dict[str, Any]:
    """Returns the arguments of `build` for a network whose tensors have these shapes."""
    return {
        "num_classes": pytorch.outputs(shapes, _output_layer(_DEPTHS[name]), bias="b"),
        # The variables depend only on the number of values of an image: one pixel will do.
        "image_size": 1,
        "channels": pytorch.dimension(shapes, "fcn.0.w", 0, default=3 * 32**2),
    }
