"""State dicts of trained networks from files and from the Hugging Face hub."""

import argparse
import pickle
import warnings
from collections.abc import Mapping
from pathlib import Path, PosixPath
from typing import Any

import jax.numpy as jnp
import numpy as np

from relstab_jax.errors import InputError, reading, reason, some

_PYTORCH_SUFFIXES = (".pth", ".pt", ".th", ".bin", ".ckpt", ".tar")  # the last as in .pth.tar

# Usual names of the state dict in what a training program saves, in order of preference.
_CONTAINERS = ("state_dict", "model_state_dict", "model", "net", "network", "module", "ema")

# What training programs save beside tensors, such as options and accuracies: values without code.
_NUMPY_SCALAR = np.float64().__reduce__()[0]  # the function that unpickles NumPy's numbers
_HARMLESS = [
    argparse.Namespace,
    PosixPath,
    np.dtype,
    _NUMPY_SCALAR,
    (_NUMPY_SCALAR, "numpy.core.multiarray.scalar"),  # its name before NumPy 2
    *(type(np.dtype(kind)) for kind in ("f4", "f8", "i4", "i8", "?")),
]


def read(source: str | Path) -> dict[str, np.ndarray]:
    """Reads a state dict, for `models.from_torch`.

    Args:
        source: one of

            - a `.safetensors` file;
            - a file of PyTorch (`.pth`, `.pt`, `.th`, `.bin`, `.ckpt`, `.pth.tar`) that holds a
              state dict, or a dict with a state dict in it, such as {"state_dict": …, "epoch": …}.
              It needs the extra `torch`, and no code in it is run;
            - "hf:<owner>/<repository>", such as "hf:timm/vgg11.tv_in1k", for `model.safetensors` of
              a repository on the Hugging Face hub, or "hf:<owner>/<repository>/<file>". It is
              downloaded once, and then read from the hub's local cache.

    Returns:
        The tensors by name, in float32 unless they are integers.

    Raises:
        InputError: for a file that does not exist, cannot be fetched or holds no state dict.
    """
    if str(source).startswith("hf:"):
        path = _fetch(str(source).removeprefix("hf:"))
    else:
        path = Path(source).expanduser()
    if not path.is_file():
        raise InputError(f"weights={str(source)!r}: no such file")
    if path.suffix == ".safetensors":
        tensors = _read_safetensors(path)
    elif path.suffix in _PYTORCH_SUFFIXES:
        tensors = _read_pytorch(path)
    else:
        raise InputError(
            f"weights={str(source)!r}: must end in .safetensors, or, as a file of PyTorch, in "
            f"{', '.join(_PYTORCH_SUFFIXES)}"
        )
    return {
        name: x.astype(np.float32, copy=False) if jnp.issubdtype(x.dtype, jnp.floating) else x
        for name, x in tensors.items()
    }


def _fetch(address: str) -> Path:
    """Returns the path in the hub's local cache of "<owner>/<repository>[/<file>]"."""
    try:
        from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url
        from huggingface_hub.errors import LocalEntryNotFoundError
    except ImportError as error:
        raise InputError(
            "weights from the hub need huggingface_hub: pip install 'relstab_jax[pretrained]'"
        ) from error

    owner, _, rest = address.partition("/")
    repository, _, file = rest.partition("/")
    if not (owner and repository):
        raise InputError(f"weights='hf:{address}': must be hf:<owner>/<repository>[/<file>]")
    name, filename = f"{owner}/{repository}", file or "model.safetensors"
    try:
        try:
            return Path(hf_hub_download(name, filename, local_files_only=True))
        except LocalEntryNotFoundError:
            # Fails at once where nobody answers, unlike a download, which retries.
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
    with reading(path, "a safetensors file", "download or save it again"):
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
        reading(path, "a file of PyTorch", "download or save it again"),
        torch.serialization.safe_globals(_HARMLESS),
        warnings.catch_warnings(action="ignore"),  # about how the file was made
    ):
        try:
            saved = torch.load(path, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError as error:
            raise InputError(
                f"{path} holds more than tensors, or is no file of PyTorch, so it is not "
                "unpickled: save only the state_dict() of the network"
            ) from error
        state = state_dict_in(saved)
        return {
            name: (x.detach().float() if x.is_floating_point() else x.detach()).numpy()
            for name, x in state.items()
        }


def state_dict_in(saved: Any) -> Mapping[str, Any]:
    """Finds the state dict, a dict of tensors by name, in what a training program has saved.

    That is the saved dict itself; or a dict in it under a usual name, such as in {"state_dict": …,
    "epoch": …}; or the only dict in it.

    Raises:
        InputError: if there is none, or more than one and none has a usual name.
    """
    if not isinstance(saved, Mapping):
        raise InputError(
            f"the file holds a {type(saved).__name__} instead of a state dict of tensors by name: "
            "save the state_dict() of the network"
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
        f"the file holds {some(saved) or 'nothing'} instead of one state dict of tensors by name: "
        "save only the state_dict() of the network"
    )
