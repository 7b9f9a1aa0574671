"""Training of a stack of networks whose batches are spread over devices by `jax.pmap`.

Every device holds all networks, computes its part of each batch, and averages gradients and batch
statistics with the others. Data in the devices' memory are picked by their numbers in a compiled
loop over steps; a stream gives each batch from the host. What is random depends on the seed, the
epoch and the example alone, so that the same global batch gives the same training on any number of
devices.
"""

import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jax.sharding import NamedSharding
from jaxtyping import Array, Int, Key, Shaped

from relstab_jax.errors import InputError
from relstab_jax.models import Model, Variables
from relstab_jax.training.devices import collected, on_cpu, replicated
from relstab_jax.training.learner import (
    AXIS,
    Batch,
    Learner,
    Metrics,
    Sizes,
    Task,
    TrainState,
    select_best,
)
from relstab_jax.training.loop import Training
from relstab_jax.training.report import Display


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Memory:
    """Examples as they are stored, in the devices' memory.

    Attributes:
        rows: the inputs, flat [M, n]: with more axes, a TPU would lay all of them out anew before
            it picks any.
        labels: [M].
        shape: of one input.
    """

    rows: Any
    labels: Any
    shape: tuple[int, ...] = dataclasses.field(metadata={"static": True})

    def filled(self, batch: Batch) -> Batch:
        """Returns a batch of numbers with its inputs and labels."""
        stored = self.rows[batch.numbers].reshape(len(batch.numbers), *self.shape)
        return Batch(batch.numbers, stored, self.labels[batch.numbers])


def in_memory(inputs: Any, labels: Any, sharding: NamedSharding) -> Memory:
    """Puts inputs [M, ...] and labels [M] on the devices."""
    rows, labels = jax.device_put((inputs.reshape(len(inputs), -1), labels), sharding)
    return Memory(rows, labels, inputs.shape[1:])


class Data(NamedTuple):
    """Examples, and what each of the S seeds does with them.

    Attributes:
        source: of all examples: `Memory`, or a `relstab_jax.data.stream.Stream`.
        train: [S, P], the examples that a seed trains on, on the host.
        validation: [S, V], those on which it selects its best epoch, on the host.
        key: [S], of the order of a seed's examples and of all that is random in its training.
    """

    source: Any
    train: Any
    validation: Any
    key: Key[Array, " S"]

    @property
    def memory(self) -> Memory | None:
        """The source, unless it is a stream."""
        return self.source if isinstance(self.source, Memory) else None


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataParallel(Training):
    """A training whose state is on all devices alike; a call of `advance` stays in one epoch.

    Where the batch does not divide the training set, each epoch leaves out other examples, fewer
    than a batch.

    Attributes:
        evaluate: (variables, data, examples [S, n]) -> mean (loss, error) over them, each [S].
    """

    evaluate: Callable[[Variables, Data, np.ndarray], tuple[Array, Array]]


def check_batch(batch_size: int, micro_batches: int, devices: int) -> None:
    """Raises an InputError where a batch cannot be spread over the devices."""
    if batch_size < 1 or micro_batches < 1:
        raise InputError(
            f"batch_size={batch_size} and micro_batches={micro_batches} must be at least 1"
        )
    if batch_size % (parts := devices * micro_batches):
        below, above = batch_size // parts * parts, -(-batch_size // parts) * parts
        nearest = f"{below} or {above}" if below else f"{above}"
        raise InputError(
            f"batch_size={batch_size} does not divide over {devices} devices with micro_batches="
            f"{micro_batches}: use a multiple of {parts}, such as {nearest}"
        )


@jax.jit
@partial(jax.vmap, in_axes=(0, None), out_axes=1)
def keys_of_epoch(key: Key[Array, ""], epoch: int | Int[Array, ""]) -> Key[Array, "3"]:
    """Returns the keys [3, S] of an epoch's order, of its steps, and of the look at its end."""
    return jax.random.split(jax.random.fold_in(key, epoch), 3)


def over_seeds(function: Callable[..., Any], *arguments: Any, at_once: int) -> Any:
    """Applies `function` to each seed, `at_once` side by side and the others in turn."""
    S = jax.tree.leaves(arguments)[0].shape[0]
    if at_once >= S:
        return jax.vmap(function)(*arguments)
    return lax.map(lambda a: function(*a), arguments, batch_size=at_once)


def compile_training(
    model: Model,
    optimizer: optax.GradientTransformation,
    task: Task,
    sizes: Sizes,
    devices: Sequence[Any],
) -> DataParallel:
    """Compiles the training of a stack of networks.

    Args:
        model: the network.
        optimizer: of the parameters of every seed.
        task: what is learned.
        sizes: of the training.
        devices: over which a batch is spread, of all processes.

    Raises:
        InputError: as `check_batch`.
    """
    check_batch(sizes.batch, sizes.micro_batches, len(devices))
    learn = Learner(model, optimizer, task, sizes)
    each = partial(over_seeds, at_once=sizes.seeds_at_once)
    steps_per_epoch = sizes.steps_per_epoch
    own = [n for n, d in enumerate(devices) if d.process_index == jax.process_index()]
    sharding = replicated(devices)

    # On each device. Batches [S, N, b, ...] are filled from `memory`, or come filled where it is
    # None; outputs are alike on all devices.
    parallel = partial(jax.pmap, axis_name=AXIS, devices=devices, out_axes=None)

    def filled(batch: Batch, memory: Memory | None) -> Batch:
        return memory.filled(batch) if memory else batch

    @partial(parallel, in_axes=(None, None, 0, None, None, None), donate_argnums=0)
    def train(
        states: TrainState,
        memory: Memory | None,
        batches: Batch,
        keys: Array,
        step: Array,
        until: Array,
    ) -> TrainState:
        def one_seed(state: TrainState, batches: Batch, key: Key[Array, ""]) -> TrainState:
            def one_step(n: Array, state: TrainState) -> TrainState:
                batch = jax.tree.map(lambda a: a[n % len(a)], batches)
                return learn.train(state, filled(batch, memory), key, n)

            return lax.fori_loop(step, until, one_step, state)

        return each(one_seed, states, batches, keys)

    @partial(parallel, in_axes=(None, None, 0, None))
    def total(variables: Variables, memory: Memory | None, batches: Batch, keys: Array) -> Any:
        def one_seed(variables: Variables, batches: Batch, key: Key[Array, ""]) -> Any:
            sums = lax.map(lambda b: learn.total(variables, filled(b, memory), key), batches)
            return jax.tree.map(jnp.sum, sums)

        return each(one_seed, variables, batches, keys)

    select = jax.jit(jax.vmap(select_best, (0, 0, 0, None)), donate_argnums=0)
    keys_of_no_epoch = jax.jit(jax.vmap(lambda key: jax.random.fold_in(key, 2**31)))

    # On the host.
    shuffle = on_cpu(jax.jit(jax.vmap(jax.random.permutation)))

    def cut(examples: Shaped[np.ndarray, "S P"], size: int, rows: int = 1) -> np.ndarray:
        """Returns batches [P / size, own devices, S, size / devices]: of each row, some columns."""
        S, batches = len(examples), examples.shape[1] // size
        parts = examples.reshape(S, batches, rows, len(devices), -1).transpose(1, 3, 0, 2, 4)
        return parts.reshape(batches, len(devices), S, -1)[:, own]

    def supply(data: Data, numbers: np.ndarray, keys: Array | None = None) -> Iterator[Batch]:
        """Yields cut batches as [own devices, S, N, b, ...]: all, or one by one from a stream."""
        if data.memory:
            yield Batch(numbers.transpose(1, 2, 0, 3), None, None)
            return
        keys = None if keys is None else keys[:, None]
        read = data.source.batches(numbers.clip(0), keys)
        for chosen, (images, labels) in zip(numbers, read, strict=True):
            yield Batch(chosen[:, :, None], images[:, :, None], labels[:, :, None])

    coming: Iterator[Batch] = iter(())  # batches that are read ahead from a stream
    position: int | None = None  # step of the first of them

    def advance(state: TrainState, data: Data, step: int, until: int) -> TrainState:
        nonlocal coming, position
        epoch, first = divmod(step, steps_per_epoch)
        keys_order, keys, _ = keys_of_epoch(data.key, epoch)

        def batches_from(first: int) -> Iterator[Batch]:
            order = shuffle(keys_order, data.train)[:, : steps_per_epoch * sizes.batch]
            return supply(data, cut(order, sizes.batch, sizes.micro_batches)[first:], keys)

        if data.memory:
            return train(state, data.memory, next(batches_from(0)), keys, step, until)
        if position != step or first == 0:
            coming = batches_from(first)
        for n in range(step, until):
            state = train(state, None, next(coming), keys, n, n + 1)
        position = until
        return state

    def means(variables: Variables, data: Data, examples: np.ndarray, keys: Array) -> Any:
        n = examples.shape[1]
        batches = math.ceil(n / sizes.evaluation_batch)
        size = math.ceil(n / batches / len(devices)) * len(devices)
        padding = (0, 0), (0, batches * size - n)
        numbers = cut(np.pad(examples, padding, constant_values=-1), size)
        sums = [total(variables, data.memory, b, keys) for b in supply(data, numbers)]
        return jax.tree.map(lambda *a: jnp.stack(a).sum(0) / n, *sums)

    def look(state: TrainState, data: Data, epoch: int) -> tuple[TrainState, Metrics]:
        *_, keys = keys_of_epoch(data.key, epoch - 1)
        return select(state, *means(state.variables, data, data.validation, keys), epoch)

    def evaluate(variables: Variables, data: Data, examples: np.ndarray) -> tuple[Array, Array]:
        return means(variables, data, examples, keys_of_no_epoch(data.key))

    return DataParallel(
        start=jax.jit(partial(each, learn.start), out_shardings=sharding),
        advance=advance,
        variables=lambda state, _: state.variables,
        look=look,
        evaluate=evaluate,
        ended=lambda _, step: step >= sizes.epochs * steps_per_epoch,
        steps_per_epoch=steps_per_epoch,
        look_every=1,
        sharding=sharding,
        display=_display(sizes),
        halts_on_divergence=True,
    )


def _display(sizes: Sizes) -> Display:
    def line(metrics: Metrics, epoch: int) -> str:
        errors = " ".join(f"{error:.4f}" for error in metrics.validation_error)
        return (
            f"training loss {np.mean(metrics.train_loss):.3f}, error "
            f"{np.mean(metrics.train_error):.4f}  validation error by seed {errors}"
        )

    def beside_bar(state: TrainState, step: int) -> str:
        """Means over the seeds and the epoch so far."""
        share = ((step - 1) % sizes.steps_per_epoch + 1) / sizes.steps_per_epoch
        loss, error = (collected(a).mean() / share for a in (state.loss, state.error))
        return f"loss {loss:.3f}, accuracy {1 - error:.3f}"

    return Display(lambda *_: (sizes.epochs, True), line, beside_bar, images_per_step=sizes.batch)
