"""Several processes as one run: JAX's own distributed runtime, started where it is wanted.

Every process runs the same program on its own devices. All compute; the first one alone prints and
writes results; all of them call Orbax for checkpoints. They share the folder of the run.
"""

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator

import jax
import numpy as np
from jax.experimental import multihost_utils

from relstab_jax.errors import InputError

# A process that has not been heard of for so long is dead, and the runtime ends the others with a
# message that gives its number.
HEARTBEAT_SECONDS = 30

_LONGEST = 1024  # bytes of an error that the processes tell each other


def start(
    wanted: bool = False,
    coordinator: str | None = None,
    processes: int | None = None,
    process: int | None = None,
) -> None:
    """Makes this process one of several, where that is wanted or the environment says so.

    It has to come before JAX is first used. On SLURM, Open MPI, GKE and TPU JAX finds the other
    processes by itself.

    Args:
        wanted: whether to start in any case.
        coordinator: ADDRESS:PORT of the first process, with a free port, on plain machines.
        processes: how many there are.
        process: which of them this is, counted from 0.

    Raises:
        InputError: where the last three are not given together, or do not fit.
    """
    by_hand = coordinator, processes, process
    if any(given is not None for given in by_hand):
        if coordinator is None or processes is None or process is None:
            raise InputError("--coordinator, --processes and --process must be given together")
        if not 0 <= process < processes:
            raise InputError(
                f"--process={process} must lie between 0 and {processes - 1}: there are "
                f"--processes={processes}"
            )
    elif not (wanted or _of_several()):
        return
    # Stops are agreed upon by the training itself (`relstab_jax.training.loop`).
    jax.config.update("jax_enable_preemption_service", False)
    try:
        jax.distributed.initialize(
            coordinator,
            processes,
            process,
            heartbeat_timeout_seconds=HEARTBEAT_SECONDS,
            shutdown_timeout_seconds=10 * HEARTBEAT_SECONDS,
        )
    except ValueError as error:  # it found no cluster
        raise InputError(
            f"--distributed found no SLURM, Open MPI, GKE or TPU here ({error}): on plain machines "
            "give --coordinator, --processes and --process"
        ) from error


def _of_several() -> bool:
    """Whether SLURM or GKE has started several processes."""
    tasks = os.environ.get("SLURM_STEP_NUM_TASKS", "1")
    return int(tasks) > 1 or "," in os.environ.get("TPU_WORKER_HOSTNAMES", "")


def is_first() -> bool:
    """Whether this is the process that prints and writes."""
    return jax.process_index() == 0


def agree(check: Callable[[], None]) -> None:
    """Runs a check in every process; what one of them refuses, all refuse.

    Otherwise the others would wait for the one that has ended.

    Raises:
        InputError: as the first process does whose check raises one.
    """
    refused = ""
    try:
        check()
    except InputError as error:
        refused = str(error)
        if jax.process_count() == 1:
            raise
    if jax.process_count() > 1:
        text = np.zeros(_LONGEST, np.uint8)
        encoded = refused.encode()[:_LONGEST]
        text[: len(encoded)] = np.frombuffer(encoded, np.uint8)
        everyone = np.asarray(multihost_utils.process_allgather(text))
        for one in everyone.reshape(-1, _LONGEST):
            if message := one.tobytes().rstrip(b"\0").decode(errors="replace"):
                raise InputError(message)


@contextlib.contextmanager
def only_the_first_prints() -> Iterator[None]:
    """Silences the standard output of the other processes; errors are said by whom they befall."""
    if is_first():
        yield
    else:
        with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
            yield


@contextlib.contextmanager
def telling_who_is_lost() -> Iterator[None]:
    """After an error of the runtime, waits for it to say which process was lost.

    It does so, and ends this process, as soon as it has missed the heartbeats of another.
    """
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if jax.process_count() > 1:
            print(
                f"error: process {jax.process_index()} of {jax.process_count()} could not reach "
                f"another ({str(error).partition(chr(10))[0]}). Which one is lost follows within "
                f"{HEARTBEAT_SECONDS} s; the same command, given to all, goes on from the last "
                "checkpoint.",
                file=sys.stderr,
                flush=True,
            )
            time.sleep(2 * HEARTBEAT_SECONDS)
        raise
