"""The loop around a training that does nothing but count its steps."""

import json
import signal
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from relstab_jax.errors import Diverged, InputError
from relstab_jax.training.checkpoints import Checkpoints, Snapshots
from relstab_jax.training.devices import replicated
from relstab_jax.training.interruption import Interrupted
from relstab_jax.training.loop import Training, fit
from relstab_jax.training.report import Display

EPOCHS, STEPS_PER_EPOCH, SEEDS, PADDED = 4, 5, 2, 3


class State(NamedTuple):
    steps: jax.Array
    weight: jax.Array
    diverged: jax.Array


class Seen(NamedTuple):
    steps: jax.Array


def counting(
    weight_at=lambda step: 1.0, diverged_at=lambda step: 0, called=None, epochs=EPOCHS, look_every=1
):
    per_look = look_every * STEPS_PER_EPOCH

    def advance(state, data, step, until):
        np.testing.assert_array_equal(state.steps, step)
        assert step < until <= (step // per_look + 1) * per_look
        if called is not None:
            called.append((step, until))
        of_all = jnp.full(PADDED, until)
        return State(of_all, of_all * weight_at(until), of_all * 0 + diverged_at(until))

    return Training(
        start=lambda keys: State(
            *(jnp.zeros(PADDED, int), jnp.ones(PADDED), jnp.zeros(PADDED, int))
        ),
        advance=advance,
        variables=lambda state, step: {"params": {"steps": state.steps}},
        look=lambda state, data, epoch: (state, Seen(state.steps)),
        ended=lambda state, step: step >= epochs * STEPS_PER_EPOCH,
        steps_per_epoch=STEPS_PER_EPOCH,
        look_every=look_every,
        sharding=replicated(jax.devices()[:1]),
        display=Display(lambda *_: (EPOCHS, True), lambda metrics, epoch: ""),
        halts_on_divergence=True,
    )


def fitted(training, workdir, minutes=0.0, epochs=()):
    keys = jax.random.split(jax.random.key(0), PADDED)
    return fit(
        training,
        keys,
        None,
        seeds=SEEDS,
        workdir=workdir,
        checkpoint_minutes=minutes,
        snapshots=Snapshots(workdir, epochs),
    )


def newest(workdir):
    like = State(np.zeros(SEEDS, np.int32), np.zeros(SEEDS, np.float32), np.zeros(SEEDS, np.int32))
    return Checkpoints(workdir / "checkpoints").restore(like)


def looks(workdir):
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def test_chunks_end_at_looks_and_padding_is_neither_shown_nor_saved(tmp_path):
    called = []
    state = fitted(counting(called=called), tmp_path)
    assert [until for _, until in called] == [step for step, _ in called[1:]] + [20]
    assert state.steps.tolist() == [20] * PADDED
    assert looks(tmp_path) == [{"epoch": n, "steps": [5 * n] * SEEDS} for n in range(1, 5)]
    step, saved = newest(tmp_path)
    assert step == 20
    assert saved.weight.shape == (SEEDS,)


@pytest.mark.parametrize("last_step", [7, EPOCHS * STEPS_PER_EPOCH])
def test_a_stop_saves_everything_and_the_same_call_goes_on(last_step, tmp_path):
    """In the middle, and in the last chunk, after which there is more to do than to train."""
    called, stopped_at = [], []

    def stop_at(step):
        if step >= last_step and not stopped_at:
            stopped_at.append(step)
            signal.raise_signal(signal.SIGTERM)
        return 1.0

    training = counting(stop_at, called=called)
    with pytest.raises(Interrupted, match="stopped by SIGTERM"):
        fitted(training, tmp_path, minutes=60.0)
    assert fitted(training, tmp_path).weight.tolist() == [20.0] * PADDED
    assert [until for _, until in called] == [step for step, _ in called[1:]] + [20]
    assert [line["epoch"] for line in looks(tmp_path)] == [1, 2, 3, 4]


@pytest.mark.parametrize(
    "faults",
    [
        {"weight_at": lambda step: np.inf if step > 12 else 1.0},
        {"diverged_at": lambda step: 13 * (step > 12)},
    ],
    ids=["weight", "loss"],
)
def test_what_is_not_finite_halts_the_training_and_is_never_saved(faults, tmp_path):
    with pytest.raises(Diverged, match=r"not finite from step 1\d on \(epoch [34]\): lower"):
        fitted(counting(**faults), tmp_path)
    step, saved = newest(tmp_path)
    assert 5 <= step <= 12
    assert np.isfinite(saved.weight).all()


def kept(workdir, epochs):
    snapshots = Snapshots(workdir, epochs)
    like = {"params": {"steps": np.zeros(SEEDS, np.int32)}}
    return {epoch: snapshots.read(epoch, like)["params"]["steps"].tolist() for epoch in epochs}


def test_snapshots_are_of_their_epochs_between_looks_too(tmp_path):
    """The training ends at epoch 4, and stays there."""
    called, epochs = [], (0, 1, 3, 4, 6)
    training = counting(called=called, look_every=4)
    fitted(training, tmp_path, epochs=epochs)
    assert {5, 15, 20} <= {until for _, until in called}
    steps = {0: 0, 1: 5, 3: 15, 4: 20, 6: 20}
    assert kept(tmp_path, epochs) == {epoch: [step] * SEEDS for epoch, step in steps.items()}
    fitted(training, tmp_path / "without")
    assert not (tmp_path / "without" / "snapshots").exists()
    assert looks(tmp_path) == looks(tmp_path / "without")


class Killed(BaseException):
    pass


@pytest.mark.parametrize("minutes", [0.0, 60.0])
def test_a_killed_training_loses_no_snapshot(tmp_path, minutes):
    """It is killed a step later in each life; something else was at epoch 3 before."""
    epochs, lives = (0, 1, 2, 3), []

    def killed_at(step):
        if step >= 5 + len(lives) and len(lives) < 12:
            lives.append(step)
            raise Killed
        return 1.0

    training = counting(killed_at, look_every=2)
    Snapshots(tmp_path, epochs).save(3, {"params": {"steps": np.zeros(SEEDS, int)}})
    while True:
        try:
            fitted(training, tmp_path, minutes, epochs)
            break
        except Killed:
            continue
    assert len(lives) == 12
    assert kept(tmp_path, epochs) == {epoch: [5 * epoch] * SEEDS for epoch in epochs}


def test_a_snapshot_that_cannot_be_read_is_one_sentence(tmp_path):
    with pytest.raises(InputError, match=r"snapshots/2: there is no such file; delete the folder"):
        Snapshots(tmp_path, (2,)).read(2, {})
