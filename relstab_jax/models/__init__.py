"""Networks as pure functions, made by name.

A family of networks is one module with

- `NAMES`: the names of its networks;
- `build(name, *, num_classes, image_size, channels)`, which makes a `Model`, as `create` does;
- `settings(name, shapes)`, which returns the arguments of `build` that fit a state dict.

To add one, write the module and list it in `_FAMILIES`. (The one-dimensional `simple_cnn` has a
`from_torch` of its own instead of `settings`.)
"""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from relstab_jax.errors import InputError, some
from relstab_jax.models import (
    alexnet,
    densenet,
    efficientnet,
    lenet,
    pytorch,
    resnet,
    simple_cnn,
    vgg,
)
from relstab_jax.models.model import (
    Layers,
    Model,
    Variables,
    as_model,
    kernels,
    shuffled,
    with_statistics_of,
)
from relstab_jax.models.network import Network

__all__ = [
    "Layers",
    "Model",
    "Network",
    "Variables",
    "as_model",
    "create",
    "from_torch",
    "image_networks",
    "kernels",
    "like",
    "names",
    "shuffled",
    "with_statistics_of",
]

_FAMILIES = (simple_cnn, densenet, lenet, alexnet, vgg, resnet, efficientnet)
_FAMILY_OF = {name: family for family in _FAMILIES for name in family.NAMES}


def names() -> list[str]:
    """Returns the names of all networks."""
    return list(_FAMILY_OF)


def image_networks() -> list[str]:
    """Returns the names of the networks for two-dimensional images, which need no options."""
    return [name for name in names() if name not in simple_cnn.NAMES]


def create(name: str, *, num_classes: int, image_size: int, channels: int, **options: Any) -> Model:
    """Makes a network by name.

    Names are case-sensitive: "VGG16" is the form for CIFAR, "vgg16" that of torchvision.

    Args:
        name: one of `names()`.
        num_classes: number of outputs; 0 for a network without its output layer.
        image_size: pixels along each spatial axis of the input.
        channels: channels of the input.
        **options: further arguments of the family's `build`, such as the width of a SimpleCNN.

    Raises:
        InputError: for an unknown name, or an input that the network cannot take.

    Examples:
        >>> import jax
        >>> from relstab_jax import models
        >>> model = models.create("LeNet", num_classes=10, image_size=32, channels=3)
        >>> variables = model.init(jax.random.key(0))
        >>> images = jax.numpy.zeros((4, 32, 32, 3))
        >>> model.apply(variables, images).shape
        (4, 10)
        >>> {layer: f.shape for layer, f in model.features(variables, images).items()}
        {'conv1': (4, 28, 28, 6), 'conv2': (4, 10, 10, 16), 'fc1': (4, 120), 'fc2': (4, 84)}
    """
    return _family(name).build(
        name, num_classes=num_classes, image_size=image_size, channels=channels, **options
    )


def from_torch(name: str, state_dict: Mapping[str, np.ndarray]) -> Variables:
    """Turns the state dict of a PyTorch network into variables of the network `name`.

    Args:
        name: one of `names()`: "VGG16" for weights of the authors' program, which has the form for
            CIFAR, "vgg16" for weights of torchvision.
        state_dict: NumPy arrays by PyTorch's parameter names, as `weights.read` returns them, with
            or without the prefixes of wrappers such as "module." and "_orig_mod.". Without tensors
            of the output layer, the variables are those of a network with num_classes=0.

    Returns:
        The variables, in float32 (float64 under x64), whatever the type of the tensors.

    Raises:
        InputError: for an unknown name; for a missing, surplus or mis-shaped tensor, or one that
            has other than finite floating-point numbers.

    Examples:
        >>> import numpy as np
        >>> from relstab_jax import models
        >>> state_dict = {
        ...     "fcn.0.w": np.zeros((3 * 32**2, 64)),
        ...     "fcn.0.b": np.zeros(64),
        ...     "fcn.1.w": np.zeros((64, 10)),
        ...     "fcn.1.b": np.zeros(10),
        ... }
        >>> variables = models.from_torch("DenseNetL2", state_dict)
        >>> variables["params"]["fcn.1"]["w"].shape
        (64, 10)
    """
    tensors = pytorch.canonical(state_dict)
    if _family(name) is simple_cnn:
        return simple_cnn.from_torch(name, tensors)
    _, variables = _fitting(name, pytorch.shapes_of_tensors(tensors))
    return pytorch.to_variables(variables, tensors)


def like(name: str, variables: Variables, *, image_size: int, channels: int) -> Model:
    """Makes the network `name` that has given variables, with as many outputs as they have.

    Args:
        name: one of `image_networks()`.
        variables: of one network, with or without its output layer.
        image_size: pixels along each spatial axis of the input.
        channels: channels of the input.

    Raises:
        InputError: for an unknown name, an input that the network cannot take, or variables of
            another network.
    """
    shapes = pytorch.shapes_of_variables(variables)
    model, _ = _fitting(name, shapes, image_size=image_size, channels=channels)
    return model


def _family(name: str):
    if name not in _FAMILY_OF:
        raise InputError(f"unknown network {name!r}: use one of {some(names(), at_most=20)}")
    return _FAMILY_OF[name]


def _fitting(name: str, shapes: pytorch.Shapes, **image: int) -> tuple[Model, Variables]:
    """Makes the network `name` whose tensors have given shapes.

    Args:
        name: one of `image_networks()`.
        shapes: of the tensors, by PyTorch's names.
        **image: image_size and channels; by default those that `shapes` suggest.

    Returns:
        The network, and the shapes and types of its variables.

    Raises:
        InputError: if no network of that name has tensors of these shapes.
    """
    model, variables, wrong = _compared(name, shapes, **image)
    if not wrong:
        return model, variables
    for other in names():
        if other != name and _without_case(other) == _without_case(name):
            *_, also_wrong = _compared(other, shapes)
            if not also_wrong:
                raise InputError(
                    f"these are weights of {other!r}, a network of another form than {name!r}: "
                    f"give the name {other!r}"
                )
    of = f" for {image['channels']} channels of {image['image_size']} pixels" if image else ""
    raise InputError(f"not the weights of a {name}{of}: {wrong}")


def _compared(name: str, shapes: pytorch.Shapes, **image: int) -> tuple[Model, Variables, str]:
    """Returns a network, the shapes of its variables, and how these differ from given ones."""
    family = _family(name)
    model = family.build(name, **family.settings(name, shapes) | image)
    variables = jax.eval_shape(model.init, jax.random.key(0))
    expected = pytorch.shapes_of_variables(variables)
    return model, variables, pytorch.differences(expected, shapes)


def _without_case(name: str) -> str:
    """Returns what the names of a network's two forms have in common, as VGG16bn and vgg16_bn."""
    return name.lower().replace("_", "")
