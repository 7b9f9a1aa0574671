"""One run in several processes, by JAX's distributed runtime.

Every process runs the same program on its own devices, and shares the folder of the run. Only the
first one prints and writes results; all of them call Orbax for checkpoints.
"""

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator

import jax
import numpy as np
from jax.experimental import multihost_utils

from relstab_jax.errors import InputError, reason

# When a process sends no heartbeat for this long, the runtime reports its number and ends the
# other processes.
HEARTBEAT_SECONDS = 30

_MESSAGE_BYTES = 1024


def start(
    wanted: bool = False,
    coordinator: str | None = None,
    processes: int | None = None,
    process: int | None = None,
) -> None:
    """Connects this process to the others, if requested or if a cluster has started several.

    Must be called before JAX is first used. Without the last three arguments, JAX finds the other
    processes on SLURM, Open MPI, GKE and TPUs.

    Args:
        wanted: whether to connect even if the environment does not show several processes.
        coordinator: ADDRESS:PORT of the first process, with a free port.
        processes: number of processes.
        process: number of this process, from 0.

    Raises:
        InputError: if only some of the last three arguments are given, `process` is out of range,
            or no other process is found.
    """
    given = [argument is not None for argument in (coordinator, processes, process)]
    if any(given) and not all(given):
        raise InputError("--coordinator, --processes and --process must be given together")
    if processes is not None and process is not None and not 0 <= process < processes:
        raise InputError(
            f"--process={process} must be at least 0 and less than --processes={processes}"
        )
    if not (any(given) or wanted or _cluster_has_several_processes()):
        return
    # The training loop itself agrees on when to stop.
    jax.config.update("jax_enable_preemption_service", False)
    try:
        jax.distributed.initialize(
            coordinator,
            processes,
            process,
            heartbeat_timeout_seconds=HEARTBEAT_SECONDS,
            shutdown_timeout_seconds=10 * HEARTBEAT_SECONDS,
        )
    except ValueError as error:
        raise InputError(
            f"--distributed found no SLURM, Open MPI, GKE or TPU here ({reason(error)}): on plain "
            "machines give --coordinator, --processes and --process"
        ) from error


def _cluster_has_several_processes() -> bool:
    """Returns whether SLURM or GKE has started several processes."""
    tasks = os.environ.get("SLURM_STEP_NUM_TASKS", "1")
    return int(tasks) > 1 or "," in os.environ.get("TPU_WORKER_HOSTNAMES", "")


def is_first() -> bool:
    """Returns whether this is the process that prints and writes results."""
    return jax.process_index() == 0


def check_together(check: Callable[[], None]) -> None:
    """Runs a check on every process; if it fails on any of them, it fails on all.

    Otherwise the other processes would wait forever for the one that has ended.

    Raises:
        InputError: with the message of the first process whose check raises an InputError.
    """
    if jax.process_count() == 1:
        check()
        return
    message = b""
    try:
        check()
    except InputError as error:
        message = str(error).encode()[:_MESSAGE_BYTES]
    padded = np.frombuffer(message.ljust(_MESSAGE_BYTES, b"\0"), np.uint8)
    for row in np.asarray(multihost_utils.process_allgather(padded)):
        if text := row.tobytes().rstrip(b"\0").decode(errors="replace"):
            raise InputError(text)


@contextlib.contextmanager
def printing_only_on_first() -> Iterator[None]:
    """Silences the standard output of all processes but the first.

    Errors still propagate on every process.
    """
    if is_first():
        yield
    else:
        with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
            yield


@contextlib.contextmanager
def reporting_lost_process() -> Iterator[None]:
    """On an error of JAX's runtime, waits until the runtime reports which process was lost.

    The runtime does so, and ends this process, when it misses the heartbeats of another one.
    """
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if jax.process_count() > 1:
            print(
                f"error: process {jax.process_index()} of {jax.process_count()} could not reach "
                f"another one ({reason(error)}). Within {HEARTBEAT_SECONDS} s JAX reports which "
                "process was lost. Run the same command on all of them to resume from the last "
                "checkpoint.",
                file=sys.stderr,
                flush=True,
            )
            time.sleep(2 * HEARTBEAT_SECONDS)
        raise
