"""Networks of other libraries, as `relstab_jax.measure` takes them."""

from relstab_jax.adapters.equinox import from_equinox
from relstab_jax.adapters.flax import from_flax, from_nnx
from relstab_jax.adapters.torch import from_torch_module

__all__ = ["from_equinox", "from_flax", "from_nnx", "from_torch_module"]
