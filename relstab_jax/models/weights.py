"""Trained weights from files and from the Hugging Face hub, and their way into variables."""

import argparse
import pickle
import warnings
from collections import Counter
from collections.abc import Mapping
from pathlib import Path, PosixPath
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import unflatten_dict

from relstab_jax.errors import InputError, reading, reason, some
from relstab_jax.models.model import Model, Variables, flat

State = Mapping[str, np.ndarray]
Shapes = Mapping[str, tuple[int, ...]]

# How PyTorch calls the variables of our layers.
_TORCH_NAMES = {"kernel": "weight", "scale": "weight", "mean": "running_mean", "var": "running_var"}

_PYTORCH = (".pth", ".pt", ".bin", ".ckpt", ".tar")  # the last as in .pth.tar
_CONTAINERS = ("state_dict", "model_state_dict", "model", "net", "network", "module", "ema")
# What training programs save beside tensors, such as options and accuracies: values without code.
_SCALAR = np.float64().__reduce__()[0]  # the function that makes NumPy's numbers anew
_HARMLESS = [
    *(argparse.Namespace, PosixPath, np.dtype),
    *(_SCALAR, (_SCALAR, "numpy.core.multiarray.scalar")),  # its names before and since NumPy 2
    *(type(np.dtype(kind)) for kind in (np.float32, np.float64, np.int32, np.int64, np.bool_)),
]
# What torch.compile, DataParallel, AveragedModel and Lightning put into the names of tensors.
_WRAPPERS = {"_orig_mod", "module", "model", "net", "network"}


def read(source: str | Path) -> dict[str, np.ndarray]:
    """Reads tensors by name, to be given to `from_torch`: in float32, if they are not integers.

    Args:
        source: a `.safetensors` file; or a file of PyTorch (`.pth`, `.pt`, `.bin`, `.ckpt`,
            `.pth.tar`) with a state dict, or with one in a dict, such as {"state_dict": …,
            "epoch": …}, which needs PyTorch (the extra `torch`) and is read without running any
            code in it; or "hf:<owner>/<repository>" for the `model.safetensors` of a Hugging Face
            hub repository, such as "hf:timm/vgg11.tv_in1k", with another file appended as
            "hf:<owner>/<repository>/<file>". Files of the hub are downloaded once and then read
            from its cache, without a connection too.

    Raises:
        InputError: for a file that does not exist, cannot be fetched or holds something else.
    """
    if str(source).startswith("hf:"):
        path = _fetch(str(source).removeprefix("hf:"))
    else:
        path = Path(source).expanduser()
    if not path.is_file():
        raise InputError(f"weights={str(source)!r}: no such file")
    if path.suffix == ".safetensors":
        tensors = _read_safetensors(path)
    elif path.suffix in _PYTORCH:
        tensors = _read_pytorch(path)
    else:
        raise InputError(
            f"weights={str(source)!r}: must end in .safetensors, or, as a file of PyTorch, in "
            f"{', '.join(_PYTORCH)}"
        )
    return {
        name: x.astype(np.float32, copy=False) if jnp.issubdtype(x.dtype, jnp.floating) else x
        for name, x in tensors.items()
    }


def _fetch(address: str) -> Path:
    """Returns the place in the local cache of "<owner>/<repository>[/<file>]"."""
    try:
        from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url
        from huggingface_hub.errors import LocalEntryNotFoundError
    except ImportError as error:
        raise InputError(
            "weights from the hub need huggingface_hub: pip install 'relstab_jax[pretrained]'"
        ) from error

    owner, repository, *file = address.split("/", 2) if address.count("/") else ("", "")
    if not (owner and repository):
        raise InputError(f"weights='hf:{address}': must be hf:<owner>/<repository>[/<file>]")
    name, filename = f"{owner}/{repository}", "".join(file) or "model.safetensors"
    try:
        try:
            return Path(hf_hub_download(name, filename, local_files_only=True))
        except LocalEntryNotFoundError:
            # Asked once: a download asks again and again where nobody answers.
            get_hf_file_metadata(hf_hub_url(name, filename), timeout=10)
            return Path(hf_hub_download(name, filename))
    except Exception as error:  # the hub's own, and those of its network and file libraries
        raise InputError(
            f"cannot fetch {filename} of {name} from the Hugging Face hub, and it is not in the "
            f"local cache ({type(error).__name__}: {reason(error)}): check the name and the "
            "connection, or give a file"
        ) from error


def _read_safetensors(path: Path) -> dict[str, np.ndarray]:
    try:
        from safetensors.numpy import load_file
    except ImportError as error:
        raise InputError(
            f"{path.name} needs safetensors: pip install 'relstab_jax[pretrained]'"
        ) from error
    with reading(path, "a safetensors file", "download or save it anew"):
        return load_file(path)


def _read_pytorch(path: Path) -> dict[str, np.ndarray]:
    try:
        import torch  # pyright: ignore[reportMissingImports]  # an extra
    except ImportError as error:
        raise InputError(
            f"{path.name} needs PyTorch, pip install 'relstab_jax[torch]', "
            "or a conversion to safetensors"
        ) from error
    with (
        reading(path, "a file of PyTorch", "download or save it anew"),
        torch.serialization.safe_globals(_HARMLESS),
        warnings.catch_warnings(action="ignore"),  # of how the file was made
    ):
        try:
            saved = torch.load(path, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError as error:
            raise InputError(
                f"{path} holds more than tensors, or is no file of PyTorch, and is not unpickled: "
                "save the state_dict() of the network alone"
            ) from error
        state = state_dict_in(saved)
        return {
            name: (x.detach().float() if x.is_floating_point() else x.detach()).numpy()
            for name, x in state.items()
        }


def state_dict_in(saved: Any) -> Mapping[str, Any]:
    """Finds the state dict in what a training program has saved: tensors by name.

    It is the dict itself, or one in it, such as in {"state_dict": …, "epoch": …}, under a usual
    name or as the only one.

    Raises:
        InputError: where there is none, or one of several has to be chosen.
    """
    if not isinstance(saved, Mapping):
        raise InputError(
            f"the file holds a single {type(saved).__name__}, something else than a state dict of "
            "tensors by name: save the state_dict() of the network"
        )
    tensors = {
        name: x for name, x in saved.items() if isinstance(name, str) and hasattr(x, "dtype")
    }
    inside = {
        name: x
        for name, x in saved.items()
        if isinstance(x, Mapping) and any(isinstance(key, str) for key in x)
    }
    if tensors and len(tensors) == len(saved):
        return tensors
    for name in _CONTAINERS:
        if inside.get(name):
            return state_dict_in(inside[name])
    if tensors:
        return tensors
    found = [x for x in inside.values() if x and all(hasattr(y, "dtype") for y in x.values())]
    if len(found) == 1:
        return found[0]
    raise InputError(
        "the file holds something else than a state dict of tensors by name: "
        f"{some(saved) or 'nothing'}; save the state_dict() of the network alone"
    )


def unwrapped(state: State) -> dict[str, np.ndarray]:
    """Returns the tensors without what wrappers of a network have put into their names.

    Raises:
        InputError: where two tensors have the same name then.
    """
    names = {
        name: ".".join(part for part in name.split(".") if part not in _WRAPPERS) for name in state
    }
    if twice := [name for name, count in Counter(names.values()).items() if count > 1]:
        raise InputError(
            f"the state dict is of several networks, which all have {some(twice, at_most=2)}: save "
            "the one that is meant"
        )
    return {names[name]: tensor for name, tensor in state.items()}


def shapes(state: State) -> dict[str, tuple[int, ...]]:
    """Returns the shapes of the tensors of a state dict."""
    return {name: np.shape(tensor) for name, tensor in state.items()}


def shapes_in_torch(variables: Variables) -> dict[str, tuple[int, ...]]:
    """Returns the shapes that variables have in the state dict of the PyTorch twin."""
    found = {}
    for path, variable in flat(variables).items():
        name, order = _in_torch(path, variable.ndim)
        found[name] = tuple(variable.shape[order.index(axis)] for axis in range(variable.ndim))
    return found


def _in_torch(path: tuple[str, ...], ndim: int) -> tuple[str, tuple[int, ...]]:
    """Returns how PyTorch calls a variable, and which axes of its tensor the variable's are.

    The layers bear the names of PyTorch's modules. Convolution filters go from [K, C, F, F] to
    [F, F, C, K], dense weights from [K, C] to [C, K].
    """
    *module, leaf = path[1:]
    order = {4: (2, 3, 1, 0), 2: (1, 0)}[ndim] if leaf == "kernel" else tuple(range(ndim))
    return ".".join([*module, _TORCH_NAMES.get(leaf, leaf)]), order


def dimension(shapes: Shapes, name: str, axis: int, *, otherwise: int) -> int:
    """Returns the size along one axis of a tensor, by which a state dict tells its network's form.

    `otherwise` stands for a tensor that is missing or lacks the axis: `to_variables` says so.
    """
    shape = shapes.get(name, ())
    return shape[axis] if axis < len(shape) else otherwise


def outputs(shapes: Shapes, layer: str, kernel: str = "weight", axis: int = 0) -> int:
    """Returns the number of outputs of a layer, 0 where none of its tensors is there."""
    if not any(name.startswith(f"{layer}.") for name in shapes):
        return 0
    return dimension(shapes, f"{layer}.{kernel}", axis, otherwise=10)


def differences(expected: Shapes, found: Shapes) -> str:
    """Says how two state dicts differ: the first few tensors, and how many more; else nothing."""
    kinds = [
        [f"missing {name} {list(expected[name])}" for name in expected if name not in found],
        [
            f"{name} is {list(found[name])} instead of {list(expected[name])}"
            for name in expected
            if found.get(name, expected[name]) != expected[name]
        ],
        [f"surplus {name} {list(found[name])}" for name in found if name not in expected],
    ]
    kinds = [kind for kind in kinds if kind]
    return "; ".join(some(kind, at_most=4 // len(kinds)) for kind in kinds)


def to_variables(model: Model, state: State) -> Variables:
    """Turns the state dict of the PyTorch twin of `model` into variables.

    Surplus tensors of one number, such as `num_batches_tracked` and AveragedModel's `n_averaged`,
    are counters that nothing uses; they are left out.

    Raises:
        InputError: that names the first missing, surplus and mis-shaped tensors, or one that has
            values that are not finite numbers.
    """
    expected = jax.eval_shape(model.init, jax.random.key(0))
    names = shapes_in_torch(expected)
    given = {name: x for name, x in state.items() if name in names or np.size(x) != 1}
    if wrong := differences(names, shapes(given)):
        raise InputError(f"not the state dict of this network: {wrong}")
    variables = {}
    for path, variable in flat(expected).items():
        name, order = _in_torch(path, variable.ndim)
        tensor = np.asarray(given[name])
        if not jnp.issubdtype(tensor.dtype, jnp.floating):
            raise InputError(f"{name} is {tensor.dtype}: weights are floating-point numbers")
        tensor = np.transpose(tensor.astype(variable.dtype, copy=False), order)
        if not np.isfinite(tensor).all():
            raise InputError(f"{name} has values that are not finite: train or save it anew")
        variables[path] = jnp.asarray(tensor)
    return unflatten_dict(variables)
