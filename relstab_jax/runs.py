"""The runs in a folder: what they are, how they stand, where they stopped.

python -m relstab_jax.runs [FOLDER]

A run notes in `state.json` that it began, and how it ended; while it runs, it touches that file
every few seconds. One that has noted no end, and has stopped touching it, was killed.
"""

import argparse
import datetime
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
from typing import Any, NamedTuple

import numpy as np

from relstab_jax import distributed, results
from relstab_jax.config import local
from relstab_jax.errors import InputError, Unwritten, reading
from relstab_jax.training.interruption import Interrupted

# A run touches its state so often; where nothing has touched it for so long, there is none.
BEAT_SECONDS = 5
SILENT_SECONDS = 20
# Clocks of two machines may differ: without watching, a run counts as killed only after this time.
LOST_SECONDS = 120


class State(NamedTuple):
    """What `state.json` holds.

    Attributes:
        state: running, ended, stopped (by a signal, with everything saved) or failed.
        message: of the signal or the error.
        command: the arguments of the command that are of its configuration.
        host: on which the first process runs or ran.
        process: its number there.
    """

    state: str
    message: str
    command: str
    host: str
    process: int

    @property
    def is_here(self) -> bool:
        """Whether it ran on this machine."""
        return self.host == socket.gethostname()

    @property
    def is_gone(self) -> bool:
        """Whether it ran on this machine and its process does not exist any more."""
        if not self.is_here:
            return False
        try:
            os.kill(self.process, 0)
        except ProcessLookupError:
            return True
        except PermissionError:
            return False
        return False


def read_state(workdir: pathlib.Path) -> State | None:
    """Returns the state of a run, or None where it has noted none.

    Raises:
        InputError: where the file holds something else.
    """
    path = workdir / results.STATE
    with reading(path, "the state of a run", "delete it"):
        return State(**json.loads(path.read_text())) if path.exists() else None


def check_free(workdir: pathlib.Path) -> None:
    """Checks that no other process runs in a folder.

    Where a process has noted that it does, and is not known to be gone, its file is watched for a
    few seconds: a process that lives touches it. No two clocks are compared.

    Raises:
        InputError: where one does.
    """
    before = read_state(workdir)
    if before is None or before.state != "running" or before.is_gone:
        return
    if before.is_here and before.process == os.getpid():
        return  # of an earlier life under the same number: this process has not begun
    first = _touched(workdir)
    watched_until = time.monotonic() + SILENT_SECONDS
    print(f"Watching whether a process of {before.host} still runs in {workdir}.", flush=True)
    while time.monotonic() < watched_until:
        time.sleep(0.2)
        if _touched(workdir) != first:
            raise InputError(
                f"process {before.process} of {before.host} is running in {workdir}: wait for it, "
                "stop it, or give another --workdir"
            )


def _touched(workdir: pathlib.Path) -> int | None:
    """Returns when the state was written or touched, in nanoseconds of the file system."""
    try:
        with (workdir / results.STATE).open() as file:  # network file systems look anew at opening
            return os.fstat(file.fileno()).st_mtime_ns
    except FileNotFoundError:
        return None


@contextmanager
def _beating(path: pathlib.Path) -> Iterator[None]:
    """Touches a file every few seconds, in a thread of its own."""
    over = threading.Event()

    def beat() -> None:
        while not over.wait(BEAT_SECONDS):
            with suppress(OSError):  # a full disk is found by what has to be written
                os.utime(path)

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@contextmanager
def noted(workdir: pathlib.Path) -> Iterator[None]:
    """Notes, in the folder of a run, that it runs, and at last how it ended."""
    if not distributed.is_first():
        yield
        return

    def note(state: str, message: str = "") -> None:
        command = shlex.join(a for a in sys.argv[1:] if a.startswith("--config"))
        now = State(state, message, command, socket.gethostname(), os.getpid())
        results.write_atomically(workdir / results.STATE, json.dumps(now._asdict()) + "\n")

    note("running")
    try:
        with _beating(workdir / results.STATE):
            yield
    except Interrupted as interrupted:
        note("stopped", str(interrupted))
        raise
    except BaseException as error:
        with suppress(Unwritten):  # the first error is what counts
            note("failed", str(error) or type(error).__name__)
        raise
    note("ended")


class Run(NamedTuple):
    """A run as it is listed.

    Attributes:
        workdir: its folder.
        state: as of `State`, or killed, unknown, or damaged, where a file of it cannot be read.
        message: why it ended, or what is damaged.
        command: as of `State`.
        epoch: the last that was looked at.
        error: mean over seeds, of the test points at the end, of the validation points before.
        touched: when it last gave a sign.
    """

    workdir: pathlib.Path
    state: str
    message: str
    command: str
    epoch: int | None
    error: str
    touched: datetime.datetime


def look(workdir: pathlib.Path) -> Run:
    """Looks at a run, which may be damaged."""
    signs = [workdir / name for name in (results.STATE, results.METRICS, results.CONFIG)]
    touched = max(path.stat().st_mtime for path in signs if path.exists())
    touched = datetime.datetime.fromtimestamp(touched)
    try:
        with reading(workdir, "a run", "delete it"):
            return _look(workdir, touched)
    except InputError as error:
        return Run(workdir, "damaged", str(error), "", None, "", touched)


def _look(workdir: pathlib.Path, touched: datetime.datetime) -> Run:
    noted = read_state(workdir)
    lines: list[dict[str, Any]] = results.read_metrics(workdir)
    error, state = "", "unknown" if noted is None else noted.state
    silent = (datetime.datetime.now() - touched).total_seconds()
    if state == "running" and noted and (noted.is_gone or silent > LOST_SECONDS):
        state = "killed"
    if (workdir / results.RESULTS).exists():
        state, dataset = "ended", results.load(workdir / results.RESULTS)
        if "test_error" in dataset:
            error = f"{dataset.test_error.values.mean():.4f}"
    elif lines:
        error = f"{np.mean(lines[-1]['validation_error']):.4f} (validation)"
    return Run(
        workdir,
        state,
        noted.message if noted else "",
        noted.command if noted else "",
        lines[-1]["epoch"] if lines else None,
        error,
        touched,
    )


def found(folder: pathlib.Path) -> list[Run]:
    """Returns the runs in a folder and those below it, by name."""
    return [look(path.parent) for path in sorted(folder.rglob(results.CONFIG))]


def table(runs: list[Run]) -> str:
    """Returns a line for each run, and one for what ended it before its time."""
    rows = [("state", "epoch", "error", "last sign", "run", "command")]
    for run in runs:
        epoch = "" if run.epoch is None else str(run.epoch)
        sign = f"{run.touched:%Y-%m-%d %H:%M}"
        rows.append((run.state, epoch, run.error, sign, str(run.workdir), run.command))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    messages = ["", *(run.message for run in runs)]
    lines = []
    for row, message in zip(rows, messages, strict=True):
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        lines.append("  ".join(cells).rstrip())
        lines += [f"{' ' * widths[0]}  {message}"] if message else []
    return "\n".join(lines)


def main() -> None:
    """Lists the runs in the folder of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", nargs="?", default="runs")
    try:
        folder = pathlib.Path(local("folder", parser.parse_args().folder))
    except InputError as error:
        sys.exit(f"error: {error}")
    runs = found(folder)
    if not runs:
        sys.exit(f"error: there is no run in {folder}")
    print(table(runs))


if __name__ == "__main__":
    main()
