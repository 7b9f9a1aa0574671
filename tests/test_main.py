"""The command `python -m relstab_jax.main` in processes of its own."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from relstab_jax import main, results

ROOT = pathlib.Path(__file__).parents[1]
TINY = [
    "--config=configs/task2.py:smoke", "--config.size=16", "--config.xi=4", "--config.depth=3",
    "--config.width=8", "--config.train_points=16", "--config.validation_points=4",
    "--config.look_every=5", "--config.checkpoint_minutes=0",
]  # fmt: skip


# Runs the command with a limit on the size of files, beyond which writing fails as on a full disk.
LIMITED = """
import resource, runpy, sys
limit = int(sys.argv.pop(1))
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
runpy.run_module("relstab_jax.main", run_name="__main__", alter_sys=True)
"""


def command(*arguments, start=("-m", "relstab_jax.main")):
    environment = os.environ | {"JAX_PLATFORMS": "cpu"}
    return subprocess.Popen(
        [sys.executable, *start, *arguments],
        cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def finished(*arguments, **start):
    process = command(*arguments, **start)
    output, _ = process.communicate(timeout=300)
    return process.returncode, output


def numbers(workdir):
    return json.loads((workdir / "results.json").read_text())["data_vars"]


LONG = [*TINY, "--config.max_epochs=60"]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """Returns the folder of an uninterrupted run."""
    workdir = tmp_path_factory.mktemp("whole")
    code, output = finished(*LONG, f"--workdir={workdir}")
    assert code == 0, output
    for part in ("exponents in A_k", "mean filters", "results.json", "figure:  "):
        assert part in output
    return workdir


@pytest.mark.parametrize(
    "signals",
    [
        [signal.SIGKILL],
        pytest.param([signal.SIGKILL, signal.SIGTERM], marks=pytest.mark.slow),
    ],
)
def test_killed_runs_resume_and_give_the_same_numbers(signals, uninterrupted, tmp_path):
    for sign in signals:
        process = command(*LONG, f"--workdir={tmp_path}")
        checkpoints, deadline = tmp_path / "checkpoints", time.monotonic() + 120
        before = {p.name for p in checkpoints.glob("*")}
        while not {p.name for p in checkpoints.glob("*[0-9]")} - before:
            assert process.poll() is None, process.stdout.read()
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.send_signal(sign)
        output, _ = process.communicate(timeout=60)
        if sign == signal.SIGTERM:
            assert process.returncode == 128 + sign, output
            assert "stopped by SIGTERM; run the same command to resume" in output
        else:
            assert process.returncode == -sign, output
        assert not (tmp_path / "results.json").exists()

    code, output = finished(*LONG, f"--workdir={tmp_path}")
    assert code == 0, output
    assert "Going on from epoch" in output
    assert numbers(tmp_path) == numbers(uninterrupted)
    expected = (uninterrupted / "metrics.jsonl").read_text()
    assert (tmp_path / "metrics.jsonl").read_text() == expected


@pytest.mark.parametrize(
    ("limit", "named"),
    [
        pytest.param(200, "cannot write into", marks=pytest.mark.slow),
        pytest.param(2000, "checkpoints", marks=pytest.mark.slow),
        pytest.param(10_000, "results.json", marks=pytest.mark.slow),
        pytest.param(30_000, "receptive_field.png", marks=pytest.mark.slow),
    ],
)
def test_a_full_disk_is_one_sentence_and_loses_nothing(
    limit, named, uninterrupted, tmp_path, monkeypatch
):
    with monkeypatch.context() as patch:  # the programs of all tests are read, but none written
        patch.setenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "1000000")
        start = ("-c", LIMITED, str(limit))
        code, output = finished(*LONG, f"--workdir={tmp_path}", start=start)
    assert code == 1
    assert "Traceback" not in output
    said = output.splitlines()[-1]
    assert said.startswith("error: cannot write")
    assert named in said
    assert "(File too large)" in said
    assert len(said) < 300
    code, output = finished(*LONG, f"--workdir={tmp_path}")
    assert code == 0, output
    assert numbers(tmp_path) == numbers(uninterrupted)
    expected = (uninterrupted / "metrics.jsonl").read_text()
    assert (tmp_path / "metrics.jsonl").read_text() == expected


def test_two_processes_of_slurm_give_the_numbers_of_one(uninterrupted, tmp_path):
    """Sets the environment as srun does on one node; JAX derives its port from the job's id."""
    arguments = [*LONG, f"--workdir={tmp_path}"]
    environment = os.environ | {
        "JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "1", "SLURM_JOB_ID": str(os.getpid()),
        "SLURM_STEP_NODELIST": "localhost", "SLURM_NTASKS": "2", "SLURM_STEP_NUM_TASKS": "2",
    }  # fmt: skip
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "relstab_jax.main", *arguments], cwd=ROOT, text=True,
            env=environment | {"SLURM_PROCID": number, "SLURM_LOCALID": number},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )
        for number in "01"
    ]  # fmt: skip
    first, second = (process.communicate(timeout=240)[0] for process in processes)
    assert [process.returncode for process in processes] == [0, 0], first + second
    assert "on 2 × cpu, of 2 processes" in first
    assert "results: " not in second
    one, two = (results.load(path / results.RESULTS) for path in (uninterrupted, tmp_path))
    for name in one:
        np.testing.assert_allclose(two[name], one[name], rtol=1e-4, atol=1e-6, err_msg=name)


def test_the_command_runs_from_any_directory(tmp_path):
    config = f"--config={ROOT / 'configs' / 'homogeneous.py'}"
    done = subprocess.run(
        [sys.executable, "-m", "relstab_jax.main", config],
        cwd=tmp_path, capture_output=True, text=True, env=os.environ | {"JAX_PLATFORMS": "cpu"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "figure:  runs/homogeneous/representation.png" in done.stdout
    assert (tmp_path / "runs" / "homogeneous" / "representation.png").exists()


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
