"""The state of a run, `state.json`: whether it is running, or how it ended.

A run writes the file when it begins and when it ends, and touches it every few seconds between. If
the file says "running" but is no longer touched, the run was killed.
"""

import json
import os
import pathlib
import shlex
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import NamedTuple

from relstab_jax import distributed
from relstab_jax.errors import InputError, WriteError, reading
from relstab_jax.files import strict_json, write_atomically
from relstab_jax.messages import log
from relstab_jax.training.interruption import Interrupted

STATE = "state.json"
HEARTBEAT_SECONDS = 5
SILENT_SECONDS = 20  # without a heartbeat for this long, a run is dead


class State(NamedTuple):
    """The content of `state.json`.

    Attributes:
        state: running, ended, stopped (by a signal, with everything saved) or failed.
        message: the signal or the error.
        command: the arguments of the command that concern the configuration.
        host: name of the machine of the first process.
        process: id of the first process on that machine.
    """

    state: str
    message: str
    command: str
    host: str
    process: int

    @property
    def is_here(self) -> bool:
        """Whether it runs or ran on this machine."""
        return self.host == socket.gethostname()

    @property
    def is_gone(self) -> bool:
        """Whether it ran on this machine and its process no longer exists."""
        if self.is_here:
            try:
                os.kill(self.process, 0)  # sends no signal
            except ProcessLookupError:
                return True
            except PermissionError:  # another user's process
                return False
        return False


def read_state(workdir: pathlib.Path) -> State | None:
    """Returns the state of a run, or None if the folder has none.

    Raises:
        InputError: if the file holds anything else.
    """
    path = workdir / STATE
    with reading(path, "the state of a run", "delete it"):
        return State(**json.loads(path.read_text())) if path.exists() else None


def check_not_running(workdir: pathlib.Path) -> None:
    """Checks that no other process runs in a folder.

    If the state says "running" and the process may still exist, waits `SILENT_SECONDS` for a
    heartbeat. This works across machines, because it does not compare their clocks.

    Raises:
        InputError: if there is such a process.
    """
    before = read_state(workdir)
    if before is None or before.state != "running" or before.is_gone:
        return
    if before.is_here and before.process == os.getpid():
        return  # of an earlier process with the same id: this one has not started its run yet
    first = _last_heartbeat(workdir)
    deadline = time.monotonic() + SILENT_SECONDS
    log.info(f"Checking for {SILENT_SECONDS} s whether {workdir} is in use.")
    while time.monotonic() < deadline:
        time.sleep(0.2)
        if _last_heartbeat(workdir) != first:
            raise InputError(
                f"process {before.process} of {before.host} is running in {workdir}: wait for it, "
                "stop it, or give another --workdir"
            )


def _last_heartbeat(workdir: pathlib.Path) -> int | None:
    """Returns when the state was written or touched, in nanoseconds of the file system's clock."""
    try:
        with (workdir / STATE).open() as file:  # opening refreshes what network file systems cache
            return os.fstat(file.fileno()).st_mtime_ns
    except FileNotFoundError:
        return None


@contextmanager
def recorded(workdir: pathlib.Path) -> Iterator[None]:
    """Records in `state.json` that a run is running, and how it ended.

    Only the first process of a run does.

    Raises:
        WriteError: if the disk is full.
    """
    if not distributed.is_first():
        yield
        return

    def record(state: str, message: str = "") -> None:
        command = shlex.join(a for a in sys.argv[1:] if a.startswith("--config"))
        now = State(state, message, command, socket.gethostname(), os.getpid())
        write_atomically(workdir / STATE, strict_json(now._asdict()))

    record("running")
    try:
        with _heartbeat(workdir / STATE):
            yield
    except Interrupted as interrupted:
        record("stopped", str(interrupted))
        raise
    except BaseException as error:
        with suppress(WriteError):  # the first error is the one to report
            record("failed", str(error) or type(error).__name__)
        raise
    record("ended")


@contextmanager
def _heartbeat(path: pathlib.Path) -> Iterator[None]:
    """Touches a file every `HEARTBEAT_SECONDS`, in a thread."""
    finished = threading.Event()

    def beat() -> None:
        while not finished.wait(HEARTBEAT_SECONDS):
            with suppress(OSError):  # a full disk is reported by those who write
                os.utime(path)

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        finished.set()
        thread.join()
