"""Representations of a network: any pytree of arrays, named by their paths."""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import DictKey, keystr, tree_flatten_with_path
from jaxtyping import Array, Float, PyTree

from relstab_jax.errors import InputError


def matches(layer: Any, patterns: Iterable[str]) -> bool:
    """Returns whether a layer has one of some names, or matches a pattern, such as "conv*"."""
    return any(fnmatchcase(str(layer), pattern) for pattern in patterns)


def named(representations: PyTree) -> OrderedDict[Any, Array]:
    """Names the representations in a pytree by their paths, in its order.

    Returns:
        {layer: f}; the layer is the key in a mapping, or, for other pytrees, the path, such as
        "blocks/0/conv"; it is "output" where there is one array alone.

    Raises:
        InputError: where two have one name, or something is no array.
    """

    def ordered(tree: PyTree) -> PyTree:  # JAX sorts the keys of a dict, but not of an OrderedDict
        def of_node(node: Any) -> Any:
            if not isinstance(node, Mapping):
                return node
            return OrderedDict((key, ordered(value)) for key, value in node.items())

        return jax.tree.map(of_node, tree, is_leaf=lambda node: isinstance(node, Mapping))

    found = OrderedDict()
    for path, f in tree_flatten_with_path(ordered(representations))[0]:
        name: Any = keystr(path, simple=True, separator="/") or "output"
        if len(path) == 1 and isinstance(path[0], DictKey):
            name = path[0].key
        if name in found:
            raise InputError(f"features_fn returns two representations {name!r}: rename one")
        if not isinstance(f, jax.Array | np.ndarray):
            raise InputError(
                f"features_fn returns a {type(f).__name__} as {name!r}, and must return arrays "
                "[P, ...] alone"
            )
        found[name] = f
    if not found:
        raise InputError("features_fn returns no representation: it must return arrays [P, ...]")
    return found


def shapes(
    features_fn: Callable[..., PyTree],
    network: PyTree | None,
    image: Float[np.ndarray, "1 *x"],
    traced: bool = True,
) -> dict[Any, jax.ShapeDtypeStruct]:
    """Returns {layer: shape and type} of a network's representations of one image, in their order.

    Args:
        features_fn: as for `measure`.
        network: its weights, or None where `features_fn` takes the images alone.
        image: one image.
        traced: whether JAX can trace `features_fn`. If not, it is called.

    Raises:
        InputError: as `named`, and for a representation without an axis for the images.
    """
    names: list[Any] = []

    def representations(network: PyTree | None, image: Any) -> list[Array]:
        f = named(features_fn(image) if network is None else features_fn(network, image))
        names[:] = f
        return [jnp.asarray(x) for x in f.values()]

    if traced:
        found = jax.eval_shape(representations, network, image)
    else:
        of_image = representations(network, jnp.asarray(image))
        found = [jax.ShapeDtypeStruct(f.shape, f.dtype) for f in of_image]
    for name, f in zip(names, found, strict=True):
        if f.shape[:1] != (1,):
            raise InputError(
                f"the representation {name!r} of one image has shape {f.shape}; the first axis "
                "of what features_fn returns must be that of the images"
            )
    return dict(zip(names, found, strict=True))
