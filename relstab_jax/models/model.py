"""The interface that every network offers."""

import re
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict
from jax.tree_util import keystr, tree_flatten_with_path, tree_map_with_path
from jaxtyping import Array, Float, Int, Key, PyTree

from relstab_jax.models.features import recorded
from relstab_jax.models.layers import MOMENTUM, Dropout
from relstab_jax.models.network import Network

Variables = Mapping[str, Any]
Features = Mapping[str, Array]
OUTPUT = "output"  # name of the predictor among the layers


class Model(NamedTuple):
    """A network as pure functions of its variables, a pytree of arrays.

    Attributes:
        init: key -> variables.
        apply: (variables, images [P, ..., C]) -> outputs [P, num_classes], in evaluation mode.
        features: (variables, images [P, ..., C]) -> {layer: f_k [P, ...]}, the representation
            after the activation of each convolution and dense layer (Eq. 2), first layer first, as
            an OrderedDict, since `jit` would sort the keys of a dict.
        train: (variables, images, key, axis_name=None) -> (outputs, variables), in training mode:
            dropout draws from `key`; batch-norm normalises by the statistics of the batch, averaged
            over the mapped axis `axis_name` if given, and updates the running statistics in the
            returned variables.
    """

    init: Callable[[Key[Array, ""]], Variables]
    apply: Callable[..., Float[Array, "P classes"]]
    features: Callable[..., Features]
    train: Callable[..., tuple[Float[Array, "P classes"], Variables]]

    def bind(self, variables: Variables, name: str = "network") -> Network:
        """Returns the network with its weights, as `relstab_jax.measure` takes it.

        Its layers are those of `features` and, last, "output".
        """
        return Network(Layers(self), variables, name, shuffled)


@dataclass(frozen=True)
class Layers:
    """(variables, images) -> the representation of each layer and, last, "output", the outputs."""

    model: Model

    def __call__(self, variables: Variables, images: Array) -> Features:
        """Returns {layer: f [P, ...]}."""
        features = OrderedDict(self.model.features(variables, images))
        features[OUTPUT] = self.model.apply(variables, images)
        return features


def flat(tree: Mapping[str, Any]) -> dict[tuple[str, ...], Any]:
    """Returns {path: leaf} of nested mappings, in their order."""
    return cast(dict[tuple[str, ...], Any], flatten_dict(tree))


def as_model(net: nn.Module, *, image_size: int, channels: int) -> Model:
    """Makes a Model from a Flax module for images [P, image_size, image_size, channels].

    The Model's `features` takes two options: `pre_activations=True` adds "<layer>:pre", what goes
    into each activation, and the outputs; `pooled=True` adds "<layer>:pool", the result of each
    pooling.

    Args:
        net: is called as `net(images, train=False, axis_name=None)`, returns the outputs, and
            records its representations by the functions of `models.features`.
        image_size: pixels along each axis.
        channels: channels of the images.
    """

    @jax.jit  # eliminates the forward pass; tracing `lazy_init` takes five times as long
    def init(key):
        return net.init(key, jnp.zeros((1, image_size, image_size, channels)))

    def apply(variables, images):
        return cast(Array, net.apply(variables, images))

    def features(variables, images, *, pre_activations=False, pooled=False):
        _, updates = net.apply(variables, images, mutable=["intermediates"])
        return recorded(updates["intermediates"], pre_activations=pre_activations, pooled=pooled)

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


def with_statistics_of(
    model: Model, variables: Variables, images: Float[Array | np.ndarray, "P ..."]
) -> Variables:
    """Returns variables whose batch-norms normalise by the statistics of a batch of images.

    At initialisation running statistics are 0 and 1, and batch-norm does nothing.

    Args:
        model: the network.
        variables: of it.
        images: the batch, which goes through the network once, without dropout.
    """
    if "batch_stats" not in variables:
        return variables

    def without_dropout(call: Any, inputs: Any, options: Any, context: Any) -> Any:
        return inputs[0] if isinstance(context.module, Dropout) else call(*inputs, **options)

    with nn.intercept_methods(without_dropout):
        _, updated = model.train(variables, jnp.asarray(images), jax.random.key(0))
    old, new = variables["batch_stats"], updated["batch_stats"]
    statistics = jax.tree.map(lambda x, y: x + (y - x) / (1 - MOMENTUM), old, new)
    return {**variables, "batch_stats": statistics}


def kernels(variables: Variables) -> OrderedDict[str, Float[Array, "F F C_in C_out"]]:
    """Returns {layer: filters} of the two-dimensional convolutions, first layer first."""
    params = flat(variables["params"])
    found = {".".join(path[:-1]): x for path, x in params.items() if x.ndim == 4}
    return OrderedDict((layer, found[layer]) for layer in in_order(found))


def in_order(layers: Iterable[str]) -> list[str]:
    """Sorts names of layers, "layer10" after "layer9"."""

    def parts(layer: str) -> list[int | str]:
        return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", layer)]

    return sorted(layers, key=parts)


def orders(key: Key[Array, ""], channels: Mapping[str, int]) -> dict[str, Int[Array, " C_in"]]:
    """Draws a random order of the input channels of each convolution.

    Args:
        key: of these orders.
        channels: {layer: number of input channels of its filters}.
    """
    return {
        layer: jax.random.permutation(jax.random.fold_in(key, n), channels[layer])
        for n, layer in enumerate(in_order(channels))
    }


def shuffled(key: Key[Array, ""], variables: PyTree, axis: int = 2) -> PyTree:
    """Permutes the input channels of the filters of every convolution at random (Fig. 3).

    Single filters keep their weights, but act on other channels than those they were trained with.
    Every convolution has its own permutation.

    Args:
        key: of the permutations.
        variables: the weights of a network, of which those with four axes are filters.
        axis: of the input channels.
    """

    def name(path: tuple[Any, ...]) -> str:
        return keystr(path, simple=True, separator=".")

    leaves = tree_flatten_with_path(variables)[0]
    order = orders(key, {name(path): x.shape[axis] for path, x in leaves if x.ndim == 4})

    def shuffle(path: tuple[Any, ...], x: Array) -> Array:
        return x.take(order[name(path)], axis=axis) if x.ndim == 4 else x

    return tree_map_with_path(shuffle, variables)
