"""A data-parallel training run: its state in checkpoints, its looks, its progress bar."""

import datetime
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key
from tqdm import tqdm

from relstab_jax.errors import Diverged
from relstab_jax.training import loop
from relstab_jax.training.data_parallel import Data, Seed, Training, replicate

LONG_ON_A_CPU = datetime.timedelta(hours=2)


def fit(
    training: Training,
    keys: Key[Array, " S"],
    data: Data,
    *,
    epochs: int,
    batch_size: int,
    devices: list[Any],
    workdir: pathlib.Path,
    checkpoint_minutes: float,
) -> Seed:
    """Trains a stack of networks, from the newest checkpoint in `workdir` if there is one.

    Args:
        training: the compiled calls.
        keys: of the initialisation of each seed.
        data: on the devices.
        epochs: number of epochs.
        batch_size: examples of a step.
        devices: over which a batch is spread.
        workdir: where `metrics.jsonl` and `checkpoints/` are.
        checkpoint_minutes: time between checkpoints.

    Returns:
        The trained seeds, on all devices.

    Raises:
        Diverged: where a loss, or what a checkpoint would hold, is not finite.
        Interrupted: on SIGTERM or SIGINT, with everything saved.
    """
    per_epoch = training.steps_per_epoch
    S = len(keys)

    def advance(state: Seed, step: int, until: int) -> Seed:
        epoch, first = divmod(step, per_epoch)
        state = training.advance(state, data, epoch, first, until - epoch * per_epoch)
        stopped = of_one_device(state.diverged)
        if stopped.any():
            raise diverged(int(stopped[stopped > 0].min()))
        return state

    def diverged(step: int) -> Diverged:
        return Diverged(
            f"the loss is not finite from step {step} on (epoch {(step - 1) // per_epoch + 1}): "
            f"lower the learning rate; the last good checkpoint is in {workdir / 'checkpoints'}"
        )

    def look(state: Seed, epoch: int) -> tuple[Seed, dict[str, Any]]:
        state, seen = training.look(state, data, epoch)
        return state, {name: of_one_device(a).tolist() for name, a in seen._asdict().items()}

    def saved(state: Seed, step: int) -> Seed:
        arrays = jax.tree.map(of_one_device, state)
        kept = arrays.variables, arrays.optimizer, arrays.best
        if not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(kept)):
            raise diverged(step + 1)
        return arrays

    return loop.train(
        loop.Training(
            start=lambda: training.start(keys),
            advance=advance,
            look=look,
            over=lambda _, step: step >= epochs * per_epoch,
            saved=saved,
            resumed=lambda arrays: replicate(jax.tree.map(jnp.asarray, arrays), devices),
            like=jax.tree.map(
                lambda a: np.zeros(a.shape[1:], a.dtype), jax.eval_shape(training.start, keys)
            ),
            steps_per_epoch=per_epoch,
            look_every=1,
        ),
        lambda step: _Report(epochs, per_epoch, batch_size * S, step),
        workdir,
        checkpoint_minutes,
    )


def of_one_device(array: Array) -> np.ndarray:
    """Returns a copy of what every device holds."""
    return np.array(array.addressable_data(0))[0]


class _Report:
    """A progress bar in images, over all seeds, and a line for each epoch."""

    def __init__(self, epochs: int, steps_per_epoch: int, images_per_step: int, step: int):
        self._epochs, self._steps_per_epoch, self._per_step = (
            epochs,
            steps_per_epoch,
            images_per_step,
        )
        self._bar = tqdm(
            total=epochs * steps_per_epoch * images_per_step,
            initial=step * images_per_step,
            unit=" images",
            unit_scale=True,
            disable=None,
            dynamic_ncols=True,
        )

    def __enter__(self) -> "_Report":
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def advance(self, step: int, state: Seed) -> None:
        """Moves the bar to a step; beside it are means over the seeds and the epoch so far."""
        within = (step - 1) % self._steps_per_epoch + 1
        share = within / self._steps_per_epoch
        loss, error = (of_one_device(a).mean() / share for a in (state.loss, state.error))
        self._bar.set_postfix_str(f"loss {loss:.3f}, accuracy {1 - error:.3f}", refresh=False)
        self._bar.update(step * self._per_step - self._bar.n)

    def estimate(self, seconds_per_step: float) -> None:
        """Says how long the run will take, from the first measured chunk."""
        total = datetime.timedelta(
            seconds=round(self._epochs * self._steps_per_epoch * seconds_per_step)
        )
        rate = self._per_step / seconds_per_step
        self._bar.write(f"{rate:.3g} images/s: {total} for {self._epochs} epochs.")
        if jax.default_backend() == "cpu" and total > LONG_ON_A_CPU:
            self._bar.write(
                "This setting is made for a GPU or a TPU. On a CPU, stop it (Ctrl-C) and add "
                "laptop to the words behind the name of the config."
            )

    def look(self, epoch: int, metrics: dict[str, Any], over: bool) -> None:
        """Writes the line of an epoch."""
        mean = {name: np.mean(values) for name, values in metrics.items()}
        errors = " ".join(f"{error:.4f}" for error in metrics["validation_error"])
        self._bar.write(
            f"epoch {epoch:>4}  training loss {mean['train_loss']:.3f}, "
            f"error {mean['train_error']:.4f}  validation error by seed {errors}"
        )
