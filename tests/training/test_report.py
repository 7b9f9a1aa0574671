import time

import numpy as np
import pytest

from relstab_jax.training import report, sweep
from relstab_jax.training.report import Display, Report
from relstab_jax.training.sweep_state import Metrics, StoppingRule

KNOWN = Display(lambda *_: (10, True), lambda metrics, epoch: "a look", images_per_step=8)


@pytest.fixture(autouse=True)
def _all_is_said(caplog):
    caplog.set_level("INFO", "relstab_jax")


@pytest.fixture
def clock(monkeypatch):
    """The time in seconds, which tests set."""
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


@pytest.mark.parametrize(("seconds_per_step", "hint"), [(1, False), (1000, True)])
def test_a_long_training_on_a_cpu_is_told_of_the_laptop_preset(seconds_per_step, hint, caplog):
    with Report(KNOWN, steps_per_epoch=5, seeds=2, step=0) as shown:
        shown.estimate(seconds_per_step)
    said = caplog.text
    assert f"{16 / seconds_per_step:.3g} images/s: " in said
    assert "for 10 epochs." in said
    assert ("made for a GPU" in said and "laptop" in said) == hint


def test_a_look_is_a_line_at_most_once_a_second_with_the_time_left(clock, caplog):
    with Report(KNOWN, steps_per_epoch=5, seeds=2, step=0) as shown:
        for epoch, seconds in ((1, 0), (2, 0.5), (3, 60), (10, 0)):
            clock[0] += seconds
            shown.look(epoch, None, ended=epoch == 10)
    assert caplog.messages == [
        "epoch      1  a look",
        "epoch      3  a look  about 0:03:32 left",  # two epochs took 60.5 s, seven are left
        "epoch     10  a look",
    ]


def test_the_end_of_a_sweep_is_known_once_every_seed_has_interpolated(clock, caplog):
    def look(epoch, e, stopped=(False, False)):
        zeros = np.zeros(2)
        fields = zeros, zeros, np.array(e), zeros, zeros, np.array(stopped), zeros > 0
        clock[0] += 10
        shown.look(epoch, Metrics(*fields), ended=all(stopped))

    display = sweep._display(StoppingRule(look_every=10, patience=3, max_epochs=1000), 6)
    with report.Report(display, steps_per_epoch=6, seeds=2, step=0) as shown:
        shown.estimate(0.1)
        look(10, (10, 0))
        look(20, (10, 20))
        look(30, (10, 20), (True, False))
        look(60, (10, 20), (True, True))
    first, *lines = caplog.messages
    assert "few steps are computed once every seed has interpolated" in first
    assert ["left" in line for line in lines] == [False, False, True, False]
    assert "stopped 1/2  about 0:00:30 left" in lines[2]  # three times ten epochs in 10 s each
