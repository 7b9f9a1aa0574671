"""Networks of Equinox."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import jax
from jax.tree_util import keystr, tree_flatten_with_path
from jaxtyping import Array, PyTree

from relstab_jax.adapters import records
from relstab_jax.errors import InputError
from relstab_jax.models.model import shuffled
from relstab_jax.models.network import Network


def from_equinox(
    module: Any, call: Callable[[Any, Array], Any] = lambda module, image: module(image)
) -> Network:
    """Makes a `Network` of an Equinox module, which takes one image [C, size, size].

    Its layers are the outputs of all its submodules, by their paths, such as "layers.0.conv", and,
    last, "output". Shuffled are the weights with four axes, [C_out, C_in, F, F].

    Args:
        module: in inference mode (`eqx.nn.inference_mode`).
        call: (module, image) -> output, where the module takes more than the image, such as
            `lambda module, image: module(image, state)[0]`.

    Raises:
        InputError: for a module in training mode.
    """
    import equinox as eqx

    for path, part in _modules(module):
        if getattr(part, "inference", True) is False:
            raise InputError(
                f"{path or type(part).__name__} is in training mode: give "
                "eqx.nn.inference_mode(network)"
            )
    variables, rest = eqx.partition(module, eqx.is_array)

    def features(variables: PyTree, images: Array, layers: tuple[str, ...]) -> Mapping[str, Array]:
        def of_image(image: Array) -> Mapping[str, Array]:
            found: records.Records = []
            copy = eqx.combine(variables, rest)
            for path, part in list(_modules(copy)):
                if callable(part):
                    records.record(part, path, found)
            call(copy, image)
            return records.named(found, layers)

        return jax.vmap(of_image)(images.transpose(0, 3, 1, 2))

    select = records.selecting(features)
    return Network(
        select(("*",)),
        variables,
        type(module).__name__,
        partial(shuffled, axis=1),
        channel_axis=1,
        select=select,
    )


def _modules(module: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Finds a module and all modules in it, with their paths."""
    import equinox as eqx

    yield path, module
    inside = tree_flatten_with_path(
        module, is_leaf=lambda part: part is not module and isinstance(part, eqx.Module)
    )[0]
    for inner, part in inside:
        if isinstance(part, eqx.Module):
            name = keystr(inner, simple=True, separator=".")
            yield from _modules(part, ".".join(filter(None, (path, name))))
