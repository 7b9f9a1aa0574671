"""The interface that every network offers."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

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
    """

    init: Callable[[Key[Array, ""]], Variables]
    apply: Callable[[Variables, Float[Array, "P ..."]], Float[Array, "P classes"]]
    features: Callable[[Variables, Float[Array, "P ..."]], Features]
