"""What a sweep trains: networks, by gradient descent on a hinge loss and a ridge."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from relstab_jax.models import Variables


class Network(NamedTuple):
    """A network whose filters the ridge shrinks.

    Attributes:
        init: key -> variables.
        outputs: (variables, decay, inputs [B, ...]) -> outputs [B], with filters times `decay`.
        outputs_at: (variables, decay [T], points) -> outputs [T, P], for all points of a set.
        shrunk: (variables, decay) -> variables, with filters times `decay`.
    """

    init: Callable[[Key[Array, ""]], Variables]
    outputs: Callable[[Variables, Float[Array, ""], Array], Float[Array, " B"]]
    outputs_at: Callable[[Variables, Float[Array, " T"], Any], Float[Array, "T P"]]
    shrunk: Callable[[Variables, Float[Array, ""]], Variables]


class Descent(NamedTuple):
    """How a step changes the variables, and how many steps are in an epoch.

    Attributes:
        rate: w <- decay · w - rate · (gradient of the hinge loss).
        decay: of the filters in a step, by the ridge, between 0 and 1.
        train_points: P; an epoch visits all in a new order.
        batch_size: points of a step, a divisor of P.
        ahead: steps over which margins are foreseen, an even number; 0 computes every step.
        rounding: largest relative difference between margins computed in different ways.
    """

    rate: float
    decay: float
    train_points: int
    batch_size: int
    ahead: int
    rounding: float

    @property
    def steps_per_epoch(self) -> int:
        """Steps in an epoch."""
        return self.train_points // self.batch_size

    def decay_after(self, steps: Int[Array, "*N"]) -> Float[Array, "*N"]:
        """Returns the decay of the filters in a number of steps."""
        return jnp.exp(steps.astype(jnp.result_type(float)) * math.log(self.decay))


class StoppingRule(NamedTuple):
    """How long a seed trains, in epochs.

    Every `look_every`-th epoch its mean training loss is looked at. The first look at a zero is
    the interpolation epoch e*. Training stops at the first look from epoch `patience` · e* on at
    which training loss and validation error are zero, or at `max_epochs`.
    """

    look_every: int
    patience: int
    max_epochs: int


class Data(NamedTuple):
    """Points of one seed, with labels ±1.

    Attributes:
        key: of the order of every epoch.
        inputs: of the training points [P, ...].
        labels: of the training points [P].
        train: the training points as `Network.outputs_at` takes them.
        validation: points, as it takes them, and their labels [V].
        padding: whether the seed only pads the seed axis to the devices: it is not trained.
    """

    key: Key[Array, "..."]
    inputs: Float[Array, "..."]
    labels: Int[Array, "..."]
    train: Any
    validation: tuple[Any, Int[Array, "..."]]
    padding: Bool[Array, "..."]


class TrainState(NamedTuple):
    """One network in training; a sweep stacks them along a leading seed axis.

    Attributes:
        variables: of the network before step `since`.
        since: the step after the last that learned; the filters have decayed from there on.
        gap: steps between the last two that learned.
        margins: of all training points, at steps `seen`, `seen` + ahead/2, `seen` + ahead [3, P].
        seen: the step at which margins were last foreseen; before `since`, they are void.
        order: of the training points in this epoch [P].
        loss: mean training loss of the epoch so far, weighted as if the epoch were complete.
        computed: number of steps computed.
        unforeseen: number of checked margins below their bound.
        interpolation_epoch: e*; 0 before it.
        epochs: at which the seed stopped; 0 while it trains.
        diverged: whether it stopped because its loss was not finite, or because it was dead: its
            outputs were the same for all training points, from which it does not recover.
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


class Metrics(NamedTuple):
    """What a look records of each seed [S]."""

    train_loss: Float[Array, " S"]
    validation_error: Float[Array, " S"]
    interpolation_epoch: Int[Array, " S"]
    computed_steps: Int[Array, " S"]
    unforeseen: Int[Array, " S"]
    stopped: Bool[Array, " S"]
    diverged: Bool[Array, " S"]
