"""Networks of Flax nnx."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from jaxtyping import Array, PyTree

from relstab_jax.adapters.records import Records, of_batch, record, selecting
from relstab_jax.errors import InputError
from relstab_jax.models.model import shuffled
from relstab_jax.models.network import Network

if TYPE_CHECKING:
    from flax import nnx


def from_nnx(module: nnx.Module) -> Network:
    """Makes a `Network` of an nnx module, which must be in evaluation mode (`module.eval()`).

    Its layers are the outputs of all its submodules, by their paths, such as "blocks.0.conv", and,
    last, "output". Shuffled are the kernels with four axes.

    Args:
        module: is called on images [b, size, size, C]. It stays as it is.

    Raises:
        InputError: for a module in training mode.

    Examples:
        >>> from flax import nnx
        >>> import jax
        >>> module = nnx.Sequential(nnx.Conv(3, 4, (3, 3), rngs=nnx.Rngs(0)), jax.nn.relu)
        >>> network = from_nnx(module)
        >>> {layer: f.shape for layer, f in network(jax.numpy.zeros((2, 8, 8, 3))).items()}
        {'layers.0': (2, 8, 8, 4), 'output': (2, 8, 8, 4)}
    """
    from flax import nnx  # imports optax and orbax

    for path, part in nnx.iter_modules(module):
        trains = getattr(part, "use_running_average", True) is False
        if trains or getattr(part, "deterministic", True) is False:
            name = ".".join(map(str, path)) or type(part).__name__
            raise InputError(f"{name} is in training mode: call eval() of the network first")
    graph, variables = nnx.split(module)

    def forward(variables: PyTree, images: Array) -> Records:
        records: Records = []
        copy = nnx.merge(graph, variables)
        for path, part in list(nnx.iter_modules(copy)):
            record(part, ".".join(map(str, path)), records)
        copy(images)
        return records

    select = selecting(partial(of_batch, forward))
    return Network(select(("*",)), variables, type(module).__name__, shuffled, select=select)
