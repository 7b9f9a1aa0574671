"""One of several processes that train the networks of the tests together; the first one saves them.

python -m tests.training.in_processes OUTPUT COORDINATOR PROCESSES PROCESS
"""

import sys

import jax
import numpy as np

from relstab_jax import distributed
from tests.training import test_data_parallel, test_streamed

if __name__ == "__main__":
    output, coordinator, processes, process = sys.argv[1:]
    distributed.start(False, coordinator, int(processes), int(process))
    devices = len(jax.devices())
    found = {
        "memory": test_data_parallel.trained(devices),
        "stream": test_streamed.trained(test_streamed.stored(), devices, 2, 2),
    }
    if distributed.is_first():
        leaves = {
            f"{name}-{n}": leaf
            for name, trained in found.items()
            for n, leaf in enumerate(jax.tree.leaves(trained))
        }
        np.savez(output, devices=devices, **leaves)
