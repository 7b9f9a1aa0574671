"""One run in several processes on this machine."""

import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest

from relstab_jax import distributed, results
from relstab_jax.errors import InputError
from relstab_jax.training.metrics import read_metrics

ROOT = pathlib.Path(__file__).parents[1]
SWEEP = [
    "--config=configs/task2.py:smoke", "--config.size=16", "--config.xi=4", "--config.depth=3",
    "--config.width=8", "--config.train_points=16", "--config.validation_points=4",
    "--config.look_every=5", "--config.seeds=0,1,2,3,4,5",
]  # fmt: skip
CIFAR = [
    "--config=configs/cifar10.py:LeNet,smoke", f"--config.data_dir={ROOT / 'tests/data/tfds'}",
    "--config.train_points=32", "--config.validation_points=16", "--config.test_points=16",
    "--config.batch_size=16", "--config.measure_points=8", "--config.seeds=0,1",
]  # fmt: skip


def several(processes, *arguments, devices=2, **variables):
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": str(devices)}
    # Every process compiles for itself.
    environment |= {"PYTHON": sys.executable, "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"} | variables
    return subprocess.Popen(
        ["launch/local_multiprocess.sh", str(processes), *arguments],
        cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def finished(processes, *arguments, **options):
    started = several(processes, *arguments, **options)
    output, _ = started.communicate(timeout=300)
    return started.returncode, output


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [SWEEP, CIFAR], ids=["sweep", "cifar10"])
def test_several_processes_give_the_numbers_of_one(arguments, tmp_path):
    arguments = [*arguments, "--config.measure_at=0,1,2"]
    datasets = {}
    for processes in (1, 4):
        workdir = tmp_path / str(processes)
        code, output = finished(processes, *arguments, f"--workdir={workdir}")
        assert code == 0, output
        if processes > 1:
            assert f"on {2 * processes} × cpu, of {processes} processes" in output
        assert output.count("figure:  ") == len(
            list(workdir.glob("*.png"))
        )  # only one of them prints
        datasets[processes] = results.load(workdir / results.RESULTS)
        assert datasets[processes].attrs["device_count"] == 2 * processes
        looks = [sum(look["train_loss"]) for look in read_metrics(workdir)]
        if processes == 1:
            expected = looks
        np.testing.assert_allclose(looks, expected, rtol=1e-4)
    for name in datasets[1]:
        np.testing.assert_allclose(
            datasets[4][name], datasets[1][name], rtol=1e-4, atol=1e-7, err_msg=name
        )


def children_of(launcher):
    """Returns the ids of the processes that a launcher has started, in order."""
    path = pathlib.Path(f"/proc/{launcher.pid}/task/{launcher.pid}/children")
    return [int(child) for child in path.read_text().split()]


@pytest.mark.slow
def test_a_lost_process_ends_the_job_and_a_smaller_job_resumes(tmp_path):
    long = [*SWEEP, "--config.look_every=50", "--config.max_epochs=1000", "--config.patience=9999"]
    long += ["--config.checkpoint_minutes=0", f"--workdir={tmp_path}"]

    def saved():
        return {path.name for path in (tmp_path / "checkpoints").glob("*[0-9]")}

    def wait_for_a_checkpoint(job):
        before, deadline = saved(), time.monotonic() + 120
        while not saved() - before:
            assert job.poll() is None, job.communicate()[0]
            assert time.monotonic() < deadline
            time.sleep(0.05)

    job = several(4, *long)
    wait_for_a_checkpoint(job)
    os.kill(children_of(job)[2], signal.SIGKILL)
    began = time.monotonic()
    output, _ = job.communicate(timeout=3 * distributed.HEARTBEAT_SECONDS)
    assert time.monotonic() - began < 2 * distributed.HEARTBEAT_SECONDS
    assert "process 2 of 4 ended with code 137" in output
    assert "unhealthy (stopped sending heartbeats):\n2\n" in output  # what other launchers show
    assert job.returncode == 137

    job = several(2, *long)
    wait_for_a_checkpoint(job)
    job.send_signal(signal.SIGTERM)
    output, _ = job.communicate(timeout=60)
    assert "Going on from epoch" in output
    assert output.count("stopped by SIGTERM; run the same command to resume") == 1
    assert job.returncode == 128 + signal.SIGTERM

    code, output = finished(2, *long)
    assert code == 0, output
    assert "Going on from epoch" in output
    one = tmp_path / "one"
    code, output = finished(1, *long, f"--workdir={one}")
    assert code == 0, output
    together, alone = (results.load(path / results.RESULTS) for path in (tmp_path, one))
    np.testing.assert_allclose(together.train_loss, alone.train_loss, atol=1e-5)
    np.testing.assert_allclose(together.D, alone.D, rtol=1e-3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"processes": 2}, "must be given together"),
        ({"coordinator": "localhost:1", "processes": 2, "process": 2}, "less than --processes=2"),
    ],
)
def test_wrong_arguments_are_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        distributed.start(**arguments)


@pytest.mark.slow
def test_a_missing_cluster_is_one_sentence():
    done = subprocess.run(
        [sys.executable, "-m", "relstab_jax.main", "--config=configs/task2.py", "--distributed"],
        cwd=ROOT, env=os.environ | {"JAX_PLATFORMS": "cpu"}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 1
    assert "error: --distributed found no SLURM, Open MPI, GKE or TPU here" in done.stderr


def test_a_single_process_starts_no_runtime():
    distributed.start()
    assert distributed.is_first()


CHECKED_TOGETHER = """
import sys
from relstab_jax import distributed
from relstab_jax.errors import InputError

distributed.start(coordinator=sys.argv[1], processes=2, process=int(sys.argv[2]))

def check(failing):
    if distributed.jax.process_index() == failing:
        raise InputError(f"process {failing} has no data")

distributed.check_together(lambda: check(None))
for failing in (0, 1):
    try:
        distributed.check_together(lambda: check(failing))
    except InputError as error:
        print(error)
"""


def test_a_check_that_fails_on_one_process_fails_on_all():
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", CHECKED_TOGETHER, address, number], cwd=ROOT, text=True,
            env=os.environ | {"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "1"},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )
        for number in "01"
    ]  # fmt: skip
    for process in processes:
        output, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
        assert output.endswith("process 0 has no data\nprocess 1 has no data\n")
