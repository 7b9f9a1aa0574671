"""Networks of other libraries, as `relstab_jax.measure` takes them.

The libraries are imported when a network of theirs is given.
"""

from relstab_jax.adapters.equinox import from_equinox
from relstab_jax.adapters.flax import from_flax
from relstab_jax.adapters.nnx import from_nnx
from relstab_jax.adapters.torch import from_torch_module

__all__ = ["from_equinox", "from_flax", "from_nnx", "from_torch_module"]
