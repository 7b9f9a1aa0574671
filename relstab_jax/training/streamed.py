"""Training of a stack of networks on data that stream from files, each batch spread over devices.

As `data_parallel`, whose order of examples, steps and numbers it keeps, but for the random crops
and flips, which happen where photographs are decoded.
"""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Int, Key, Shaped

from relstab_jax.models import Model, Variables
from relstab_jax.training.data_parallel import (
    AXIS,
    Batch,
    Data,
    Look,
    Seed,
    Sizes,
    Task,
    Training,
    check_batch,
    epoch_keys,
    evaluation_key,
    learner,
    over_seeds,
    replicate,
)


def compile_training(
    model: Model,
    optimizer: optax.GradientTransformation,
    task: Task,
    sizes: Sizes,
    devices: Sequence[Any],
) -> Training:
    """Compiles the training of a stack of networks on streamed data.

    Arguments and errors as of `data_parallel.compile_training`. The calls take data that stay on
    the host, with a `relstab_jax.data.stream.Stream` as inputs and no labels.
    """
    check_batch(sizes.batch, sizes.micro_batches, len(devices))
    learn = learner(model, optimizer, task, sizes)
    each = partial(over_seeds, at_once=sizes.seeds_at_once)
    steps_per_epoch = sizes.steps_per_epoch
    parallel = partial(jax.pmap, axis_name=AXIS, devices=devices)
    own = [n for n, d in enumerate(devices) if d.process_index == jax.process_index()]

    def train(seeds: Seed, batch: Batch, keys: Key[Array, " S"], step: Int[Array, ""]) -> Seed:
        def one_seed(seed: Seed, batch: Batch, key: Key[Array, ""]) -> Seed:
            return learn.train(seed, batch, key, step)

        return each(one_seed, seeds, batch, keys)

    def total(
        variables: Variables, batch: Batch, counts: Array, keys: Key[Array, " S"]
    ) -> tuple[Array, Array]:
        return each(learn.total, variables, batch, counts, keys)

    def judge(seeds: Seed, loss: Array, error: Array, epoch: Array) -> tuple[Seed, Look]:
        def one_seed(seed: Seed, loss: Array, error: Array) -> tuple[Seed, Look]:
            return learn.judge(seed, loss, error, epoch)

        return each(one_seed, seeds, loss, error)

    train_all = parallel(train, in_axes=(0, 0, None, None), donate_argnums=0)
    total_all = parallel(total, in_axes=(0, 0, 0, None))
    judge_all = parallel(judge, in_axes=(0, 0, 0, None), donate_argnums=0)

    def parts(examples: Shaped[np.ndarray, "S P"], size: int, rows: int) -> np.ndarray:
        """Returns [batches, own devices, S, size / devices], cut as on data in memory."""
        S, batches = len(examples), examples.shape[1] // size
        cut = examples.reshape(S, batches, rows, len(devices), -1).transpose(1, 3, 0, 2, 4)
        return cut.reshape(batches, len(devices), S, -1)[:, own]

    position: tuple[int, int] | None = None  # epoch and step of the batch that comes next
    coming: Iterator[Batch] = iter(())

    def advance(seeds: Seed, data: Data, epoch: int, first: int, until: int) -> Seed:
        nonlocal position, coming
        _, keys_step, _ = jax.vmap(epoch_keys, (0, None), 1)(data.key, epoch)
        if position != (epoch, first):
            coming = of_epoch(data, epoch, first)
        for n in range(first, until):
            seeds = train_all(seeds, next(coming), keys_step, epoch * steps_per_epoch + n)
        position = epoch, until
        return seeds

    def of_epoch(data: Data, epoch: int, first: int) -> Iterator[Batch]:
        keys_order, keys_step, _ = jax.vmap(epoch_keys, (0, None), 1)(data.key, epoch)
        order = np.asarray(jax.vmap(jax.random.permutation)(keys_order, data.train))
        numbers = parts(order[:, : steps_per_epoch * sizes.batch], sizes.batch, sizes.micro_batches)
        return _batches(data, numbers[first:], keys_step)

    def totals(variables: Variables, data: Data, examples: np.ndarray, keys: Array) -> Any:
        S, n = examples.shape
        size = min(sizes.evaluation_batch, n)
        size = -(-size // len(devices)) * len(devices)
        padding = -n % size
        padded = np.pad(examples, ((0, 0), (0, padding)), mode="edge")
        counted = parts(np.tile(np.arange(n + padding) < n, (S, 1)), size, 1)
        batches = zip(_batches(data, parts(padded, size, 1)), counted, strict=True)
        sums = [total_all(variables, batch, counts, keys) for batch, counts in batches]
        return jax.tree.map(lambda *a: jnp.stack(a).sum(0) / n, *sums)

    def look(seeds: Seed, data: Data, epoch: int) -> tuple[Seed, Look]:
        *_, keys_look = jax.vmap(epoch_keys, (0, None), 1)(data.key, epoch - 1)
        found = totals(seeds.variables, data, data.validation, keys_look)
        return judge_all(seeds, *found, epoch)

    def evaluate(variables: Variables, data: Data, examples: np.ndarray) -> tuple[Array, Array]:
        return totals(variables, data, examples, jax.vmap(evaluation_key)(data.key))

    start = jax.jit(partial(each, learn.start))
    return Training(
        lambda keys: replicate(start(keys), devices), advance, look, evaluate, steps_per_epoch
    )


def _batches(
    data: Data, numbers: Int[np.ndarray, "N devices S b"], keys: Key[Array, " S"] | None = None
) -> Iterator[Batch]:
    read = data.inputs.batches(numbers, None if keys is None else keys[:, None])
    for chosen, (images, labels) in zip(numbers, read, strict=True):
        yield Batch(chosen, images, labels)
