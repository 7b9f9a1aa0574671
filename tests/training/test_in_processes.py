import os
import pathlib
import socket
import subprocess
import sys

import jax
import numpy as np
import pytest

from tests.training import test_data_parallel as in_memory

ROOT = pathlib.Path(__file__).parents[2]


@pytest.mark.slow
def test_processes_train_as_one_on_data_in_memory_and_streamed(tmp_path):
    """Batch-norm, dropout, crops and noise in two processes of two devices each."""
    with socket.create_server(("localhost", 0)) as free:
        coordinator = f"localhost:{free.getsockname()[1]}"
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "2"}
    command = [sys.executable, "-m", "tests.training.in_processes", str(tmp_path / "found.npz")]
    processes = [
        subprocess.Popen(
            [*command, coordinator, "2", str(process)],
            cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        for process in range(2)
    ]  # fmt: skip
    outputs = [process.communicate(timeout=300)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    found = np.load(tmp_path / "found.npz")
    assert found["devices"] == 4
    for name, expected in (
        ("memory", in_memory.trained(4)),
        ("stream", in_memory.trained(2, micro_batches=2, task=in_memory.PLAIN)),
    ):
        in_memory.assert_close(
            [found[f"{name}-{n}"] for n in range(len(jax.tree.leaves(expected)))],
            jax.tree.leaves(expected),
        )
