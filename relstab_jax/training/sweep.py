"""Training of many seeds at once: one compiled call, the seed axis sharded over the devices."""

import os
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Bool, Float, Int, Key

from relstab_jax.models import Model, Variables
from relstab_jax.training import losses

# Without it XLA copies all parameters in every step, before it updates them.
UPDATE_IN_PLACE = {"xla_cpu_copy_insertion_use_region_analysis": True}

Objective = Callable[[Variables, Array, Array], tuple[Float[Array, ""], Float[Array, ""]]]


class Rules(NamedTuple):
    """How long a seed trains, in epochs.

    At every `look_every`-th epoch the mean training loss of that epoch is looked at. The first
    look at a zero is the interpolation epoch e*; training stops at the first look from epoch
    `patience` · e* on at which training loss and validation error are zero, or at `max_epochs`.
    """

    look_every: int
    patience: int
    max_epochs: int


class Data(NamedTuple):
    """Points of one seed: inputs [P, ..., C] and labels ±1 [P]; `key` orders the epochs."""

    key: Key[Array, "..."]
    train: tuple[Float[Array, "..."], Int[Array, "..."]]
    validation: tuple[Float[Array, "..."], Int[Array, "..."]]


class Seed(NamedTuple):
    """One network in training; a sweep stacks seeds along a leading axis.

    Attributes:
        variables: of the network.
        optimizer: state of the optimizer.
        order: of the training points in this epoch [P].
        loss: mean training loss of the epoch so far, weighted as if the epoch were complete.
        interpolation_epoch: e*; 0 before it.
        epochs: at which the seed stopped; 0 while it trains.
        diverged: whether it stopped because its loss was not finite.
    """

    variables: Variables
    optimizer: Any
    order: Int[Array, "..."]
    loss: Float[Array, "..."]
    interpolation_epoch: Int[Array, "..."]
    epochs: Int[Array, "..."]
    diverged: Bool[Array, "..."]


class Look(NamedTuple):
    """What a look at an epoch's end sees, for each seed [S]."""

    train_loss: Float[Array, " S"]
    validation_error: Float[Array, " S"]
    interpolation_epoch: Int[Array, " S"]
    stopped: Bool[Array, " S"]
    diverged: Bool[Array, " S"]


class Sweep(NamedTuple):
    """The compiled calls of a sweep; every argument and result has a leading seed axis [S].

    Attributes:
        start: keys -> seeds, at initialisation.
        advance: (seeds, data, step, until) -> seeds, trained from optimisation step `step` to
            `until`. It consumes `seeds`. A stopped seed does not change.
        look: (seeds, data, epoch) -> (seeds, Look), at the end of an epoch.
        steps_per_epoch: optimisation steps in an epoch.
    """

    start: Callable[[Key[Array, " S"]], Seed]
    advance: Callable[[Seed, Data, int, int], Seed]
    look: Callable[[Seed, Data, int], tuple[Seed, Look]]
    steps_per_epoch: int


def one_device_per_core() -> None:
    """Makes every core of a CPU a device, so that small networks run side by side.

    It has to come before JAX is first used, and changes nothing on other devices, or where the
    number has been set (JAX_NUM_CPU_DEVICES).
    """
    if jax.config.jax_num_cpu_devices < 0:  # pyright: ignore[reportAttributeAccessIssue]
        cores = getattr(os, "process_cpu_count", os.cpu_count)()  # those of the process, if known
        jax.config.update("jax_num_cpu_devices", cores or 1)


def seed_sharding(seeds: int) -> NamedSharding:
    """Spreads the seed axis over as many devices as leave each the fewest seeds.

    Of every process as many: there are the fewest devices that do.
    """
    devices = np.array(sorted(jax.devices(), key=lambda d: d.process_index))
    devices = devices.reshape(jax.process_count(), -1)
    per_device = -(-seeds // devices.size)
    of_a_process = -(-seeds // (per_device * len(devices)))
    mesh = Mesh(devices[:, :of_a_process].ravel(), ("seed",))
    return NamedSharding(mesh, PartitionSpec("seed"))


def collected(tree: Any, seeds: int) -> Any:
    """Returns arrays of seeds from all processes, as NumPy arrays [seeds, ...], without padding."""
    return jax.tree.map(lambda a: a[:seeds], multihost_utils.process_allgather(tree, tiled=True))


def compile_sweep(
    model: Model,
    optimizer: optax.GradientTransformation,
    objective: Objective,
    rules: Rules,
    *,
    train_points: int,
    batch_size: int,
    sharding: NamedSharding,
) -> Sweep:
    """Compiles the training of a stack of networks by stochastic gradient descent.

    Args:
        model: the network.
        optimizer: of every seed.
        objective: (variables, inputs, labels) -> (what is minimised, the training loss).
        rules: when a seed stops.
        train_points: P, a multiple of `batch_size`.
        batch_size: points of an optimisation step; every epoch visits all points in a new order.
        sharding: of the seed axis.
    """
    steps_per_epoch = train_points // batch_size

    def start(key: Key[Array, ""]) -> Seed:
        variables = model.init(key)
        none = jnp.zeros((), jnp.int32)
        return Seed(
            variables,
            optimizer.init(variables),
            order=jnp.arange(train_points),
            loss=jnp.zeros(()),
            interpolation_epoch=none,
            epochs=none,
            diverged=jnp.zeros((), bool),
        )

    def new_epoch(seed: Seed, data: Data, epoch: Int[Array, ""]) -> tuple[Array, Array]:
        order = jax.random.permutation(jax.random.fold_in(data.key, epoch), train_points)
        return order, jnp.zeros_like(seed.loss)

    def train_step(seed: Seed, data: Data, step: Int[Array, ""]) -> Seed:
        batch = lax.dynamic_slice_in_dim(seed.order, step * batch_size, batch_size)
        inputs, labels = (a[batch] for a in data.train)
        gradient, loss = jax.grad(objective, has_aux=True)(seed.variables, inputs, labels)
        updates, state = optimizer.update(gradient, seed.optimizer, seed.variables)
        trained = optax.apply_updates(seed.variables, updates), state
        variables, state = jax.tree.map(
            lambda new, old: jnp.where(seed.epochs == 0, new, old),
            trained,
            (seed.variables, seed.optimizer),
        )
        return seed._replace(
            variables=variables, optimizer=state, loss=seed.loss + loss / steps_per_epoch
        )

    def advance(seeds: Seed, data: Data, step: Int[Array, ""], until: Int[Array, ""]) -> Seed:
        def one_step(carry: tuple[Array, Seed]) -> tuple[Array, Seed]:
            step, seeds = carry
            epoch, within = step // steps_per_epoch, step % steps_per_epoch
            order, loss = lax.cond(
                within == 0,
                lambda: jax.vmap(new_epoch, (0, 0, None))(seeds, data, epoch),
                lambda: (seeds.order, seeds.loss),
            )
            seeds = seeds._replace(order=order, loss=loss)
            return step + 1, jax.vmap(train_step, (0, 0, None))(seeds, data, within)

        return lax.while_loop(lambda carry: carry[0] < until, one_step, (step, seeds))[1]

    def look(seed: Seed, data: Data, epoch: Int[Array, ""]) -> tuple[Seed, Look]:
        inputs, labels = data.validation
        error = losses.error(model.apply(seed.variables, inputs)[:, 0], labels)
        first = jnp.where((seed.interpolation_epoch == 0) & (seed.loss == 0), epoch, 0)
        interpolation = seed.interpolation_epoch + first
        solved = (interpolation > 0) & (seed.loss == 0) & (error == 0)
        finite = [jnp.isfinite(seed.loss)] + [
            jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(seed.variables)
        ]
        training = seed.epochs == 0
        diverged = seed.diverged | ~jnp.stack(finite).all()
        stop = (
            diverged
            | (solved & (epoch >= rules.patience * interpolation))
            | (epoch >= rules.max_epochs)
        )
        seed = seed._replace(
            interpolation_epoch=jnp.where(training, interpolation, seed.interpolation_epoch),
            epochs=jnp.where(training & stop, epoch, seed.epochs),
            diverged=diverged,
        )
        return seed, Look(seed.loss, error, seed.interpolation_epoch, seed.epochs > 0, diverged)

    return Sweep(
        jax.jit(jax.vmap(start), in_shardings=sharding, out_shardings=sharding),
        jax.jit(
            advance,
            in_shardings=(sharding, sharding, None, None),
            out_shardings=sharding,
            donate_argnums=0,
            compiler_options=UPDATE_IN_PLACE if jax.default_backend() == "cpu" else None,
        ),
        jax.jit(
            jax.vmap(look, (0, 0, None)),
            in_shardings=(sharding, sharding, None),
            out_shardings=sharding,
        ),
        steps_per_epoch,
    )
