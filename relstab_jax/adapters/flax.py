"""Networks of Flax linen."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import flax.linen as nn
from flax.errors import ModifyScopeVariableError
from jaxtyping import Array

from relstab_jax.adapters.records import Records, of_batch, selecting
from relstab_jax.errors import InputError
from relstab_jax.models.model import shuffled
from relstab_jax.models.network import Network


def from_flax(module: nn.Module, variables: Mapping[str, Any], **arguments: Any) -> Network:
    """Makes a `Network` of a linen module and its variables.

    Its layers are the outputs of all its submodules, by their paths, such as "block1.conv", and,
    last, "output". Shuffled are the kernels with four axes.

    Args:
        module: is called on images [b, size, size, C].
        variables: as of `module.init`.
        **arguments: others of its call, such as `train=False`.

    Raises:
        InputError: when it is measured, if the module updates its variables.

    Examples:
        >>> import flax.linen as nn, jax
        >>> module = nn.Sequential([nn.Conv(4, (3, 3)), nn.relu, nn.Conv(8, (3, 3))])
        >>> images = jax.numpy.zeros((2, 8, 8, 3))
        >>> network = from_flax(module, module.init(jax.random.key(0), images))
        >>> {layer: f.shape for layer, f in network(images).items()}
        {'layers_0': (2, 8, 8, 4), 'layers_2': (2, 8, 8, 8), 'output': (2, 8, 8, 8)}
    """

    def forward(variables: Mapping[str, Any], images: Array) -> Records:
        records: Records = []

        def recorded(call: Any, inputs: Any, options: Any, context: nn.module.InterceptorContext):
            output = call(*inputs, **options)
            if context.method_name == "__call__":
                records.append((".".join(context.module.path), output))
            return output

        try:
            with nn.intercept_methods(recorded):
                module.apply(variables, images, **arguments)
        except ModifyScopeVariableError as error:
            raise InputError(
                f"{type(module).__name__} updates its variables when it is called: give the "
                "argument that puts it in evaluation mode, such as train=False"
            ) from error
        return records

    select = selecting(partial(of_batch, forward))
    return Network(select(("*",)), variables, type(module).__name__, shuffled, select=select)
