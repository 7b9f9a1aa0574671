"""Operations that record their results in Flax's "intermediates", where `Model.features` looks.

A record is named "<layer>:f" for f_k, the representation after the activation, "<layer>:pre" for
what goes into the activation, and "<layer>:pool" for the result of a pooling. In the functions
below, `module` is the calling module, and `layer` the name of the layer in it.
"""

from collections import OrderedDict
from collections.abc import Callable, Mapping
from functools import partial, reduce
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from flax.traverse_util import flatten_dict
from jax import lax
from jaxtyping import Array, Float

from relstab_jax.models import layers
from relstab_jax.models.convolution import pad, taps


def sow(module: nn.Module, name: str, x: Array) -> None:
    """Records `x` under a name such as "conv1:pre"."""
    module.sow("intermediates", name, x, reduce_fn=lambda _, x: x, init_fn=lambda: x)


def recorded(
    intermediates: Mapping[str, Any], *, pre_activations: bool, pooled: bool
) -> OrderedDict[str, Array]:
    """Returns {layer: f_k} of the records of a network, first layer first.

    Args:
        intermediates: the collection of that name, which Flax returns where it is mutable.
        pre_activations: whether to include the records "<layer>:pre".
        pooled: whether to include the records "<layer>:pool".
    """
    found = OrderedDict()
    for name, x in flatten_dict(intermediates, sep=".").items():
        layer, kind = name.split(":")
        if kind == "f":
            found[layer] = x
        elif (kind == "pre" and pre_activations) or (kind == "pool" and pooled):
            found[name] = x
    return found


def activate(
    module: nn.Module, layer: str, x: Array, function: Callable[[Array], Array] = nn.relu
) -> Array:
    """Applies an activation function, and records what goes in and what comes out."""
    sow(module, f"{layer}:pre", x)
    x = function(x)
    sow(module, f"{layer}:f", x)
    return x


def max_pool(
    module: nn.Module,
    layer: str,
    x: Float[Array, "P H W C"],
    size: int,
    stride: int,
    padding: int = 0,
) -> Float[Array, "P H_out W_out C"]:
    """Takes the maxima over windows of `size`² pixels, and records them."""
    # On a CPU, the gradient of windows takes three to four times as long as that of slices. On a
    # TPU, slices move a quarter more of all that VGG11bn moves in a step.
    over = {"size": size, "stride": stride, "padding": padding}
    x = lax.platform_dependent(
        x, tpu=partial(max_of_windows, **over), default=partial(max_of_slices, **over)
    )
    sow(module, f"{layer}:pool", x)
    return x


def max_of_windows(x: Array, *, size: int, stride: int, padding: int) -> Array:
    """Takes the maxima over windows; of equal ones, the first gets the gradient."""
    around = (0, 0), (padding, padding), (padding, padding), (0, 0)
    window, strides = (1, size, size, 1), (1, stride, stride, 1)
    return lax.reduce_window(x, -jnp.inf, lax.max, window, strides, around)


def max_of_slices(x: Array, *, size: int, stride: int, padding: int) -> Array:
    """Takes the maxima over slices of the images; equal ones share the gradient."""
    x = pad(x, padding, -jnp.inf)
    for axis in (1, 2):
        x = reduce(jnp.maximum, taps(x, axis, size, stride))
    return x


def mean_pool(module: nn.Module, layer: str, x: Float[Array, "P H W C"]) -> Float[Array, "P C"]:
    """Takes the means over space, and records them."""
    x = x.mean(axis=(1, 2))
    sow(module, f"{layer}:pool", x)
    return x


def output(module: nn.Module, layer: str, x: Float[Array, "P C"], num_classes: int) -> Array:
    """Applies the output layer, which has no activation, and records the outputs [P, num_classes].

    Returns `x` itself for num_classes=0: a network without its output layer.
    """
    if num_classes == 0:
        return x
    x = layers.dense(x, num_classes, name=layer)
    sow(module, f"{layer}:pre", x)
    return x
