"""The programs of this package and the shapes of their arguments, for devices that are not here."""

import importlib
import math
import os
import re
from collections.abc import Sequence
from typing import Any, NamedTuple
from unittest import mock

import jax
import numpy as np
from jax import ShapeDtypeStruct
from jax.experimental.topologies import get_topology_desc
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
        """Lowers at a precision; a TPU's compiler takes many times as long at a higher one."""
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
    return jax.tree.map(lambda a: ShapeDtypeStruct(a.shape, a.dtype, sharding=sharding), tree)


def chips(topology: str) -> Sequence[Any]:
    """Returns the chips of a TPU slice that is not here, four of each host."""
    variables = {
        "TPU_SKIP_MDS_QUERY": "1",
        "TPU_WORKER_HOSTNAMES": "localhost",
        "TPU_ACCELERATOR_TYPE": "v5litepod-4",
        "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    }
    with mock.patch.dict(os.environ, variables):
        return get_topology_desc(platform="tpu", topology_name=topology).devices


def sharding_over(devices: Sequence[Any], axis: str) -> NamedSharding:
    return NamedSharding(Mesh(np.array(devices), (axis,)), PartitionSpec(axis))


def sweep(devices: Sequence[Any], task: int = 2, **fields: Any) -> dict[str, Program]:
    """Returns the training of a task as in the paper but for `fields`, a seed on each device."""
    config = importlib.import_module(f"configs.task{task}").get_config()
    config.update(fields, seeds=tuple(range(len(devices))))
    here, there = (sharding_over(d, "seed") for d in (jax.devices()[:1], devices))
    keys, _, data = scale_detection.prepare(config, here)
    keys, data = shapes(keys, there), shapes(data, there)
    made = scale_detection.make_sweep(config, there)
    state = shapes(jax.eval_shape(made.start, keys), there)
    return {
        "start": Program(made.start, (keys,)),
        "advance": Program(made.advance, (state, data, 0, 1), donated=state),
        "look": Program(jax.jit(lambda *now: made.look(*now, 1)[1]), (state, data)),
        "variables": Program(made.variables, (state, 1)),
    }


def configured(name: str) -> tuple[Any, int]:
    """Returns the configuration of a network, lower-case on ImageNet, and the images' pixels."""
    data = "imagenet" if name.islower() else "cifar10"
    config = importlib.import_module(f"configs.{data}").get_config(name)
    return config, 224 if name.islower() else 32


def training(devices: Sequence[Any], name: str, batch: int) -> Program:
    """Returns training steps: on CIFAR-10 in memory, or one on a batch of ImageNet's stream."""
    config, size = configured(name)
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
    image = size, size, 3
    if name.islower():
        each = len(devices), 1, 1, batch // len(devices)
        numbers, labels = ShapeDtypeStruct(each, np.int32), ShapeDtypeStruct(each, np.int32)
        memory, batches = None, Batch(numbers, ShapeDtypeStruct((*each, *image), np.uint8), labels)
    else:
        numbers = ShapeDtypeStruct(
            (len(devices), 1, sizes.steps_per_epoch, batch // len(devices)), np.int32
        )
        batches = Batch(numbers, None, None)
        rows = ShapeDtypeStruct((50_000, math.prod(image)), np.uint8)
        memory = data_parallel.Memory(rows, ShapeDtypeStruct((50_000,), np.int32), image)
    arguments = state, memory, batches, shapes(keys), 0, 1
    return Program(compiled["train"], arguments, donated=state)


def measurement(devices: Sequence[Any], name: str, batch: int) -> Program:
    """Returns the distances of all layers and their mean channels, of a batch on each device."""
    config, size = configured(name)
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
    layers = representations.shapes(features, variables, np.zeros((1, size, size, 3), np.float32))
    networks = jax.tree.map(lambda a: ShapeDtypeStruct((1, *a.shape), a.dtype), variables)
    reference = [ShapeDtypeStruct((1, *f.shape[1:]), f.dtype) for f in layers.values()]
    P = batch * len(devices)
    of_network = networks, reference, reference, jax.random.key(0), ShapeDtypeStruct((), np.float32)
    of_images = (
        ShapeDtypeStruct((P, size, size, 3), np.float32),
        ShapeDtypeStruct((P,), np.int32),
        ShapeDtypeStruct((P,), np.float32),
    )
    arguments = *shapes(of_network, everywhere), *shapes(of_images, split)
    return Program(step, arguments, donated=reference)


def lines(text: str, operation: str) -> list[str]:
    """Returns the lines of a compiled program with an operation."""
    return [line for line in text.splitlines() if re.search(rf" ({operation})\(", line)]


def collectives(text: str) -> list[str]:
    """Returns the lines of a compiled program that send something to other devices."""
    names = "all-reduce|all-gather|all-to-all|collective-permute|reduce-scatter|send|recv"
    return lines(text, rf"({names})(-start)?")


def sizes(line: str) -> list[int]:
    """Returns the sizes of the float32 arrays that the operation of a line makes."""
    made = re.split(r" [\w-]+\(", line.split(" = ")[1])[0]
    return [math.prod(map(int, dims.split(","))) for dims in re.findall(r"f32\[([\d,]+)\]", made)]
