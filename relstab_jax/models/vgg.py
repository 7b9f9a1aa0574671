"""VGG (Simonyan & Zisserman 2015), for CIFAR, for single-channel images and for ImageNet."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from relstab_jax.errors import InputError
from relstab_jax.models import layers, weights
from relstab_jax.models.dropout import Dropout
from relstab_jax.models.model import Model, Variables, from_flax

_WIDTHS = (64, 128, 256, 512, 512)
_DEPTHS = {
    "11": (1, 1, 2, 2, 2),
    "13": (2, 2, 2, 2, 2),
    "16": (2, 2, 3, 3, 3),
    "19": (2, 2, 4, 4, 4),
}

NAMES = tuple(
    f"{vgg}{depth}{norm}"
    for vgg, norms in (("VGG", ("", "bn")), ("vgg", ("", "_bn")))
    for depth in _DEPTHS
    for norm in norms
)

# torchvision's names of the dense layers of timm's checkpoints, such as timm/vgg11.tv_in1k.
_TIMM = {
    "pre_logits.fc1": "classifier.0",
    "pre_logits.fc2": "classifier.3",
    "head.fc": "classifier.6",
}


class VGG(nn.Module):
    """Five stages of 3×3 convolutions with ReLU, a max-pool after each, then dense layers.

    Layers are named as in PyTorch's state dict: "features.{n}", with n counting every convolution,
    batch-norm, ReLU, pooling and padding, and "classifier" or "classifier.{n}".

    Attributes:
        depths: number of convolutions in each stage.
        batch_norm: whether a batch-norm follows each convolution.
        imagenet: whether it is torchvision's form, with three dense layers and dropout after an
            average pooling to 7×7, or the CIFAR form, with one dense layer, whose single-channel
            inputs are padded by 2 pixels of zeros.
        num_classes: number of outputs; 0 leaves the output layer out.
        hidden: whether torchvision's form has the two dense layers before it; without them it ends
            with the last maps, flattened.
    """

    depths: tuple[int, ...]
    batch_norm: bool
    imagenet: bool
    num_classes: int
    hidden: bool

    @nn.compact
    def __call__(
        self, x: Float[Array, "P H W C"], train: bool = False, axis_name: str | None = None
    ) -> Float[Array, "P classes"]:
        """Returns the outputs."""
        norm = partial(layers.BatchNorm, train=train, axis_name=axis_name)
        n = 0
        if not self.imagenet and x.shape[-1] == 1:
            x = jnp.pad(x, ((0, 0), (2, 2), (2, 2), (0, 0)))
            n = 1
        for depth, width in zip(self.depths, _WIDTHS, strict=True):
            for _ in range(depth):
                layer = f"features.{n}"
                x = layers.Conv(width, 3, padding=1, name=layer)(x)
                if self.batch_norm:
                    x = norm(name=f"features.{n + 1}")(x)
                x = layers.activate(self, layer, x)
                n += 3 if self.batch_norm else 2
            x = layers.max_pool(self, f"features.{n}", x, 2, 2)
            n += 1
        if not self.imagenet:
            return layers.output(self, "classifier", layers.flatten(x), self.num_classes)
        if not self.hidden:
            return layers.flatten(x)
        x = layers.flatten(layers.adaptive_average_pool(x, 7))
        for layer in ("classifier.0", "classifier.3"):
            x = layers.activate(self, layer, layers.Dense(4096, name=layer)(x))
            x = Dropout(0.5, train, axis_name)(x)
        return layers.output(self, "classifier.6", x, self.num_classes)


def build(
    name: str, *, num_classes: int, image_size: int, channels: int, hidden: bool | None = None
) -> Model:
    """Makes a VGG for images [P, image_size, image_size, channels].

    Args:
        name: "VGG11" to "VGG19", with "bn" appended or not, for the CIFAR form; "vgg11" to "vgg19",
            with "_bn" appended or not, for torchvision's.
        num_classes: number of outputs; 0 leaves the output layer out.
        image_size: pixels along each axis.
        channels: channels of the images. The CIFAR form pads single-channel images to
            image_size + 4.
        hidden: whether torchvision's form has the two dense layers before the outputs; if not
            given, where there are outputs. Without them `apply` returns the last maps, pooled and
            flattened channel by channel.

    Raises:
        InputError: for images that five poolings reduce to nothing.
    """
    imagenet = name.islower()
    smallest = 28 if channels == 1 and not imagenet else 32
    if image_size < smallest:
        raise InputError(
            f"image_size={image_size}: {name} halves its maps 5 times and needs at "
            f"least {smallest} pixels"
        )
    net = VGG(
        depths=_DEPTHS[name[3:5]],
        batch_norm=name.endswith("bn"),
        imagenet=imagenet,
        num_classes=num_classes,
        hidden=num_classes > 0 if hidden is None else hidden,
    )
    return from_flax(net, image_size=image_size, channels=channels)


def form(name: str, shapes: weights.Shapes) -> dict[str, Any]:
    """Returns what `build` asks for, read off the shapes of the tensors of a state dict."""
    imagenet = name.islower()
    # The padding of single-channel images counts as layer 0.
    padded = not any(tensor.startswith("features.0.") for tensor in shapes)
    return {
        "num_classes": weights.outputs(shapes, "classifier.6" if imagenet else "classifier"),
        "image_size": 32,
        "channels": 1 if padded else weights.dimension(shapes, "features.0.weight", 1, otherwise=3),
        "hidden": imagenet and any(tensor.startswith("classifier.") for tensor in shapes),
    }


def from_torch(name: str, state_dict: Mapping[str, np.ndarray]) -> Variables:
    """Maps the authors' state dicts (VGG*), and torchvision's and timm's (vgg*).

    Layers that have no tensor are left out: the outputs, or all dense layers.

    Raises:
        InputError: for a missing, surplus or mis-shaped tensor.
    """
    state = _in_torchvision_names(state_dict)
    model = build(name, **form(name, weights.shapes(state)))
    return weights.to_variables(model, state)


def _in_torchvision_names(state: weights.State) -> weights.State:
    """Renames the dense layers of timm's VGGs, which are convolutions of 7×7 and 1×1 maps."""
    renamed = {}
    for name, tensor in state.items():
        layer, _, kind = name.rpartition(".")
        if layer in _TIMM:
            name = f"{_TIMM[layer]}.{kind}"
            tensor = tensor.reshape(len(tensor), -1) if kind == "weight" else tensor
        renamed[name] = tensor
    return renamed
