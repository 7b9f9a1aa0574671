"""Networks of Flax: linen and nnx."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import flax.linen as nn
import jax
from flax import nnx
from flax.errors import ModifyScopeVariableError
from jaxtyping import Array, Key, PyTree

from relstab_jax.adapters.records import Records, of_batch, record
from relstab_jax.errors import InputError
from relstab_jax.models.model import orders
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

    Example:
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

    def features(variables: Mapping[str, Any], images: Array) -> Mapping[str, Array]:
        return of_batch(partial(forward, variables), images)

    return Network(features, variables, type(module).__name__, permuted)


def from_nnx(module: nnx.Module) -> Network:
    """Makes a `Network` of an nnx module, which must be in evaluation mode (`module.eval()`).

    Its layers are the outputs of all its submodules, by their paths, such as "blocks.0.conv", and,
    last, "output". Shuffled are the kernels with four axes.

    Args:
        module: is called on images [b, size, size, C]. It stays as it is.

    Raises:
        InputError: for a module in training mode.

    Example:
        >>> from flax import nnx
        >>> import jax
        >>> module = nnx.Sequential(nnx.Conv(3, 4, (3, 3), rngs=nnx.Rngs(0)), jax.nn.relu)
        >>> network = from_nnx(module)
        >>> {layer: f.shape for layer, f in network(jax.numpy.zeros((2, 8, 8, 3))).items()}
        {'layers.0': (2, 8, 8, 4), 'output': (2, 8, 8, 4)}
    """
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

    def features(variables: PyTree, images: Array) -> Mapping[str, Array]:
        return of_batch(partial(forward, variables), images)

    return Network(features, variables, type(module).__name__, permuted)


def permuted(key: Key[Array, ""], variables: PyTree, axis: int = 2) -> PyTree:
    """Permutes the input channels of the filters of every convolution at random.

    Args:
        key: of the permutations.
        variables: the weights of a network, of which those with four axes are filters.
        axis: of the input channels.
    """

    def name(path: Any) -> str:
        return jax.tree_util.keystr(path, simple=True, separator=".")

    leaves = jax.tree_util.tree_flatten_with_path(variables)[0]
    order = orders(key, {name(path): x.shape[axis] for path, x in leaves if x.ndim == 4})

    def permute(path: Any, x: Array) -> Array:
        return x.take(order[name(path)], axis=axis) if x.ndim == 4 else x

    return jax.tree_util.tree_map_with_path(permute, variables)
