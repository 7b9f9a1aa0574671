"""The interface that every network offers."""

import re
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict
from jaxtyping import Array, Float, Key

Variables = Mapping[str, Any]
Features = Mapping[str, Array]


class Model(NamedTuple):
    """A network as pure functions of its variables, a pytree of arrays.

    Attributes:
        init: key -> variables.
        apply: (variables, images [P, ..., C]) -> outputs [P, num_classes], in evaluation mode.
        features: (variables, images [P, ..., C]) -> {layer: f_k [P, ...]}, the representation
            after the activation of each convolution and dense layer (Eq. 2), first layer first.
            They are an OrderedDict: `jit` would sort the keys of a dict.
        train: (variables, images, key, axis_name=None) -> (outputs, variables), in training mode:
            dropout draws from `key`, batch-norm normalises by the statistics of the batch, taken
            together over the mapped axis `axis_name` where there is one, and updates the running
            ones among the variables returned.
    """

    init: Callable[[Key[Array, ""]], Variables]
    apply: Callable[..., Float[Array, "P classes"]]
    features: Callable[..., Features]
    train: Callable[..., tuple[Float[Array, "P classes"], Variables]]


def flat(tree: Mapping[str, Any]) -> dict[tuple[str, ...], Any]:
    """Returns {path: leaf} of nested mappings, in their order."""
    return cast(dict[tuple[str, ...], Any], flatten_dict(tree))


def from_flax(net: nn.Module, *, image_size: int, channels: int) -> Model:
    """Makes a Model of a Flax module for images [P, image_size, image_size, channels].

    The module is called as `net(images, train=False, axis_name=None)` and returns the outputs; it
    shows its representations by `layers.keep`, with names that end in ":f" (f_k), ":pre" (before
    the activation) or ":pool" (after a pooling).

    The Model's `features` takes two options: `pre_activations=True` adds "<layer>:pre", where the
    output layer shows up too, and `pooled=True` adds "<layer>:pool", all in the network's order.
    """
    dtype = jnp.result_type(float)

    @jax.jit  # which leaves out the forward pass; tracing `lazy_init` takes five times as long
    def init(key):
        return net.init(key, jnp.zeros((1, image_size, image_size, channels), dtype))

    def apply(variables, images):
        return cast(Array, net.apply(variables, images))

    def features(variables, images, *, pre_activations=False, pooled=False):
        kinds = ("f", *["pre"] * pre_activations, *["pool"] * pooled)
        _, shown = net.apply(variables, images, mutable=["intermediates"])
        kept = OrderedDict()
        for path, x in flat(shown["intermediates"]).items():
            layer, kind = ".".join(path).split(":")
            if kind in kinds:
                kept[layer if kind == "f" else f"{layer}:{kind}"] = x
        return kept

    def train(variables, images, key, *, axis_name=None):
        outputs, updates = net.apply(
            variables,
            images,
            train=True,
            axis_name=axis_name,
            rngs={"dropout": key},
            mutable=["batch_stats"],
        )
        return outputs, {**variables, **updates}

    return Model(init, apply, features, train)


def kernels(variables: Variables) -> OrderedDict[str, Float[Array, "F F C_in C_out"]]:
    """Returns {layer: filters} of the two-dimensional convolutions, first layer first."""
    params = flat(variables["params"])
    found = {".".join(path[:-1]): x for path, x in params.items() if x.ndim == 4}
    numbers_as_such = {
        layer: [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", layer)]
        for layer in found
    }
    return OrderedDict(sorted(found.items(), key=lambda item: numbers_as_such[item[0]]))


def shuffled(key: Key[Array, ""], variables: Variables) -> Variables:
    """Returns the network with the input channels of every convolution in random order (Fig. 3).

    Every convolution beyond those of single channels has a permutation of its own; biases,
    batch-norm and dense layers stay as they are. Single filters keep their weights, but meet other
    channels than those they were trained with.
    """
    convolutions = list(kernels(variables))

    def shuffle(path: tuple[Any, ...], x: Array) -> Array:
        layer = ".".join(part.key for part in path[1:-1])
        if x.ndim != 4 or layer not in convolutions:
            return x
        return jax.random.permutation(jax.random.fold_in(key, convolutions.index(layer)), x, axis=2)

    return jax.tree_util.tree_map_with_path(shuffle, variables)
