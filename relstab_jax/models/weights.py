"""Trained weights from files and from the Hugging Face hub, and their way into variables."""

import pickle
from collections.abc import Mapping
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import unflatten_dict

from relstab_jax.errors import InputError
from relstab_jax.models.model import Model, Variables, flat

State = Mapping[str, np.ndarray]

# How PyTorch calls the variables of our layers.
_TORCH_NAMES = {"kernel": "weight", "scale": "weight", "mean": "running_mean", "var": "running_var"}


def read(source: str | Path) -> dict[str, np.ndarray]:
    """Reads tensors by name, to be given to `from_torch`.

    Args:
        source: a `.safetensors` file; or a `.pth` or `.pt` file with a state dict, which needs
            PyTorch (the extra `torch`) and is read without unpickling anything but tensors; or
            "hf:<owner>/<repository>" for the `model.safetensors` of a Hugging Face hub repository,
            such as "hf:timm/vgg11.tv_in1k", with another file appended as
            "hf:<owner>/<repository>/<file>". Files of the hub are downloaded once and then read
            from its cache, without a connection too.

    Raises:
        InputError: for a file that does not exist, cannot be fetched or holds something else.
    """
    if str(source).startswith("hf:"):
        path = _fetch(str(source).removeprefix("hf:"))
    else:
        path = Path(source)
    if not path.is_file():
        raise InputError(f"weights={str(source)!r}: no such file")
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    if path.suffix in (".pth", ".pt"):
        return _read_pth(path)
    raise InputError(f"weights={str(source)!r}: must end in .safetensors, .pth or .pt")


def _fetch(address: str) -> Path:
    """Returns the place in the local cache of "<owner>/<repository>[/<file>]"."""
    try:
        from huggingface_hub import hf_hub_download
    except ImportError as error:
        raise InputError(
            "weights from the hub need huggingface_hub: pip install 'relstab_jax[pretrained]'"
        ) from error

    owner, repository, *file = address.split("/", 2) if address.count("/") else ("", "")
    if not (owner and repository):
        raise InputError(f"weights='hf:{address}': must be hf:<owner>/<repository>[/<file>]")
    filename = file[0] if file else "model.safetensors"
    try:
        return Path(hf_hub_download(f"{owner}/{repository}", filename))
    except (OSError, ValueError) as error:  # the hub's own errors are among them
        raise InputError(
            f"cannot fetch {filename} of {owner}/{repository} from the Hugging Face hub, and it is "
            f"not in the local cache: {error}"
        ) from error


def _read_safetensors(path: Path) -> dict[str, np.ndarray]:
    try:
        from safetensors import SafetensorError
        from safetensors.numpy import load_file
    except ImportError as error:
        raise InputError(
            f"{path.name} needs safetensors: pip install 'relstab_jax[pretrained]'"
        ) from error
    try:
        return load_file(path)
    except SafetensorError as error:
        raise InputError(f"{path} is not a safetensors file: {error}") from error


def _read_pth(path: Path) -> dict[str, np.ndarray]:
    try:
        import torch  # pyright: ignore[reportMissingImports]  # an extra
    except ImportError as error:
        raise InputError(
            f"{path.name} needs PyTorch, pip install 'relstab_jax[torch]', "
            "or a conversion to safetensors"
        ) from error
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise InputError(
            f"{path} holds more than tensors, or is no PyTorch file, and is not unpickled: {error}"
        ) from error
    if not isinstance(state, Mapping) or not all(map(torch.is_tensor, state.values())):
        raise InputError(f"{path} holds something else than a state dict of tensors by name")
    return {name: tensor.numpy() for name, tensor in state.items()}


def dimension(state: State, name: str, axis: int, *, otherwise: int) -> int:
    """Returns the size along one axis of a tensor, by which a state dict tells its network's form.

    `otherwise` stands for a tensor that is missing or lacks the axis: `to_variables` says so.
    """
    shape = np.shape(state.get(name, ()))
    return shape[axis] if axis < len(shape) else otherwise


def to_variables(model: Model, state: State) -> Variables:
    """Turns the state dict of the PyTorch twin of `model` into variables.

    The layers bear the names of PyTorch's modules. Convolution filters go from [K, C, F, F] to
    [F, F, C, K], dense weights from [K, C] to [C, K]; the counters `num_batches_tracked`, which
    nothing uses, are left out.

    Raises:
        InputError: that names every missing, surplus and mis-shaped tensor.
    """
    expected = flat(jax.eval_shape(model.init, jax.random.key(0)))
    tensors = {name: x for name, x in state.items() if not name.endswith("num_batches_tracked")}
    variables, wrong = {}, []
    for path, variable in expected.items():
        *module, leaf = path[1:]
        name = ".".join([*module, _TORCH_NAMES.get(leaf, leaf)])
        shape, order = variable.shape, range(variable.ndim)
        if leaf == "kernel":
            order = (2, 3, 1, 0) if variable.ndim == 4 else (1, 0)
            shape = tuple(shape[order.index(axis)] for axis in range(variable.ndim))
        if name not in tensors:
            wrong.append(f"missing {name} {list(shape)}")
            continue
        tensor = tensors.pop(name)
        if np.shape(tensor) != shape:
            wrong.append(f"{name} is {list(np.shape(tensor))} instead of {list(shape)}")
        else:
            variables[path] = jnp.asarray(np.transpose(tensor, order))
    wrong += [f"surplus {name} {list(np.shape(tensor))}" for name, tensor in tensors.items()]
    if wrong:
        raise InputError(f"not the state dict of this network: {'; '.join(wrong)}")
    return unflatten_dict(variables)
