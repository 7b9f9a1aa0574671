"""Several processes: what one refuses, all refuse, before they wait for each other."""

import os
import pathlib
import socket
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[1]
PROGRAM = """
import sys
from relstab_jax import distributed
from relstab_jax.errors import InputError

distributed.start(coordinator=sys.argv[1], processes=2, process=int(sys.argv[2]))

def check(refusing):
    if distributed.jax.process_index() == refusing:
        raise InputError(f"process {refusing} has no data")

distributed.agree(lambda: check(None))
for refusing in (0, 1):
    try:
        distributed.agree(lambda: check(refusing))
    except InputError as error:
        print(error)
"""


def test_all_processes_refuse_what_one_does():
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM, address, number], cwd=ROOT, text=True,
            env=os.environ | {"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "1"},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )
        for number in "01"
    ]  # fmt: skip
    for process in processes:
        output, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
        assert output.endswith("process 0 has no data\nprocess 1 has no data\n")
