"""What the adapters share: representations made of what the modules of a network return."""

import functools
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax.numpy as jnp
from jax.tree_util import keystr, tree_flatten_with_path
from jaxtyping import Array, PyTree

from relstab_jax.measures.representations import matches
from relstab_jax.models.model import OUTPUT

Records = list[tuple[str, Any]]  # (path of a module, "" for the network itself; what it returned)


def of_batch(
    forward: Callable[[PyTree, Any], Records],
    variables: PyTree,
    images: Any,
    layers: tuple[str, ...],
) -> OrderedDict[str, Any]:
    """Returns the representations of a batch: `named` outputs with an axis for the images.

    Args:
        forward: (variables, images) -> records of all modules.
        variables: the weights.
        images: [b, size, size, C].
        layers: names or patterns, as for `named`.
    """
    if len(images) == 1:  # where an axis of size 1 may be another
        found = of_batch(forward, variables, jnp.concatenate([images, images]), layers)
        return OrderedDict((name, x[:1]) for name, x in found.items())
    found = named(forward(variables, images), layers)
    return OrderedDict((name, x) for name, x in found.items() if x.shape[:1] == (len(images),))


def named(records: Records, layers: tuple[str, ...]) -> OrderedDict[str, Any]:
    """Names the arrays that modules returned by the modules' paths, in the order of their return.

    What a module returns unchanged from one within it, as containers do, goes by the paths of both:
    here by the first that is among `layers`, or else by the first. The second output of a module
    that is called twice is "path#2", parts of an output are "path.part", and the output of the
    network comes last, as "output".
    """
    return OrderedDict((name, x) for name, (_, x) in placed(records, layers).items())


def placed(records: Records, layers: tuple[str, ...]) -> OrderedDict[str, tuple[list[int], Any]]:
    """Returns the arrays of `named`, each with the places of its records among the records."""
    found: list[tuple[list[str], list[int], Any]] = []  # names, places, array
    calls: dict[str, int] = {}
    for place, (module, output) in enumerate(records):
        calls[module] = calls.get(module, 0) + 1
        path = module if calls[module] == 1 else f"{module}#{calls[module]}"
        for part, x in _arrays(output):
            name = ".".join(filter(None, (path or OUTPUT, part)))
            same = next((entry for entry in found if entry[2] is x), None) if module else None
            if same:
                names, places, _ = same
                names.append(name)
                places.append(place)
            else:
                found.append(([name], [place], x))
    return OrderedDict(
        (next((name for name in names if matches(name, layers)), names[0]), (places, x))
        for names, places, x in found
    )


def selecting(
    features: Callable[..., Mapping[str, Array]],
) -> Callable[[tuple[str, ...]], Callable[[PyTree, Any], Mapping[str, Array]]]:
    """Returns `Network.select` of features(variables, images, layers), named as by `named`."""
    return functools.cache(lambda layers: functools.partial(features, layers=layers))


def _arrays(output: Any) -> Iterator[tuple[str, Any]]:
    """Finds the arrays in an output, with their paths."""
    for path, x in tree_flatten_with_path(output)[0]:
        name = keystr(path, simple=True, separator=".")
        if hasattr(x, "shape"):
            yield name, x
        elif isinstance(x, Mapping):  # which JAX takes for a leaf
            for part, inner in _arrays(dict(x)):
                yield ".".join(filter(None, (name, part))), inner


def record(module: Any, path: str, records: Records) -> None:
    """Makes a module append its path and what its calls return to `records`.

    Its class changes, so give a copy.
    """
    kind: Any = type(module)

    def call(self: Any, *inputs: Any, **options: Any) -> Any:
        output = kind.__call__(self, *inputs, **options)
        records.append((path, output))
        return output

    recorded = type(kind)(kind.__name__, (kind,), {"__call__": call})
    object.__setattr__(module, "__class__", recorded)
