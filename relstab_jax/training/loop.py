"""The host's side of a training: chunks, looks, metrics, checkpoints and orderly stops."""

import contextlib
import pathlib
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple, Protocol

import jax
import numpy as np
from jax.experimental import multihost_utils
from jaxtyping import PyTree

from relstab_jax import distributed
from relstab_jax.training.checkpoints import Checkpoints
from relstab_jax.training.interruption import Interrupted, Interruption
from relstab_jax.training.metrics import MetricsLog

CHUNK_SECONDS = 1.0


class Training(NamedTuple):
    """A training as the loop sees it; its state is a pytree that only these functions look into.

    Attributes:
        start: () -> the state before the first step.
        advance: (state, step, until) -> the state, trained from optimisation step `step` to
            `until`, with no look between. It may consume the state it is given.
        look: (state, epoch) -> (state, metrics), at the end of an epoch that is looked at; the
            metrics are a line of `metrics.jsonl`.
        over: (state, step) -> whether the training has ended.
        saved: (state, step) -> what a checkpoint holds, which `advance` leaves alone.
        resumed: what a checkpoint holds -> state.
        like: a pytree with the structure, shapes, types and shardings of what a checkpoint holds.
        steps_per_epoch: optimisation steps in an epoch.
        look_every: epochs from one look to the next.
    """

    start: Callable[[], Any]
    advance: Callable[[Any, int, int], Any]
    look: Callable[[Any, int], tuple[Any, dict[str, Any]]]
    over: Callable[[Any, int], bool]
    saved: Callable[[Any, int], PyTree]
    resumed: Callable[[PyTree], Any]
    like: PyTree
    steps_per_epoch: int
    look_every: int


class Report(AbstractContextManager, Protocol):
    """Shows a training to a person."""

    def advance(self, step: int, state: Any) -> None:
        """Shows that the training has come to a step."""

    def estimate(self, seconds_per_step: float) -> None:
        """Says, once, how long the training will take."""

    def look(self, epoch: int, metrics: dict[str, Any], over: bool) -> None:
        """Shows a look."""


def train(
    training: Training,
    report: Callable[[int], Report],
    workdir: pathlib.Path,
    checkpoint_minutes: float,
) -> Any:
    """Trains to the end, from the newest checkpoint in `workdir` if there is one.

    The end does not depend on where the training was interrupted: a chunk is any number of steps,
    and nothing but the step decides what happens in it.

    Args:
        training: what is trained.
        report: step -> what shows the training from that step on.
        workdir: where `metrics.jsonl` and `checkpoints/` are.
        checkpoint_minutes: time between checkpoints.

    Raises:
        Interrupted: on SIGTERM or SIGINT, with everything saved.
    """
    checkpoints = Checkpoints(workdir / "checkpoints")
    with contextlib.closing(checkpoints):
        restored = checkpoints.restore(training.like)
        step, state = (
            (restored[0], training.resumed(restored[1])) if restored else (0, training.start())
        )
        if restored:
            print(f"Going on from epoch {step / training.steps_per_epoch:.5g}.", flush=True)
        steps_per_look = training.look_every * training.steps_per_epoch
        over = training.over(state, step)
        saved_at = time.monotonic()
        chunk, first_step, estimated = 1, step, False
        with (
            Interruption() as interruption,
            _metrics_log(workdir, up_to_epoch=step // training.steps_per_epoch) as log,
            report(step) as shown,
            distributed.reporting_lost_process(),
        ):
            while not over:
                until = min(step + chunk, (step // steps_per_look + 1) * steps_per_look)
                began = time.monotonic()
                state = jax.block_until_ready(training.advance(state, step, until))
                if step > first_step:  # the first call compiles
                    seconds_per_step = (time.monotonic() - began) / (until - step)
                    if not estimated:
                        shown.estimate(seconds_per_step)
                    estimated = True
                    # Steps may differ in cost; what a few cost is no promise for very many.
                    chunk = max(1, min(2 * chunk, round(CHUNK_SECONDS / seconds_per_step)))
                step = until
                shown.advance(step, state)
                if step % steps_per_look == 0:
                    epoch = step // training.steps_per_epoch
                    state, metrics = training.look(state, epoch)
                    over = training.over(state, step)
                    if log:
                        log.write({"epoch": epoch, **metrics})
                    shown.look(epoch, metrics, over)
                due = time.monotonic() - saved_at > 60 * checkpoint_minutes
                chunk, due, stop = _agreed(chunk, due, interruption.number)
                if due or stop or over:
                    checkpoints.save(step, training.saved(state, step))
                    saved_at = time.monotonic()
                if stop and not over:
                    raise Interrupted(stop)
    return state


def _metrics_log(
    workdir: pathlib.Path, up_to_epoch: int
) -> AbstractContextManager[MetricsLog | None]:
    return MetricsLog(workdir, up_to_epoch) if distributed.is_first() else nullcontext()


def _agreed(*numbers: int) -> tuple[int, ...]:
    """Returns the largest of each number over all processes, so that they go on alike."""
    if jax.process_count() == 1:
        return numbers
    everyone = multihost_utils.process_allgather(np.array(numbers))
    return tuple(int(n) for n in everyone.max(axis=0))
