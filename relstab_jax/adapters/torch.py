"""Networks of PyTorch, computed by PyTorch itself."""

import functools
import importlib
from collections import OrderedDict
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Key

from relstab_jax.adapters.records import Records, of_batch, placed
from relstab_jax.errors import InputError
from relstab_jax.measures.representations import matches
from relstab_jax.models.model import orders
from relstab_jax.models.network import Network


def from_torch_module(module: Any) -> Network:
    """Makes a `Network` of a `torch.nn.Module`, which PyTorch computes on the module's device.

    Its layers are the outputs of all its submodules, by their names, such as "layer1.0.conv1", and,
    last, "output". Shuffled are the filters of its two-dimensional convolutions. Arrays pass
    between JAX and PyTorch without a copy where both are on one device.

    Args:
        module: in evaluation mode, is called on images [b, C, size, size], which it gets from
            [b, size, size, C]. It stays as it is.

    Raises:
        InputError: for a module in training mode.
    """
    torch: Any = importlib.import_module("torch")  # type checkers take `import` for this file
    for name, part in module.named_modules():
        if part.training:
            raise InputError(
                f"{name or type(module).__name__} is in training mode: call eval() of the network "
                "first"
            )
    convolutions = {
        name: part for name, part in module.named_modules() if isinstance(part, torch.nn.Conv2d)
    }
    device = next(iter(module.state_dict().values()), torch.empty(0)).device

    def forward(variables: Mapping[str, Any], images: Array, kept: set[int] | None) -> Records:
        """Returns the records of all modules, with None for outputs at places that are not kept."""
        records: Records = []

        def record(name: str, part: Any, inputs: Any, output: Any) -> None:
            del part, inputs
            records.append((name, output if kept is None or len(records) in kept else None))

        x = torch.from_dlpack(images).to(device).permute(0, 3, 1, 2).contiguous()
        hooks = [
            part.register_forward_hook(partial(record, name))
            for name, part in module.named_modules()
        ]
        in_place = [part for part in module.modules() if getattr(part, "inplace", False)]
        try:
            for part in in_place:  # it would overwrite what another has returned
                part.inplace = False
            with torch.no_grad():
                torch.func.functional_call(module, dict(variables), (x,))
        finally:
            for hook in hooks:
                hook.remove()
            for part in in_place:
                part.inplace = True
        return records

    @functools.cache
    def select(layers: tuple[str, ...]) -> Callable[..., Mapping[str, Array]]:
        kept: set[int] | None = None  # known after the first call

        def recorded(variables: Mapping[str, Any], images: Array) -> Records:
            nonlocal kept
            records = forward(variables, images, kept)
            if kept is None:
                kept = {
                    place
                    for name, (places, _) in placed(records, layers).items()
                    if matches(name, layers)
                    for place in places
                }
            return records

        def features(variables: Mapping[str, Any], images: Array) -> Mapping[str, Array]:
            found = of_batch(recorded, variables, images, layers)
            return OrderedDict((name, _to_jax(x)) for name, x in found.items())

        return features

    def shuffled(key: Key[Array, ""], variables: Mapping[str, Any]) -> Mapping[str, Any]:
        channels = {name: part.weight.shape[1] for name, part in convolutions.items()}
        order = {f"{name}.weight": np.array(o) for name, o in orders(key, channels).items()}
        return {
            name: x[:, torch.from_numpy(order[name]).to(x.device)] if name in order else x
            for name, x in variables.items()
        }

    return Network(
        select(("*",)),
        dict(module.state_dict()),
        type(module).__name__,
        shuffled,
        channel_axis=1,
        traced=False,
        select=select,
    )


def _to_jax(x: Any) -> Array:
    """Returns a tensor as a JAX array, without a copy where JAX has its device."""
    on_jax = x.device.type == "cpu" or jax.default_backend() == "gpu"
    return jax.dlpack.from_dlpack(x.contiguous() if on_jax else x.contiguous().cpu())
