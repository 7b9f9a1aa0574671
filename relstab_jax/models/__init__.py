"""Networks as pure functions, made by name.

A network family is one file with ``NAMES``, ``build``, ``form`` and ``from_torch``; adding one is
that file and its place in `_FAMILIES`.
"""

from collections.abc import Mapping

import jax
import numpy as np

from relstab_jax.errors import InputError, some
from relstab_jax.models import (
    alexnet,
    densenet,
    efficientnet,
    lenet,
    resnet,
    simple_cnn,
    vgg,
    weights,
)
from relstab_jax.models.model import Features, Model, Variables, from_flax, kernels, shuffled

__all__ = [
    "Features",
    "Model",
    "Variables",
    "create",
    "from_flax",
    "from_torch",
    "image_networks",
    "kernels",
    "like",
    "names",
    "shuffled",
]

_FAMILIES = (simple_cnn, densenet, lenet, alexnet, vgg, resnet, efficientnet)
_FAMILY_OF = {name: family for family in _FAMILIES for name in family.NAMES}


def names() -> list[str]:
    """Returns the names that `create` knows."""
    return list(_FAMILY_OF)


def image_networks() -> list[str]:
    """Returns those of two-dimensional images, which need no options."""
    return [name for name in names() if name not in simple_cnn.NAMES]


def _family(name: str):
    if name not in _FAMILY_OF:
        raise InputError(f"unknown network {name!r}: use one of {some(names(), at_most=20)}")
    return _FAMILY_OF[name]


def create(name: str, *, num_classes: int, image_size: int, channels: int, **options) -> Model:
    """Makes the network `name`.

    Args:
        name: one of `names()`.
        num_classes: number of outputs; 0 for a network without its output layer.
        image_size: pixels along each spatial axis of the input.
        channels: channels of the input.
        **options: what the family asks for beside these, such as the width of a SimpleCNN.

    Raises:
        InputError: for an unknown name, or an input that the network cannot take.
    """
    return _family(name).build(
        name, num_classes=num_classes, image_size=image_size, channels=channels, **options
    )


def from_torch(name: str, state_dict: Mapping[str, np.ndarray]) -> Variables:
    """Turns the state dict of the PyTorch twin of the network `name` into its variables.

    Args:
        name: one of `names()`.
        state_dict: NumPy arrays by PyTorch's parameter names, as `weights.read` returns them, with
            or without the prefixes of wrappers such as "module." and "_orig_mod.". Where those of
            the output layer are missing, so it is in the network.

    Returns:
        The variables, in float32 (float64 under x64), whatever the type of the tensors.

    Raises:
        InputError: for an unknown name, or a missing, surplus or mis-shaped tensor.
    """
    return _family(name).from_torch(name, weights.unwrapped(state_dict))


def like(name: str, variables: Variables, *, image_size: int, channels: int) -> Model:
    """Makes the network `name` as it has to be for variables: with as many outputs as they have.

    Args:
        name: one of `names()`, but SimpleCNN.
        variables: of one network, without its output layer where that has been left out.
        image_size: pixels along each spatial axis of the input.
        channels: channels of the input.

    Raises:
        InputError: for an unknown name, an input that the network cannot take, or variables of
            another network.
    """
    shapes = weights.shapes_in_torch(variables)
    family = _family(name)
    form = family.form(name, shapes) | {"image_size": image_size, "channels": channels}
    model = family.build(name, **form)
    expected = weights.shapes_in_torch(jax.eval_shape(model.init, jax.random.key(0)))
    if wrong := weights.differences(expected, shapes):
        raise InputError(
            f"not the weights of a {name} for {channels} channels of {image_size} pixels: {wrong}"
        )
    return model
