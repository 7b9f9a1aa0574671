"""What a person sees of a training: a progress bar, an estimate and a line for each look."""

import datetime
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import jax

from relstab_jax.messages import log, progress_bar

LONG_ON_A_CPU = datetime.timedelta(hours=2)


class Display(NamedTuple):
    """What a report says of one kind of training.

    Attributes:
        end: (metrics of a look, its epoch) -> the epoch at which the training is expected to end,
            and whether that is more than an upper bound. Metrics are None before the first look.
        line: (metrics, epoch) -> text of a look.
        beside_bar: (state, step) -> text beside the progress bar.
        until_known: what is said in place of a duration while `end` is only an upper bound.
        images_per_step: of one seed, which the bar counts; it counts steps where this is 0.
    """

    end: Callable[[Any, int], tuple[int, bool]]
    line: Callable[[Any, int], str]
    beside_bar: Callable[[Any, int], str] = lambda state, step: ""
    until_known: str = ""
    images_per_step: int = 0


class Report(AbstractContextManager):
    """Shows a training from optimisation step `step` on; writes at most one line a second."""

    def __init__(self, display: Display, steps_per_epoch: int, seeds: int, step: int):
        self._display, self._steps_per_epoch = display, steps_per_epoch
        self._unit = "images" if display.images_per_step else "steps"
        self._per_step = display.images_per_step * seeds or 1
        self._last_epoch, self._is_known = display.end(None, 0)
        self._last_line = 0.0
        self._pace: tuple[int, float] | None = None  # step and time, once the end was known
        self._bar = progress_bar(
            total=self._last_epoch * steps_per_epoch * self._per_step,
            initial=step * self._per_step,
            unit=f" {self._unit}",
            unit_scale=True,
        )

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def advance(self, step: int, state: Any) -> None:
        """Moves the bar to a step."""
        self._bar.set_postfix_str(self._display.beside_bar(state, step), refresh=False)
        self._bar.update(step * self._per_step - self._bar.n)

    def estimate(self, seconds_per_step: float) -> None:
        """Says how long the training will take, from the first measured chunk."""
        rate = f"{self._per_step / seconds_per_step:.3g} {self._unit}/s"
        if not self._is_known:
            log.info(f"{rate} at first; {self._display.until_known}.")
            return
        steps = self._last_epoch * self._steps_per_epoch
        total = datetime.timedelta(seconds=round(steps * seconds_per_step))
        log.info(f"{rate}: {total} for {self._last_epoch} epochs.")
        if jax.default_backend() == "cpu" and total > LONG_ON_A_CPU:
            log.info(
                "This setting is made for a GPU or a TPU. On a CPU, stop it (Ctrl-C) and add "
                "laptop to the words behind the name of the config."
            )

    def look(self, epoch: int, metrics: Any, ended: bool) -> None:
        """Writes the line of a look, with the time left, and moves the end of the bar.

        The time left is that of the remaining steps at the pace since the end was known.
        """
        step, now = epoch * self._steps_per_epoch, time.monotonic()
        self._last_epoch, self._is_known = self._display.end(metrics, epoch)
        last_step = self._last_epoch * self._steps_per_epoch
        self._bar.total = last_step * self._per_step
        if self._is_known and self._pace is None:
            self._pace = step, now
        if now - self._last_line < 1 and not ended:
            return
        self._last_line = now
        line = f"epoch {epoch:>6}  {self._display.line(metrics, epoch)}"
        if self._pace and step > self._pace[0] and not ended:
            seconds_per_step = (now - self._pace[1]) / (step - self._pace[0])
            left = datetime.timedelta(seconds=round((last_step - step) * seconds_per_step))
            line += f"  about {left} left"
        log.info(line)
