"""The training of a sweep: its state in checkpoints, its looks, its progress bar."""

import datetime
import pathlib
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import Array, Key
from tqdm import tqdm

from relstab_jax.training import loop
from relstab_jax.training.sweep import Data, Look, Rules, Seed, Sweep


def fit(
    sweep: Sweep,
    keys: Key[Array, " S"],
    data: Data,
    rules: Rules,
    *,
    seeds: int,
    sharding: NamedSharding,
    workdir: pathlib.Path,
    checkpoint_minutes: float,
) -> Seed:
    """Trains every seed to its stop, from the newest checkpoint in `workdir` if there is one.

    Args:
        sweep: the compiled calls.
        keys: of the initialisation of each seed.
        data: of each seed.
        rules: when a seed stops, as given to `sweep`.
        seeds: number of seeds asked for; the others pad the seed axis to the devices.
        sharding: of the seed axis.
        workdir: where `metrics.jsonl` and `checkpoints/` are.
        checkpoint_minutes: time between checkpoints.

    Returns:
        The trained seeds, with their padding.

    Raises:
        Interrupted: on SIGTERM or SIGINT, with everything saved.
    """
    everywhere = NamedSharding(sharding.mesh, PartitionSpec())
    pad = jax.jit(
        lambda tree: jax.tree.map(lambda a: a[np.arange(len(keys)).clip(max=seeds - 1)], tree),
        out_shardings=sharding,
    )
    unpad = jax.jit(  # copies, because `advance` consumes what a checkpoint may still be reading
        lambda tree: jax.tree.map(lambda a: jnp.copy(a[:seeds]), tree), out_shardings=everywhere
    )

    def look(state: Seed, epoch: int) -> tuple[Seed, dict[str, Any]]:
        state, seen = sweep.look(state, data, epoch)
        return state, {k: np.asarray(v).tolist() for k, v in unpad(seen)._asdict().items()}

    training = loop.Training(
        start=lambda: sweep.start(keys),
        advance=lambda state, step, until: sweep.advance(state, data, step, until),
        look=look,
        over=lambda state, _: bool((np.asarray(unpad(state.epochs)) > 0).all()),
        saved=lambda state, _: unpad(state),
        resumed=pad,
        like=jax.tree.map(
            lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=everywhere),
            jax.eval_shape(unpad, jax.eval_shape(sweep.start, keys)),
        ),
        steps_per_epoch=sweep.steps_per_epoch,
        look_every=rules.look_every,
    )
    return loop.train(
        training,
        lambda step: _Report(rules, sweep.steps_per_epoch, step),
        workdir,
        checkpoint_minutes,
    )


class _Report:
    """A progress bar up to the expected end, and a line for a look, at most one a second."""

    def __init__(self, rules: Rules, steps_per_epoch: int, step: int):
        self._rules, self._steps_per_epoch = rules, steps_per_epoch
        self._last_line = 0.0
        self._pace: tuple[int, float] | None = None  # step and time, once all have interpolated
        total = rules.max_epochs * steps_per_epoch
        self._bar = tqdm(total=total, initial=step, unit="step", disable=None, dynamic_ncols=True)

    def __enter__(self) -> "_Report":
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def advance(self, step: int, state: Seed) -> None:
        """Moves the bar to a step."""
        self._bar.update(step - self._bar.n)

    def estimate(self, seconds_per_step: float) -> None:
        """Says what a step costs; how many will be computed is not known before interpolation."""
        self._bar.write(
            f"{1e3 * seconds_per_step:.3g} ms a step at first; few are computed once every "
            "seed has interpolated, and from then on lines say how long it will take."
        )

    def look(self, epoch: int, metrics: dict[str, Any], over: bool) -> None:
        """Writes the line of a look; the bar's end becomes what the stopping rule now promises.

        The time that is left is told from the pace since all seeds have interpolated.
        """
        arrays: dict[str, Any] = {name: np.array(values) for name, values in metrics.items()}
        look = Look(**arrays)
        rules, e = self._rules, look.interpolation_epoch
        promised = np.where(e > 0, np.maximum(rules.patience * e, epoch), rules.max_epochs)
        last = promised[~look.stopped].max(initial=0)
        self._bar.total = min(last or epoch, rules.max_epochs) * self._steps_per_epoch
        step, now = epoch * self._steps_per_epoch, time.monotonic()
        if self._pace is None and (look.stopped | (e > 0)).all():
            self._pace = step, now
        if over or time.monotonic() - self._last_line > 1:
            self._last_line = time.monotonic()
            errors = " ".join(f"{error:.3f}" for error in look.validation_error)
            loss = look.train_loss.mean(where=~look.diverged) if not look.diverged.all() else np.nan
            line = f"epoch {epoch:>6}  training loss {loss:.2e}  "
            line += f"validation error by seed {errors}  "
            line += f"computed {look.computed_steps.mean() / step:.1%} of the steps  "
            line += f"stopped {look.stopped.sum()}/{len(e)}"
            if self._pace and step > self._pace[0] and not over:
                per_step = (now - self._pace[1]) / (step - self._pace[0])
                left = round(per_step * (self._bar.total - step))
                line += f"  about {datetime.timedelta(seconds=left)} left"
            if look.unforeseen.any():
                line += f"  {look.unforeseen.sum()} margins were lower than foreseen: "
                line += "compare with --config.look_ahead=False"
            if look.diverged.any():
                line += f"  diverged {look.diverged.sum()}"
            self._bar.write(line)
