"""What a data-parallel training does with one network, on each device, under the axis `AXIS`."""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jaxtyping import Array, Float, Int, Key

from relstab_jax.models import Model, Variables

AXIS = "batch"


class Task(NamedTuple):
    """What is learned.

    Attributes:
        augment: (key, stored example) -> input of the network, for training.
        preprocess: (key, stored example) -> input of the network, for an evaluation.
        loss: (outputs [P, K], labels [P]) -> losses [P].
        error: (outputs [P, K], labels [P]) -> 1 for wrong outputs, else 0 [P].
    """

    augment: Callable[[Key[Array, ""], Array], Array]
    preprocess: Callable[[Key[Array, ""], Array], Array]
    loss: Callable[[Array, Array], Float[Array, " P"]]
    error: Callable[[Array, Array], Float[Array, " P"]]


class Sizes(NamedTuple):
    """How much there is to train on, how often, and how it is cut.

    Attributes:
        train_points: P.
        epochs: times that the training set is visited.
        batch: examples of an optimisation step, over all devices.
        evaluation_batch: examples of an evaluation in memory at a time, over all devices.
        micro_batches: parts in which a step computes its batch, one after the other, to save
            memory. The gradient is that of the whole batch, but batch-norm normalises each part by
            its own statistics.
        seeds_at_once: networks of the stack that train side by side, by `vmap`; the others wait.
    """

    train_points: int
    epochs: int
    batch: int
    evaluation_batch: int
    micro_batches: int = 1
    seeds_at_once: int = 1

    @property
    def steps_per_epoch(self) -> int:
        """Optimisation steps in an epoch, which leaves out the examples that fill no batch."""
        return self.train_points // self.batch


class Batch(NamedTuple):
    """Examples that a device computes together.

    Attributes:
        numbers: [b], of the examples in the data; -1 for padding.
        stored: [b, ...], the examples as they are stored.
        labels: [b].
    """

    numbers: Any
    stored: Any
    labels: Any


class TrainState(NamedTuple):
    """One network in training; a stack has a leading seed axis [S].

    Attributes:
        variables: of the network.
        optimizer: state of the optimizer.
        loss: mean training loss of the epoch so far, weighted as if the epoch were complete.
        error: mean training error, likewise.
        best: the variables at the end of the epoch with the lowest validation error, the first of
            several.
        best_error: that error; the largest float before the first look.
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


class Metrics(NamedTuple):
    """What a look records of each seed [S], at the end of an epoch."""

    train_loss: Float[Array, "..."]
    train_error: Float[Array, "..."]
    validation_loss: Float[Array, "..."]
    validation_error: Float[Array, "..."]


@dataclasses.dataclass(frozen=True)
class Learner:
    """The functions of one network; attributes as of `data_parallel.compile_training`."""

    model: Model
    optimizer: optax.GradientTransformation
    task: Task
    sizes: Sizes

    def start(self, key: Key[Array, ""]) -> TrainState:
        """Returns a network at initialisation."""
        variables = self.model.init(key)
        zero, none = jnp.zeros(()), jnp.zeros((), jnp.int32)
        largest = jnp.full((), jnp.finfo(zero.dtype).max)  # finite, as all of a checkpoint is
        state = self.optimizer.init(variables["params"])
        return TrainState(variables, state, zero, zero, variables, largest, none, none)

    def train(
        self, state: TrainState, batch: Batch, key: Key[Array, ""], step: Int[Array, ""]
    ) -> TrainState:
        """Takes an optimisation step.

        Args:
            state: before the step.
            batch: the part of it that this device computes.
            key: of the steps of the epoch.
            step: its number, counted from 0.
        """
        key_augment, key_dropout = jax.random.split(key)
        micro_batches, steps_per_epoch = self.sizes.micro_batches, self.sizes.steps_per_epoch

        def gradient_of(variables: Variables, part: tuple[Batch, Array]) -> tuple[Variables, Any]:
            """Returns new variables, and gradient, loss and error of a numbered part."""
            batch, number = part
            x = _inputs(self.task.augment, batch, key_augment)
            drop = jax.random.fold_in(jax.random.fold_in(key_dropout, step), number)

            def objective(params: Any) -> tuple[Array, Any]:
                outputs, new = self.model.train(
                    {**variables, "params": params}, x, drop, axis_name=AXIS
                )
                error = self.task.error(outputs, batch.labels).mean()
                return self.task.loss(outputs, batch.labels).mean(), (new, error)

            (loss, (new, error)), gradient = jax.value_and_grad(objective, has_aux=True)(
                variables["params"]
            )
            return new, (gradient, loss, error)

        def add(carry: tuple[Variables, Any], part: tuple[Batch, Array]) -> tuple[Any, None]:
            variables, total = carry
            variables, found = gradient_of(variables, part)
            return (variables, jax.tree.map(jnp.add, total, found)), None

        if micro_batches == 1:
            variables, found = gradient_of(state.variables, (batch, jnp.zeros((), jnp.int32)))
        else:
            parts = jax.tree.map(lambda a: a.reshape(micro_batches, -1, *a.shape[1:]), batch)
            zeros = jax.tree.map(
                jnp.zeros_like, (state.variables["params"], state.loss, state.loss)
            )
            (variables, total), _ = lax.scan(
                add, (state.variables, zeros), (parts, jnp.arange(micro_batches))
            )
            found = jax.tree.map(lambda t: t / micro_batches, total)
        gradient, loss, error = lax.pmean(found, AXIS)
        updates, new = self.optimizer.update(gradient, state.optimizer, variables["params"])
        params = optax.apply_updates(variables["params"], updates)
        bad = (state.diverged == 0) & ~jnp.isfinite(loss)
        begins = step % steps_per_epoch == 0
        return state._replace(
            variables={**variables, "params": params},
            optimizer=new,
            loss=jnp.where(begins, 0, state.loss) + loss / steps_per_epoch,
            error=jnp.where(begins, 0, state.error) + error / steps_per_epoch,
            diverged=jnp.where(bad, step + 1, state.diverged),
        )

    def total(self, variables: Variables, batch: Batch, key: Key[Array, ""]) -> tuple[Array, Array]:
        """Returns the sums of loss and error over the batches of all devices, without padding."""
        outputs = self.model.apply(variables, _inputs(self.task.preprocess, batch, key))

        def summed(of_each: Array) -> Array:
            return lax.psum(jnp.where(batch.numbers >= 0, of_each, 0).sum(), AXIS)

        loss = self.task.loss(outputs, batch.labels)
        return summed(loss), summed(self.task.error(outputs, batch.labels))


def _inputs(view: Callable[..., Array], batch: Batch, key: Key[Array, ""]) -> Array:
    keys = jax.vmap(partial(jax.random.fold_in, key))(batch.numbers)
    return jax.vmap(view)(keys, batch.stored)


def select_best(
    state: TrainState, loss: Array, error: Array, epoch: Array
) -> tuple[TrainState, Metrics]:
    """Keeps the network if its validation error, in `epoch`, is the lowest so far."""
    better = error < state.best_error
    best, best_error, best_epoch = jax.tree.map(
        lambda new, old: jnp.where(better, new, old),
        (state.variables, error, epoch),
        (state.best, state.best_error, state.best_epoch),
    )
    state = state._replace(best=best, best_error=best_error, best_epoch=best_epoch)
    return state, Metrics(state.loss, state.error, loss, error)
