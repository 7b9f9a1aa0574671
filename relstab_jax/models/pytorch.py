"""PyTorch's state dicts, and the variables that correspond to them.

A state dict maps names of tensors such as "layer1.0.conv1.weight" to arrays. Our layers have the
names of PyTorch's modules, so the names of the tensors follow from the paths of the variables.
"""

from collections.abc import Mapping, Sequence

import jax.numpy as jnp
import numpy as np
from flax.traverse_util import unflatten_dict

from relstab_jax.errors import InputError, some
from relstab_jax.models.model import Variables, flat

StateDict = Mapping[str, np.ndarray]
Shapes = Mapping[str, tuple[int, ...]]

# What torch.compile, DataParallel, AveragedModel and Lightning put into the names of tensors.
_WRAPPERS = {"_orig_mod", "module", "model", "net", "network"}

# The dense layers of timm's VGGs, such as timm/vgg11.tv_in1k, and their names in torchvision.
_TIMM_VGG = {
    "pre_logits.fc1": "classifier.0",
    "pre_logits.fc2": "classifier.3",
    "head.fc": "classifier.6",
}

# PyTorch's names of the variables of our layers.
_TORCH_NAMES = {"kernel": "weight", "scale": "weight", "mean": "running_mean", "var": "running_var"}


def canonical(state_dict: StateDict) -> dict[str, np.ndarray]:
    """Returns a state dict with the names that the authors and torchvision give its tensors.

    Removes the prefixes of wrappers, and renames the dense layers of timm's VGGs, of which it
    flattens the first, a convolution of 7×7 maps.

    Raises:
        InputError: if two tensors end up with the same name.
    """
    found = {}
    for name, tensor in state_dict.items():
        name = ".".join(part for part in name.split(".") if part not in _WRAPPERS)
        layer, _, kind = name.rpartition(".")
        if layer in _TIMM_VGG:
            name = f"{_TIMM_VGG[layer]}.{kind}"
            tensor = tensor.reshape(len(tensor), -1) if kind == "weight" else tensor
        if name in found:
            raise InputError(
                f"the state dict holds several networks, which all have {name}: save only the one "
                "to use"
            )
        found[name] = tensor
    return found


def shapes_of_tensors(state_dict: StateDict) -> dict[str, tuple[int, ...]]:
    """Returns the shapes of the tensors of a state dict."""
    return {name: np.shape(tensor) for name, tensor in state_dict.items()}


def shapes_of_variables(variables: Variables) -> dict[str, tuple[int, ...]]:
    """Returns the shapes that variables have in the corresponding state dict."""
    found = {}
    for path, variable in flat(variables).items():
        name, axes = _in_torch(path, variable.ndim)
        found[name] = tuple(variable.shape[axis] for axis in np.argsort(axes))
    return found


def _in_torch(path: tuple[str, ...], ndim: int) -> tuple[str, tuple[int, ...]]:
    """Returns the name of the tensor of a variable, and which of its axes the variable's are.

    Convolution filters go from [K, C, F, F] to [F, F, C, K], dense weights from [K, C] to [C, K].
    """
    *module, leaf = path[1:]
    moved = leaf == "kernel" and ndim > 1
    axes = (*range(2, ndim), 1, 0) if moved else tuple(range(ndim))
    return ".".join([*module, _TORCH_NAMES.get(leaf, leaf)]), axes


def dimension(shapes: Shapes, name: str, axis: int, *, default: int) -> int:
    """Returns the size of a tensor along an axis, or `default` if there is no such tensor or axis.

    What is missing is reported later, by `differences`.
    """
    shape = shapes.get(name, ())
    return shape[axis] if axis < len(shape) else default


def outputs(shapes: Shapes, layer: str, bias: str = "bias") -> int:
    """Returns the number of outputs of a layer, the length of its bias; 0 without the layer."""
    return dimension(shapes, f"{layer}.{bias}", 0, default=10) if has(shapes, layer) else 0


def head(shapes: Shapes, hidden: Sequence[str], output: str) -> dict[str, int]:
    """Returns which of its dense layers a network has: all up to the last that has any tensor.

    Args:
        shapes: of the tensors.
        hidden: names of its hidden dense layers, first layer first.
        output: name of the output layer.

    Returns:
        {"num_classes": number of outputs, "hidden": number of hidden layers}.
    """
    num_classes = outputs(shapes, output)
    present = [n for n, layer in enumerate(hidden, start=1) if has(shapes, layer)]
    return {
        "num_classes": num_classes,
        "hidden": len(hidden) if num_classes else max(present, default=0),
    }


def has(shapes: Shapes, layer: str) -> bool:
    """Returns whether a layer has any tensor."""
    return any(name.startswith(f"{layer}.") for name in shapes)


def differences(expected: Shapes, found: Shapes) -> str:
    """Describes how the tensors of two state dicts differ; "" if they agree.

    The text has the first few missing, mis-shaped and surplus tensors, and how many more there are.
    Surplus tensors of one number do not count: they are counters that nothing uses, such as
    `num_batches_tracked`, or `n_averaged` of AveragedModel.
    """
    missing = [f"missing {name} {list(expected[name])}" for name in expected if name not in found]
    misshaped = [
        f"{name} is {list(found[name])} instead of {list(expected[name])}"
        for name in expected
        if name in found and found[name] != expected[name]
    ]
    surplus = [
        f"surplus {name} {list(shape)}"
        for name, shape in found.items()
        if name not in expected and np.prod(shape) != 1
    ]
    kinds = [kind for kind in (missing, misshaped, surplus) if kind]
    return "; ".join(some(kind, at_most=4 // len(kinds)) for kind in kinds)


def to_variables(expected: Variables, state_dict: StateDict) -> Variables:
    """Turns a state dict into variables.

    Args:
        expected: the variables of the network, of which only paths and shapes are used.
        state_dict: its tensors, without `differences` from those.

    Raises:
        InputError: for a tensor that has other than finite floating-point numbers.
    """
    variables = {}
    for path, variable in flat(expected).items():
        name, axes = _in_torch(path, variable.ndim)
        variables[path] = jnp.asarray(as_float(name, state_dict[name]).transpose(axes))
    return unflatten_dict(variables)


def as_float(name: str, tensor: np.ndarray) -> np.ndarray:
    """Returns a tensor in float32 (float64 under x64).

    Raises:
        InputError: if it has other than finite floating-point numbers.
    """
    tensor = np.asarray(tensor)
    if not jnp.issubdtype(tensor.dtype, jnp.floating):
        raise InputError(f"{name} is {tensor.dtype}: weights are floating-point numbers")
    tensor = tensor.astype(jnp.result_type(float), copy=False)
    if not np.isfinite(tensor).all():
        raise InputError(f"{name} has values that are not finite: train or save it again")
    return tensor
