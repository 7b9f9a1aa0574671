"""The programs of this package and the shapes of their arguments, for devices that are not here."""

import importlib
from collections.abc import Sequence
from typing import Any, NamedTuple
from unittest import mock

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from relstab_jax import layerwise, models
from relstab_jax.experiments import scale_detection, train_images
from relstab_jax.measures import representations, steps
from relstab_jax.measures.noise import EqualNorm
from relstab_jax.measures.perturbations import Diffeomorphism
from relstab_jax.problems import classification
from relstab_jax.training import data_parallel
from relstab_jax.training.learner import Batch, Sizes


class Program(NamedTuple):
    """A compiled function and its arguments, of which it consumes `donated`."""

    function: Any
    arguments: tuple[Any, ...]
    donated: Any = ()

    def lower(self, precision: str = "bfloat16") -> jax.stages.Lowered:
        """Lowers at a precision: at a higher one, a TPU's compiler takes many times as long."""
        with jax.default_matmul_precision(precision):
            return self.function.lower(*self.arguments)

    def export(self, platform: str) -> str:
        """Returns what would be compiled on another platform, as StableHLO."""
        of_pmap = not isinstance(self.function, jax.stages.Wrapped)
        function = jax.jit(lambda *a: self.function(*a)) if of_pmap else self.function
        exported = jax.export.export(function, platforms=[platform])
        with jax.default_matmul_precision("highest"):
            return exported(*self.arguments).mlir_module()


def shapes(tree: Any, sharding: NamedSharding | None = None) -> Any:
    return jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=sharding), tree)


def sharding_over(devices: Sequence[Any], axis: str) -> NamedSharding:
    return NamedSharding(Mesh(np.array(devices), (axis,)), PartitionSpec(axis))


def sweep(devices: Sequence[Any], **fields: Any) -> dict[str, Program]:
    """The training of Task 2 in the paper's setting but for `fields`, a seed on each device."""
    config = importlib.import_module("configs.task2").get_config()
    config.update(fields, seeds=tuple(range(len(devices))))
    here, there = (sharding_over(d, "seed") for d in (jax.devices()[:1], devices))
    keys, points = scale_detection.prepare(config, here)
    data = shapes(scale_detection.training_data(config, keys.order, points, here), there)
    keys = shapes(keys.init, there)
    made = scale_detection.make_sweep(config, there)
    state = shapes(jax.eval_shape(made.start, keys), there)
    return {
        "start": Program(made.start, (keys,)),
        "advance": Program(made.advance, (state, data, 0, 1), donated=state),
        "look": Program(jax.jit(lambda *now: made.look(*now, 1)[1]), (state, data)),
        "variables": Program(made.variables, (state, 1)),
    }


def training(devices: Sequence[Any], name: str, batch: int) -> Program:
    """Steps of a network on CIFAR-10."""
    config = importlib.import_module("configs.cifar10").get_config(name)
    sizes = Sizes(45_000, config.epochs, batch, config.evaluation_batch_size)
    compiled = {}
    pmap = jax.pmap

    def kept(function: Any, **options: Any) -> Any:
        return compiled.setdefault(function.__name__, pmap(function, **options))

    with mock.patch.object(jax, "pmap", kept):
        made = data_parallel.compile_training(
            train_images.network(config),
            train_images.optimizer(config, sizes.steps_per_epoch),
            classification(config),
            sizes,
            devices,
        )
    keys = jax.random.split(jax.random.key(0), 1)
    state = shapes(jax.eval_shape(made.start, keys))
    image = 32, 32, 3
    memory = (
        data_parallel.Rows(of((50_000, np.prod(image)), np.uint8), image),
        of((50_000,), np.int32),
    )
    numbers = of((len(devices), 1, sizes.steps_per_epoch, batch // len(devices)), np.int32)
    batches = Batch(numbers, None, None)
    arguments = state, memory, batches, shapes(keys), 0, 1
    return Program(compiled["train"], arguments, donated=state)


def measurement(devices: Sequence[Any], name: str, batch: int) -> Program:
    """Distances of all layers and of their mean channels, of a batch on each device."""
    config = importlib.import_module("configs.cifar10").get_config(name)
    model = train_images.network(config)
    features = layerwise.Representations(models.Layers(model), None, mean=True, channel_axis=-1)
    split = sharding_over(devices, "image")
    everywhere = NamedSharding(split.mesh, PartitionSpec())
    *_, step = steps.compile_steps(
        features,
        stacked=True,
        paired=False,
        copies=steps.Copies(Diffeomorphism(config.delta, config.cut), EqualNorm(), 1),
        mesh=split.mesh,
        traced=True,
        map_axis=None,
    )
    variables = jax.eval_shape(model.init, jax.random.key(0))
    layers = representations.shapes(features, variables, np.zeros((1, 32, 32, 3), np.float32))
    networks = jax.tree.map(lambda a: of((1, *a.shape), a.dtype), variables)
    reference = [of((1, *f.shape[1:]), f.dtype) for f in layers.values()]
    P = batch * len(devices)
    of_network = networks, reference, reference, jax.random.key(0), of((), np.float32)
    of_images = of((P, 32, 32, 3), np.float32), of((P,), np.int32), of((P,), np.float32)
    arguments = *shapes(of_network, everywhere), *shapes(of_images, split)
    return Program(step, arguments, donated=reference)


def of(shape: tuple[int, ...], dtype: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(tuple(map(int, shape)), dtype)
