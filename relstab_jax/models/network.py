"""A network together with its weights, whatever library computes it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from jaxtyping import Array, Key, PyTree


@dataclass(frozen=True, eq=False)
class Network:
    """A network with its weights: a function images -> representations, as `measure` takes it.

    Attributes:
        features: (variables, images [P, size, size, C]) -> {layer: f [P, ...]}, first layer first.
        variables: its weights, a pytree of arrays.
        name: of the network.
        shuffled: (key, variables) -> variables of the same network whose convolutions see their
            input channels in a random order (Fig. 3). None where its filters are not known.
        channel_axis: of the maps among the representations.
        map_axes: number of axes of maps, those of the image and the channels: four, or three for
            networks of one-dimensional images.
        traced: whether JAX can trace `features`; if not, it is called on concrete JAX arrays.
        select: names or patterns of layers -> `features` for these layers, the same function for
            the same layers: it need not return others, and a layer that has several names goes by
            one of these. None where `features` serves for any layers.
    """

    features: Callable[[PyTree, Any], Mapping[str, Any]]
    variables: PyTree
    name: str
    shuffled: Callable[[Key[Array, ""], PyTree], PyTree] | None = None
    channel_axis: int = -1
    map_axes: int = 4
    traced: bool = True
    select: Callable[[tuple[str, ...]], Callable[[PyTree, Any], Mapping[str, Any]]] | None = None

    def __call__(self, images: Any) -> Mapping[str, Any]:
        """Returns the representations of images [P, size, size, C]."""
        return self.features(self.variables, images)
