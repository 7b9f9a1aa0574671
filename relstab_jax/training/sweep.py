"""Training of many seeds at once: one compiled call, the seed axis sharded over the devices.

Gradient descent on a hinge loss and a ridge. Where no margin of a batch is below 1, the gradient of
the hinge is zero and the step does no more than multiply the filters by `decay`. So the variables
stay as the last step that learned left them, and the decay since is a factor, in the forward pass
too: nothing is computed for a step that learns nothing, and leaving it out changes no bit.

Which step learns next is seen ahead of time. Until then every margin is a function of the step
alone, smooth and slow: it is computed for all points at the first, the middle and the last of the
next `ahead` steps, and every step is computed at which it may be below 1 between them (`_least`).
The bound is exact for a margin that bends one way within the window; for one that bends both ways
it has a margin of safety, and is checked after the fact: margins of the batch of each computed
step, and of all points at each look, are compared with their bounds, and those below are counted as
unforeseen. Where steps that learn follow close on each other, every step
is computed instead.
"""

import functools
import math
import os
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Bool, Float, Int, Key

from relstab_jax.models import Variables
from relstab_jax.training import losses

# Without it XLA copies all parameters in every step, before it updates them.
UPDATE_IN_PLACE = {"xla_cpu_copy_insertion_use_region_analysis": True}

LOOK_COSTS = 3  # computed steps, about as many as margins at three instants


class Network(NamedTuple):
    """What is trained: a network whose filters the ridge shrinks.

    Attributes:
        init: key -> variables.
        outputs: (variables, decay, inputs [B, ...]) -> outputs [B], with filters times `decay`.
        outputs_at: (variables, decay [T], points) -> outputs [T, P], of all points of a set.
        shrunk: (variables, decay) -> variables, with filters times `decay`.
    """

    init: Callable[[Key[Array, ""]], Variables]
    outputs: Callable[[Variables, Float[Array, ""], Array], Float[Array, " B"]]
    outputs_at: Callable[[Variables, Float[Array, " T"], Any], Float[Array, "T P"]]
    shrunk: Callable[[Variables, Float[Array, ""]], Variables]


class Descent(NamedTuple):
    """How a step changes the variables.

    Attributes:
        rate: w <- decay · w - rate · (gradient of the hinge loss).
        decay: of the filters in a step, by the ridge, between 0 and 1.
        batch_size: points of a step, a divisor of P; an epoch visits all in a new order.
        ahead: over how many steps margins are foreseen, an even number; with 0 every step is
            computed.
        rounding: how far margins computed in different ways may lie apart.
    """

    rate: float
    decay: float
    batch_size: int
    ahead: int
    rounding: float


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
    """Points of one seed, with labels ±1; `key` orders the epochs.

    Attributes:
        key: of the order of every epoch.
        inputs: of the training points [P, ...].
        labels: of the training points [P].
        train: the training points as `Network.outputs_at` takes them.
        validation: points, as it takes them, and their labels [V].
    """

    key: Key[Array, "..."]
    inputs: Float[Array, "..."]
    labels: Int[Array, "..."]
    train: Any
    validation: tuple[Any, Int[Array, "..."]]


class Seed(NamedTuple):
    """One network in training; a sweep stacks seeds along a leading axis.

    Attributes:
        variables: of the network before step `since`.
        since: the step after the last that learned; the filters have decayed from there on.
        gap: steps between the last two that learned.
        margins: of all training points, at steps `seen`, `seen` + ahead/2, `seen` + ahead [3, P].
        seen: the step at which margins were last foreseen; before `since`, they are void.
        order: of the training points in this epoch [P].
        loss: mean training loss of the epoch so far, weighted as if the epoch were complete.
        computed: how many steps were computed.
        unforeseen: how many margins, of those that were checked, lay below their bound.
        interpolation_epoch: e*; 0 before it.
        epochs: at which the seed stopped; 0 while it trains.
        diverged: whether it stopped because its loss was not finite.
    """

    variables: Variables
    since: Int[Array, "..."]
    gap: Int[Array, "..."]
    margins: Float[Array, "..."]
    seen: Int[Array, "..."]
    order: Int[Array, "..."]
    loss: Float[Array, "..."]
    computed: Int[Array, "..."]
    unforeseen: Int[Array, "..."]
    interpolation_epoch: Int[Array, "..."]
    epochs: Int[Array, "..."]
    diverged: Bool[Array, "..."]


class Look(NamedTuple):
    """What a look at an epoch's end sees, for each seed [S]."""

    train_loss: Float[Array, " S"]
    validation_error: Float[Array, " S"]
    interpolation_epoch: Int[Array, " S"]
    computed_steps: Int[Array, " S"]
    unforeseen: Int[Array, " S"]
    stopped: Bool[Array, " S"]
    diverged: Bool[Array, " S"]


class Sweep(NamedTuple):
    """The compiled calls of a sweep; every argument and result has a leading seed axis [S].

    Attributes:
        start: keys -> seeds, at initialisation.
        advance: (seeds, data, step, until) -> seeds, trained from optimisation step `step` to
            `until`. It consumes `seeds`. A stopped seed does not change.
        look: (seeds, data, epoch) -> (seeds, Look), at the end of an epoch.
        trained: seeds -> variables of seeds that have stopped.
        steps_per_epoch: optimisation steps in an epoch.
    """

    start: Callable[[Key[Array, " S"]], Seed]
    advance: Callable[[Seed, Data, int, int], Seed]
    look: Callable[[Seed, Data, int], tuple[Seed, Look]]
    trained: Callable[[Seed], Variables]
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


def _of_each_seed(
    function: Callable[..., Any], sharding: NamedSharding, of_seed: int = 1, **options: Any
) -> Callable[..., Any]:
    """Compiles a function of one seed for all: on each device, one after the other.

    So each goes at its own pace, and none depends on those beside it. The first `of_seed`
    arguments have a leading seed axis, and the results; the other arguments are the same for all.
    """

    @functools.wraps(function)
    def on_device(*arguments: Any) -> Any:
        return lax.map(lambda mine: function(*mine, *arguments[of_seed:]), arguments[:of_seed])

    @functools.wraps(function)
    def of_all(*arguments: Any) -> Any:
        specs = (sharding.spec,) * of_seed + (PartitionSpec(),) * (len(arguments) - of_seed)
        return jax.shard_map(
            on_device,
            mesh=sharding.mesh,
            in_specs=specs,
            out_specs=sharding.spec,
            check_vma=False,
        )(*arguments)

    return jax.jit(of_all, out_shardings=sharding, **options)


def _bend(values: Float[Array, "3 *N"]) -> Float[Array, "*N"]:
    """Returns how far functions on [0, 1] lie from their chord at 1/2."""
    first, middle, last = values
    return abs(middle - (first + last) / 2)


def _least(values: Float[Array, "3 *N"], time: Float[Array, "*#N"]) -> Float[Array, "*N"]:
    """Bounds a convex or concave function on [0, 1] from below, by its values at 0, 1/2 and 1.

    A concave function lies above the chords of both halves. A convex one lies at most twice its
    bend below them, because each half lies above the extended chord of the other.
    """
    first, middle, last = values
    left = first + 2 * time * (middle - first)
    right = middle + (2 * time - 1) * (last - middle)
    return jnp.where(time < 0.5, left, right) - 2 * _bend(values)


def compile_sweep(
    network: Network,
    descent: Descent,
    rules: Rules,
    *,
    train_points: int,
    sharding: NamedSharding,
) -> Sweep:
    """Compiles the training of a stack of networks by stochastic gradient descent.

    Args:
        network: the network.
        descent: what a step does.
        rules: when a seed stops.
        train_points: P.
        sharding: of the seed axis.
    """
    steps_per_epoch = train_points // descent.batch_size
    ahead = descent.ahead
    window = np.array([0, ahead // 2, ahead], np.int32)

    def decay(steps: Int[Array, "*N"]) -> Float[Array, "*N"]:
        return jnp.exp(steps.astype(jnp.result_type(float)) * math.log(descent.decay))

    def start(key: Key[Array, ""]) -> Seed:
        none = jnp.zeros((), jnp.int32)
        return Seed(
            network.init(key),
            since=none,
            gap=none,
            margins=jnp.zeros((3, train_points)),
            seen=none - 1,
            order=jnp.arange(train_points),
            loss=jnp.zeros(()),
            computed=none,
            unforeseen=none,
            interpolation_epoch=none,
            epochs=none,
            diverged=jnp.zeros((), bool),
        )

    def margins_at(seed: Seed, data: Data, steps: Int[Array, " T"]) -> Float[Array, "T P"]:
        outputs = network.outputs_at(seed.variables, decay(steps - seed.since), data.train)
        return data.labels.astype(outputs.dtype)[None] * outputs

    def bound(
        seed: Seed, points: Int[Array, "*N B"], steps: Int[Array, "*N"]
    ) -> Float[Array, "*N B"]:
        time = (steps - seed.seen).astype(seed.margins.dtype)[..., None] / max(ahead, 1)
        # The bend of a margin that bends both ways may be none; it lies below by that of others.
        return _least(seed.margins[:, points], time) - 2 * _bend(seed.margins).mean()

    def is_void(seed: Seed, step: Int[Array, ""]) -> Bool[Array, ""]:
        return (seed.seen < seed.since) | (step >= seed.seen + ahead)

    def unforeseen(
        seed: Seed, points: Int[Array, " B"], margins: Float[Array, " B"], step: Int[Array, ""]
    ) -> Int[Array, ""]:
        least = bound(seed, points, step)
        below = margins < least - descent.rounding * abs(least)
        return jnp.sum(below & ~is_void(seed, step), dtype=step.dtype)

    def next_computed(
        seed: Seed, data: Data, step: Int[Array, ""], until: Int[Array, ""]
    ) -> tuple[Seed, Int[Array, ""]]:
        """Returns the next step to compute, or `until`, with the seed as it is before it."""

        def search(carry: tuple[Seed, Array, Array]) -> tuple[Seed, Array, Array]:
            seed, step, _ = carry
            epoch, within = step // steps_per_epoch, step % steps_per_epoch
            order, loss = lax.cond(
                within == 0,
                lambda: (
                    jax.random.permutation(jax.random.fold_in(data.key, epoch), train_points),
                    jnp.zeros_like(seed.loss),
                ),
                lambda: (seed.order, seed.loss),
            )
            seed = seed._replace(order=order, loss=loss)
            void = is_void(seed, step)
            rare = jnp.maximum(seed.gap, step - seed.since) >= LOOK_COSTS
            if ahead:
                seen, margins = lax.cond(
                    void & rare,
                    lambda: (step, margins_at(seed, data, step + window)),
                    lambda: (seed.seen, seed.margins),
                )
                seed = seed._replace(seen=seen, margins=margins)
            blind = void & ~rare if ahead else True
            steps = epoch * steps_per_epoch + jnp.arange(steps_per_epoch, dtype=step.dtype)
            batches = seed.order.reshape(steps_per_epoch, -1)
            least = bound(seed, batches, steps).min(axis=1)
            end = jnp.minimum((epoch + 1) * steps_per_epoch, until)
            end = jnp.where(blind, end, jnp.minimum(end, seed.seen + ahead))
            compute = blind | ~(least > 1 + descent.rounding)
            candidates = compute & (steps >= step) & (steps < end)
            found = candidates.any()
            return seed, jnp.where(found, steps[candidates.argmax()], end), found

        seed, step, _ = lax.while_loop(
            lambda carry: ~carry[2] & (carry[1] < until), search, (seed, step, jnp.array(False))
        )
        return seed, step

    def train_step(seed: Seed, data: Data, step: Int[Array, ""]) -> Seed:
        batch = lax.dynamic_slice_in_dim(
            seed.order, step % steps_per_epoch * descent.batch_size, descent.batch_size
        )
        decayed = decay(step - seed.since)

        def hinge(variables: Variables) -> tuple[Float[Array, ""], Float[Array, " B"]]:
            outputs = network.outputs(variables, decayed, data.inputs[batch])
            return losses.hinge(outputs, data.labels[batch]), outputs

        (loss, outputs), gradient = jax.value_and_grad(hinge, has_aux=True)(seed.variables)
        margins = data.labels[batch].astype(outputs.dtype) * outputs
        learned = ~(loss == 0)
        variables = jax.tree.map(
            lambda old, w, g: jnp.where(learned, w - descent.rate * g, old),
            seed.variables,
            network.shrunk(seed.variables, decayed * descent.decay),
            network.shrunk(gradient, 1 / decayed),  # by the filters as they are now
        )
        return seed._replace(
            variables=variables,
            since=jnp.where(learned, step + 1, seed.since),
            gap=jnp.where(learned, step - seed.since, seed.gap),
            loss=seed.loss + loss / steps_per_epoch,
            computed=seed.computed + 1,
            unforeseen=seed.unforeseen + unforeseen(seed, batch, margins, step),
        )

    def advance(seed: Seed, data: Data, step: Int[Array, ""], until: Int[Array, ""]) -> Seed:
        step = step.astype(seed.since.dtype)
        until = jnp.where(seed.epochs == 0, until.astype(step.dtype), step)

        def compute(carry: tuple[Seed, Array]) -> tuple[Seed, Array]:
            seed, step = carry
            return next_computed(train_step(seed, data, step), data, step + 1, until)

        return lax.while_loop(
            lambda carry: carry[1] < until, compute, next_computed(seed, data, step, until)
        )[0]

    def look(seed: Seed, data: Data, epoch: Int[Array, ""]) -> tuple[Seed, Look]:
        epoch = epoch.astype(seed.epochs.dtype)
        step = epoch * steps_per_epoch
        points, labels = data.validation
        decayed = decay(step - seed.since)
        error = losses.error(network.outputs_at(seed.variables, decayed[None], points)[0], labels)
        first = jnp.where((seed.interpolation_epoch == 0) & (seed.loss == 0), epoch, 0)
        interpolation = seed.interpolation_epoch + first
        solved = (interpolation > 0) & (seed.loss == 0) & (error == 0)
        finite = [jnp.isfinite(seed.loss)] + [
            jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(seed.variables)
        ]
        training = seed.epochs == 0
        if ahead:
            margins = margins_at(seed, data, step[None])[0]
            found = unforeseen(seed, jnp.arange(train_points), margins, step)
            seed = seed._replace(unforeseen=seed.unforeseen + jnp.where(training, found, 0))
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
        seen = Look(
            seed.loss,
            error,
            seed.interpolation_epoch,
            seed.computed,
            seed.unforeseen,
            seed.epochs > 0,
            diverged,
        )
        return seed, seen

    def trained(seed: Seed) -> Variables:
        return network.shrunk(seed.variables, decay(seed.epochs * steps_per_epoch - seed.since))

    return Sweep(
        _of_each_seed(start, sharding),
        _of_each_seed(
            advance,
            sharding,
            of_seed=2,
            donate_argnums=0,
            compiler_options=UPDATE_IN_PLACE if jax.default_backend() == "cpu" else None,
        ),
        _of_each_seed(look, sharding, of_seed=2),
        _of_each_seed(trained, sharding),
        steps_per_epoch,
    )
