"""The host's side of a training: chunks of steps, looks, metrics, checkpoints and orderly stops."""

import contextlib
import dataclasses
import pathlib
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import NamedSharding
from jaxtyping import Array, Key

from relstab_jax import distributed
from relstab_jax.errors import Diverged
from relstab_jax.messages import log
from relstab_jax.models import Variables
from relstab_jax.training.checkpoints import Checkpoints, Snapshots
from relstab_jax.training.devices import collected, on_devices
from relstab_jax.training.interruption import Interrupted, Interruption
from relstab_jax.training.metrics import MetricsLog
from relstab_jax.training.report import Display, Report

CHUNK_SECONDS = 1.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Training:
    """The compiled calls of a training, and when it is looked at and ends.

    A state and metrics are NamedTuples of arrays with a leading seed axis [S]; a state has a field
    `diverged`.

    Attributes:
        start: keys [S] -> state, before the first step.
        advance: (state, data, step, until) -> state, trained from optimisation step `step` to
            `until`, with no look between. It donates `state`.
        variables: (state, step) -> the networks [S] after step `step`; those of seeds that stopped
            before it are as they were then.
        look: (state, data, epoch) -> (state, metrics), after `epoch` epochs; the metrics are a line
            of `metrics.jsonl`.
        ended: (state, step) -> whether the training has ended.
        steps_per_epoch: optimisation steps in an epoch.
        look_every: epochs from one look to the next.
        sharding: of a state.
        display: what a report says of it.
        halts_on_divergence: whether to halt where `diverged`, then the first step, counted from 1,
            whose loss was not finite, is not 0.
    """

    start: Callable[[Key[Array, " S"]], Any]
    advance: Callable[[Any, Any, int, int], Any]
    variables: Callable[[Any, int], Variables]
    look: Callable[[Any, Any, int], tuple[Any, Any]]
    ended: Callable[[Any, int], bool]
    steps_per_epoch: int
    look_every: int
    sharding: NamedSharding
    display: Display
    halts_on_divergence: bool


def fit(
    training: Training,
    keys: Key[Array, " S"],
    data: Any,
    *,
    seeds: int,
    workdir: pathlib.Path,
    checkpoint_minutes: float,
    snapshots: Snapshots,
) -> Any:
    """Trains to the end, from the newest checkpoint in `workdir` if there is one.

    The result does not depend on where the training was interrupted: a chunk is any number of
    steps, and what happens in a step depends on its number alone.

    Args:
        training: the compiled calls.
        keys: of the initialisation of each seed.
        data: what `training` learns from.
        seeds: number of seeds to show and save; further ones only pad the seed axis.
        workdir: the folder of `metrics.jsonl` and `checkpoints/`.
        checkpoint_minutes: time between checkpoints.
        snapshots: the epochs whose networks are saved, in the folder of the run. Each is there
            before a checkpoint at or after it, and all are when the training has ended.

    Returns:
        The state at the end, with its padding.

    Raises:
        Diverged: if the training halts on divergence, and a loss or a checkpoint is not finite.
        Interrupted: on SIGTERM or SIGINT, with everything saved.
        WriteError: if the disk is full.
    """
    checkpoints = Checkpoints(workdir / "checkpoints")
    per_epoch = training.steps_per_epoch
    per_look = training.look_every * per_epoch
    snapshot_steps = [epoch * per_epoch for epoch in snapshots.epochs]

    def save_snapshots(state: Any, step: int, ended: bool) -> None:
        """Saves the snapshots of this step and, at the end, those of later epochs."""
        epochs = [
            epoch
            for epoch, at in zip(snapshots.epochs, snapshot_steps, strict=True)
            if at == step or (ended and at > step)
        ]
        if epochs:
            variables = collected(training.variables(state, step), seeds)
            for epoch in epochs:
                snapshots.save(epoch, variables)

    with contextlib.closing(checkpoints):
        step, state = _restored(training, keys, checkpoints, seeds)
        ended = training.ended(state, step)
        save_snapshots(state, step, ended)
        saved_at = time.monotonic()
        chunk, first_step = 1, step
        metrics_log = MetricsLog(workdir, step // per_epoch) if distributed.is_first() else None
        with (
            Interruption() as interruption,
            Report(training.display, per_epoch, seeds, step) as report,
            distributed.reporting_lost_process(),
        ):
            while not ended:
                next_look = (step // per_look + 1) * per_look
                until = min(step + chunk, next_look, *(at for at in snapshot_steps if at > step))
                began = time.monotonic()
                state = jax.block_until_ready(training.advance(state, data, step, until))
                if training.halts_on_divergence and (bad := collected(state.diverged)).any():
                    raise _diverged(int(bad[bad > 0].min()), per_epoch, workdir)
                if step > first_step:  # the first call compiles
                    seconds_per_step = (time.monotonic() - began) / (until - step)
                    if step == first_step + 1:
                        report.estimate(seconds_per_step)
                    # Grows slowly, as later steps may cost more than the first ones.
                    chunk = max(1, min(2 * chunk, round(CHUNK_SECONDS / seconds_per_step)))
                step = until
                report.advance(step, state)
                if step % per_look == 0:
                    epoch = step // per_epoch
                    state, metrics = training.look(state, data, epoch)
                    ended = training.ended(state, step)
                    metrics = collected(metrics, seeds)
                    if metrics_log:
                        lists = {name: a.tolist() for name, a in metrics._asdict().items()}
                        metrics_log.write({"epoch": epoch, **lists})
                    report.look(epoch, metrics, ended)
                save_snapshots(state, step, ended)
                due = time.monotonic() - saved_at > 60 * checkpoint_minutes
                chunk, due, stop = _agreed(chunk, due, interruption.number)
                if due or stop or ended:
                    saved = collected(state, seeds)
                    if training.halts_on_divergence and not _is_finite(saved):
                        raise _diverged(step + 1, per_epoch, workdir)
                    checkpoints.save(step, saved)
                    saved_at = time.monotonic()
                if stop:
                    raise Interrupted(stop)
    return state


def _restored(
    training: Training, keys: Key[Array, " S"], checkpoints: Checkpoints, seeds: int
) -> tuple[int, Any]:
    """Returns the step and state of the newest checkpoint, or else of the beginning."""
    shapes = jax.eval_shape(training.start, keys)
    like = jax.tree.map(lambda a: np.zeros((seeds, *a.shape[1:]), a.dtype), shapes)
    restored = checkpoints.restore(like)
    if restored is None:
        return 0, training.start(keys)
    step, arrays = restored
    log.info(f"Going on from epoch {step / training.steps_per_epoch:.5g}.")
    return step, on_devices(arrays, len(keys), training.sharding)


def _is_finite(arrays: Any) -> bool:
    return all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(arrays))


def _diverged(step: int, steps_per_epoch: int, workdir: pathlib.Path) -> Diverged:
    return Diverged(
        f"the loss is not finite from step {step} on (epoch {(step - 1) // steps_per_epoch + 1}): "
        f"lower the learning rate; the last good checkpoint is in {workdir / 'checkpoints'}"
    )


def _agreed(*numbers: int) -> tuple[int, ...]:
    """Returns the maximum of each number over all processes, so that they go on alike."""
    return tuple(multihost_utils.process_allgather(np.array(numbers)).max(axis=0).tolist())
