"""Training of a stack of networks on data in the devices' memory, each batch spread over devices.

Every device holds all networks and all data, computes its part of each batch under `jax.pmap`, and
averages gradients and batch statistics with the others. What is random depends on the seed, the
epoch and the example alone, so that the same global batch gives the same training on any number of
devices.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Bool, Float, Int, Key, Shaped

from relstab_jax.errors import InputError
from relstab_jax.models import Model, Variables

AXIS = "batch"


class Task(NamedTuple):
    """What is learned.

    Attributes:
        visit: (key, stored example) -> input of the network, at a visit in training.
        show: (key, stored example) -> input of the network, for an evaluation.
        loss: (outputs [P, K], labels [P]) -> mean loss.
        error: (outputs [P, K], labels [P]) -> fraction of wrong outputs.
    """

    visit: Callable[[Key[Array, ""], Array], Array]
    show: Callable[[Key[Array, ""], Array], Array]
    loss: Callable[[Array, Array], Float[Array, ""]]
    error: Callable[[Array, Array], Float[Array, ""]]


class Data(NamedTuple):
    """Examples as they are stored, and what each of the S seeds does with them.

    Attributes:
        inputs: [M, ...] of all examples; or a `relstab_jax.data.stream.Stream` of them.
        labels: [M]; none where a stream gives them.
        train: [S, P], the examples that a seed trains on.
        validation: [S, V], those on which it selects its best epoch.
        key: [S], of the order of a seed's examples and of all that is random in its training.
    """

    inputs: Any
    labels: Any
    train: Any
    validation: Any
    key: Key[Array, "..."]


class Seed(NamedTuple):
    """One network in training; a stack has a leading seed axis [S].

    Attributes:
        variables: of the network.
        optimizer: state of the optimizer.
        loss: mean training loss of the epoch so far, weighted as if the epoch were complete.
        error: mean training error, likewise.
        best: the variables with the lowest validation error at the end of an epoch, of the first
            such epoch.
        best_error: that error.
        best_epoch: that epoch; 0 before the first look.
        diverged: the first step, counted from 1, whose loss was not finite; 0 if there is none.
    """

    variables: Variables
    optimizer: Any
    loss: Float[Array, "..."]
    error: Float[Array, "..."]
    best: Variables
    best_error: Float[Array, "..."]
    best_epoch: Int[Array, "..."]
    diverged: Int[Array, "..."]


class Look(NamedTuple):
    """What is seen at the end of an epoch, for each seed [S]."""

    train_loss: Float[Array, "..."]
    train_error: Float[Array, "..."]
    validation_loss: Float[Array, "..."]
    validation_error: Float[Array, "..."]


class Training(NamedTuple):
    """The compiled calls. What they take and give has a leading device axis, alike on all devices.

    Attributes:
        start: keys [S], without device axis -> seeds, at initialisation.
        advance: (seeds, data, epoch, first, until) -> seeds, trained in `epoch`, counted from 0,
            from its step `first` to `until`. It consumes `seeds`.
        look: (seeds, data, epoch) -> (seeds, Look), after `epoch` epochs.
        evaluate: (variables, data, examples [S, n], without device axis) -> (loss, error), each
            [S].
        steps_per_epoch: optimisation steps in an epoch. Where the batch does not divide the
            training set, each epoch leaves out other examples, fewer than a batch.
    """

    start: Callable[[Key[Array, " S"]], Seed]
    advance: Callable[[Seed, Data, int, int, int], Seed]
    look: Callable[[Seed, Data, int], tuple[Seed, Look]]
    evaluate: Callable[[Variables, Data, np.ndarray], tuple[Array, Array]]
    steps_per_epoch: int


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


def replicate(tree: Any, devices: Sequence[Any]) -> Any:
    """Puts a copy of every array on each of the devices, along a leading device axis."""
    local = [device for device in devices if device.process_index == jax.process_index()]
    mesh = Mesh(np.array(local), (AXIS,))

    def with_device_axis(tree: Any) -> Any:
        return jax.tree.map(lambda x: jnp.broadcast_to(x, (len(local), *x.shape)), tree)

    copies = jax.device_put(tree, NamedSharding(mesh, PartitionSpec()))
    return jax.jit(with_device_axis, out_shardings=NamedSharding(mesh, PartitionSpec(AXIS)))(copies)


class Batch(NamedTuple):
    """Examples that a device computes together.

    Attributes:
        numbers: [b], which name the examples.
        stored: [b, ...], the examples as they are stored.
        labels: [b].
    """

    numbers: Any
    stored: Any
    labels: Any


class Sizes(NamedTuple):
    """How much there is to train on, and how it is cut.

    Attributes:
        train_points: P.
        batch: examples of an optimisation step, over all devices.
        evaluation_batch: examples of an evaluation in memory at a time, over all devices.
        micro_batches: parts in which a step computes its batch one after the other, to need less
            memory. The gradient is that of the whole batch, but batch-norm normalises each part by
            its own statistics.
        seeds_at_once: how many networks of the stack train at the same time, by `vmap`; the others
            wait for them.
    """

    train_points: int
    batch: int
    evaluation_batch: int
    micro_batches: int = 1
    seeds_at_once: int = 1

    @property
    def steps_per_epoch(self) -> int:
        """Optimisation steps in an epoch; the examples that are left fill no batch."""
        return self.train_points // self.batch


class Learner(NamedTuple):
    """What happens to one network, on each device, under the axis of the devices.

    Attributes:
        start: key -> seed, at initialisation.
        train: (seed, the device's part of a batch, key of the epoch's steps, step) -> seed.
        total: (variables, batch, which of it count [b], key) -> sums of loss and error over the
            batches of all devices.
        judge: (seed, validation loss, validation error, epoch) -> (seed, Look), which keeps the
            best network.
    """

    start: Callable[[Key[Array, ""]], Seed]
    train: Callable[[Seed, Batch, Key[Array, ""], Array], Seed]
    total: Callable[[Variables, Batch, Array, Key[Array, ""]], tuple[Array, Array]]
    judge: Callable[[Seed, Array, Array, Array], tuple[Seed, Look]]


def learner(
    model: Model,
    optimizer: optax.GradientTransformation,
    task: Task,
    sizes: Sizes,
) -> Learner:
    """Returns the pure functions of a training; arguments as of `compile_training`."""
    micro_batches, steps_per_epoch = sizes.micro_batches, sizes.steps_per_epoch

    def start(key: Key[Array, ""]) -> Seed:
        variables = model.init(key)
        zero, none = jnp.zeros(()), jnp.zeros((), jnp.int32)
        state = optimizer.init(variables["params"])
        return Seed(variables, state, zero, zero, variables, jnp.full((), jnp.inf), none, none)

    def inputs(view: Callable[..., Array], batch: Batch, key: Key[Array, ""]) -> Array:
        keys = jax.vmap(partial(jax.random.fold_in, key))(batch.numbers)
        return jax.vmap(view)(keys, batch.stored)

    def train(seed: Seed, batch: Batch, key: Key[Array, ""], step: Int[Array, ""]) -> Seed:
        key_visit, key_dropout = jax.random.split(key)

        def one_part(variables: Variables, part: tuple[Batch, Array]) -> tuple[Variables, Any]:
            batch, number = part
            x = inputs(task.visit, batch, key_visit)
            drop = jax.random.fold_in(jax.random.fold_in(key_dropout, step), number)

            def objective(params: Any) -> tuple[Array, Any]:
                outputs, new = model.train({**variables, "params": params}, x, drop, axis_name=AXIS)
                return task.loss(outputs, batch.labels), (new, task.error(outputs, batch.labels))

            (loss, (new, error)), gradient = jax.value_and_grad(objective, has_aux=True)(
                variables["params"]
            )
            return new, (gradient, loss, error)

        if micro_batches == 1:
            variables, found = one_part(seed.variables, (batch, jnp.zeros((), jnp.int32)))
        else:
            parts = jax.tree.map(lambda a: a.reshape(micro_batches, -1, *a.shape[1:]), batch)
            numbered = parts, jnp.arange(micro_batches)
            variables, found = _scan_mean(one_part, seed.variables, numbered)
        gradient, loss, error = lax.pmean(found, AXIS)
        updates, state = optimizer.update(gradient, seed.optimizer, variables["params"])
        params = optax.apply_updates(variables["params"], updates)
        bad = (seed.diverged == 0) & ~jnp.isfinite(loss)
        begins = step % steps_per_epoch == 0
        return seed._replace(
            variables={**variables, "params": params},
            optimizer=state,
            loss=jnp.where(begins, 0, seed.loss) + loss / steps_per_epoch,
            error=jnp.where(begins, 0, seed.error) + error / steps_per_epoch,
            diverged=jnp.where(bad, step + 1, seed.diverged),
        )

    def total(
        variables: Variables, batch: Batch, counts: Bool[Array, " b"], key: Key[Array, ""]
    ) -> tuple[Array, Array]:
        outputs = model.apply(variables, inputs(task.show, batch, key))

        def over_batch(mean: Callable[[Array, Array], Array]) -> Array:
            of_each = jax.vmap(lambda o, y: mean(o[None], y[None]))(outputs, batch.labels)
            return lax.psum(jnp.where(counts, of_each, 0).sum(), AXIS)

        return over_batch(task.loss), over_batch(task.error)

    def judge(seed: Seed, loss: Array, error: Array, epoch: Array) -> tuple[Seed, Look]:
        better = error < seed.best_error
        best = jax.tree.map(
            lambda new, old: jnp.where(better, new, old),
            (seed.variables, error, epoch),
            (seed.best, seed.best_error, seed.best_epoch),
        )
        seed = seed._replace(best=best[0], best_error=best[1], best_epoch=best[2])
        return seed, Look(seed.loss, seed.error, loss, error)

    return Learner(start, train, total, judge)


def over_seeds(function: Callable[..., Any], *arguments: Any, at_once: int) -> Any:
    """Applies `function` to each seed, `at_once` side by side and the others in turn."""
    S = jax.tree.leaves(arguments)[0].shape[0]
    if at_once >= S:
        return jax.vmap(function)(*arguments)
    return lax.map(lambda a: function(*a), arguments, batch_size=at_once)


def epoch_keys(key: Key[Array, ""], epoch: int | Int[Array, ""]) -> Key[Array, "3"]:
    """Returns the keys of an epoch's order, of its steps, and of the look at its end."""
    return jax.random.split(jax.random.fold_in(key, epoch), 3)


def evaluation_key(key: Key[Array, ""]) -> Key[Array, ""]:
    """Returns the key of evaluations that belong to no epoch."""
    return jax.random.fold_in(key, 2**31)


def compile_training(
    model: Model,
    optimizer: optax.GradientTransformation,
    task: Task,
    sizes: Sizes,
    devices: Sequence[Any],
) -> Training:
    """Compiles the training of a stack of networks on data in the devices' memory.

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
    learn = learner(model, optimizer, task, sizes)
    each = partial(over_seeds, at_once=sizes.seeds_at_once)

    def batch_of(data: Data, examples: Int[Array, " b"]) -> Batch:
        return Batch(examples, data.inputs[examples], data.labels[examples])

    def own_part(examples: Shaped[Array, "rows devices_b"]) -> Shaped[Array, "rows b"]:
        """Returns the columns that this device computes."""
        b = examples.shape[1] // lax.axis_size(AXIS)
        return lax.dynamic_slice_in_dim(examples, lax.axis_index(AXIS) * b, b, axis=1)

    def advance(
        seeds: Seed, data: Data, epoch: Int[Array, ""], first: Int[Array, ""], until: Array
    ) -> Seed:
        def one_seed(seed: Seed, train: Array, key: Key[Array, ""]) -> Seed:
            key_order, key_step, _ = epoch_keys(key, epoch)
            order = jax.random.permutation(key_order, train)

            def one_step(n: Array, seed: Seed) -> Seed:
                batch = lax.dynamic_slice_in_dim(order, n * sizes.batch, sizes.batch)
                examples = own_part(batch.reshape(sizes.micro_batches, -1)).ravel()
                return learn.train(
                    seed, batch_of(data, examples), key_step, epoch * sizes.steps_per_epoch + n
                )

            return lax.fori_loop(first, until, one_step, seed)

        return each(one_seed, seeds, data.train, data.key)

    def evaluate_one(
        variables: Variables, data: Data, examples: Int[Array, " n"], key: Key[Array, ""]
    ) -> tuple[Array, Array]:
        """Loss and error of one network over some examples."""
        n, devices = len(examples), lax.axis_size(AXIS)
        batches = math.ceil(n / sizes.evaluation_batch)
        b = math.ceil(n / batches / devices)
        padding = batches * devices * b - n
        rows = own_part(jnp.pad(examples, (0, padding)).reshape(batches, -1))
        counted = own_part((jnp.arange(n + padding) < n).reshape(batches, -1))

        def one_batch(batch: tuple[Array, Array]) -> tuple[Array, Array]:
            examples, counts = batch
            return learn.total(variables, batch_of(data, examples), counts, key)

        sums = lax.map(one_batch, (rows, counted))
        return jax.tree.map(lambda s: s.sum() / n, sums)

    def look(seeds: Seed, data: Data, epoch: Int[Array, ""]) -> tuple[Seed, Look]:
        def one_seed(seed: Seed, validation: Array, key: Key[Array, ""]) -> tuple[Seed, Look]:
            *_, key_look = epoch_keys(key, epoch - 1)
            loss, error = evaluate_one(seed.variables, data, validation, key_look)
            return learn.judge(seed, loss, error, epoch)

        return each(one_seed, seeds, data.validation, data.key)

    def evaluate(variables: Variables, data: Data, examples: Array) -> tuple[Array, Array]:
        def one_seed(variables: Variables, examples: Array, key: Key[Array, ""]) -> Any:
            return evaluate_one(variables, data, examples, evaluation_key(key))

        return each(one_seed, variables, examples, data.key)

    parallel = partial(jax.pmap, axis_name=AXIS, devices=devices)
    start_all, evaluate_all = jax.jit(partial(each, learn.start)), parallel(evaluate)
    return Training(
        lambda keys: replicate(start_all(keys), devices),
        parallel(advance, in_axes=(0, 0, None, None, None), donate_argnums=0),
        parallel(look, in_axes=(0, 0, None), donate_argnums=0),
        lambda variables, data, examples: evaluate_all(
            variables, data, replicate(jnp.asarray(examples), devices)
        ),
        sizes.steps_per_epoch,
    )


def _scan_mean(step: Callable[[Any, Any], tuple[Any, Any]], carry: Any, xs: Any) -> tuple[Any, Any]:
    """Returns what `lax.scan` does, with the mean over the steps in the place of their stack."""
    length = jax.tree.leaves(xs)[0].shape[0]
    shapes = jax.eval_shape(step, carry, jax.tree.map(lambda a: a[0], xs))[1]
    zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)

    def add(carry: Any, x: Any) -> tuple[Any, None]:
        inner, total = carry
        inner, found = step(inner, x)
        return (inner, jax.tree.map(jnp.add, total, found)), None

    (carry, total), _ = lax.scan(add, (carry, zeros), xs)
    return carry, jax.tree.map(lambda t: t / length, total)
