"""The command, as a user gives it."""

import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

import pytest

from relstab_jax import main

ROOT = pathlib.Path(__file__).parents[1]
TINY = [
    "--config=configs/task2.py:smoke", "--config.size=16", "--config.xi=4", "--config.depth=3",
    "--config.width=8", "--config.train_points=16", "--config.validation_points=4",
    "--config.look_every=5", "--config.checkpoint_minutes=0",
]  # fmt: skip


def command(*arguments):
    environment = os.environ | {"JAX_PLATFORMS": "cpu"}
    return subprocess.Popen(
        [sys.executable, "-m", "relstab_jax.main", *arguments],
        cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def finished(*arguments):
    process = command(*arguments)
    output, _ = process.communicate(timeout=300)
    return process.returncode, output


def numbers(workdir):
    return json.loads((workdir / "results.json").read_text())["data_vars"]


@pytest.mark.parametrize(
    "signals",
    [[signal.SIGKILL], pytest.param([signal.SIGKILL, signal.SIGTERM], marks=pytest.mark.slow)],
)
def test_killed_runs_go_on_and_end_with_the_numbers_of_a_whole_one(signals, tmp_path):
    long = [*TINY, "--config.max_epochs=300"]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    code, output = finished(*long, f"--workdir={whole}")
    assert code == 0, output
    for part in ("exponents in A_k", "mean filters", f"{whole}/results.json", f"{whole}/fig07.png"):
        assert part in output

    for sign in signals:
        code = {signal.SIGKILL: -signal.SIGKILL, signal.SIGTERM: 128 + signal.SIGTERM}[sign]
        process = command(*long, f"--workdir={killed}")
        checkpoints, deadline = killed / "checkpoints", time.monotonic() + 120
        before = {p.name for p in checkpoints.glob("*")}
        while not {p.name for p in checkpoints.glob("*[0-9]")} - before:
            assert process.poll() is None, process.stdout.read()
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.send_signal(sign)
        output, _ = process.communicate(timeout=60)
        assert process.returncode == code, output
        assert not (killed / "results.json").exists()
        if sign == signal.SIGTERM:
            assert "stopped by SIGTERM; the same command goes on from there" in output

    code, output = finished(*long, f"--workdir={killed}")
    assert code == 0, output
    assert "Going on from epoch" in output
    assert re.search(r"Programs compiled by earlier runs have saved \d+ s\.", output)
    assert numbers(killed) == numbers(whole)
    assert (killed / "metrics.jsonl").read_text() == (whole / "metrics.jsonl").read_text()


def test_a_wrong_command_ends_with_one_sentence_and_no_traceback():
    code, output = finished("--config=configs/task2.py", "--config.sedes=1")
    assert code == 1
    assert output == "error: the configuration has no field 'sedes': did you mean 'seeds'?\n"


@pytest.mark.parametrize(
    ("flag", "folder"),
    [
        ("configs/task2.py", "runs/task2"),
        ("configs/task2.py:laptop", "runs/task2-laptop"),
        ("/some/where/cifar10.py:LeNet,smoke", "runs/cifar10-LeNet-smoke"),
    ],
)
def test_the_folder_of_a_run_is_named_after_its_config(flag, folder):
    assert str(main.default_workdir(flag)) == folder
