"""Sensitivity of deep networks to small diffeomorphisms and to noise, layer by layer.

A JAX/Flax implementation of the measures, networks, tasks and theory of Tomasini, Petrini,
Cagnetta and Wyart, *How deep convolutional neural networks lose spatial information with
training* (ICLR 2023). The README maps the packages.

    import relstab_jax as rs

    network = rs.from_torch_module(module)  # or from_flax, from_nnx, from_equinox, or a function
    dataset = rs.measure(network, images, key=0)  # D, G, R of every layer, an xarray.Dataset
    rs.plots.depth(dataset)

The public names below are imported when they are first used.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from relstab_jax import plots, theory
    from relstab_jax.adapters import from_equinox, from_flax, from_nnx, from_torch_module
    from relstab_jax.layerwise import measure
    from relstab_jax.measures import perturbations
    from relstab_jax.measures.sensitivity import sensitivities
    from relstab_jax.models import Network, create, from_torch
    from relstab_jax.models.weights import read as read_weights

__version__ = "0.2.0"
__all__ = [
    "Network",
    "__version__",
    "create",
    "from_equinox",
    "from_flax",
    "from_nnx",
    "from_torch",
    "from_torch_module",
    "measure",
    "perturbations",
    "plots",
    "read_weights",
    "sensitivities",
    "theory",
]

_PLACES = {
    "Network": "relstab_jax.models:Network",
    "create": "relstab_jax.models:create",
    "from_equinox": "relstab_jax.adapters:from_equinox",
    "from_flax": "relstab_jax.adapters:from_flax",
    "from_nnx": "relstab_jax.adapters:from_nnx",
    "from_torch": "relstab_jax.models:from_torch",
    "from_torch_module": "relstab_jax.adapters:from_torch_module",
    "measure": "relstab_jax.layerwise:measure",
    "perturbations": "relstab_jax.measures.perturbations",
    "plots": "relstab_jax.plots",
    "read_weights": "relstab_jax.models.weights:read",
    "sensitivities": "relstab_jax.measures.sensitivity:sensitivities",
    "theory": "relstab_jax.theory",
}


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module 'relstab_jax' has no attribute {name!r}")
    module, _, attribute = _PLACES[name].partition(":")
    imported = importlib.import_module(module)
    return getattr(imported, attribute) if attribute else imported


def __dir__() -> list[str]:
    return __all__
