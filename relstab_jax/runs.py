"""The runs in a folder: what they are, how they stand, where they stopped.

python -m relstab_jax.runs [FOLDER]

A run notes in `state.json` that it began, and how it ended. One that has noted no end and whose
process is gone was killed.
"""

import argparse
import datetime
import json
import os
import pathlib
import shlex
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

from relstab_jax import distributed, results
from relstab_jax.errors import InputError, reading
from relstab_jax.training.interruption import Interrupted


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
    def alive(self) -> bool:
        """Whether it is running, as far as this machine can know."""
        if self.state != "running" or self.host != socket.gethostname():
            return self.state == "running"
        try:
            os.kill(self.process, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            return True
        return True


def read_state(workdir: pathlib.Path) -> State | None:
    """Returns the state of a run, or None where it has noted none.

    Raises:
        InputError: where the file holds something else.
    """
    path = workdir / results.STATE
    with reading(path, "the state of a run", "delete it"):
        return State(**json.loads(path.read_text())) if path.exists() else None


@contextmanager
def noted(workdir: pathlib.Path) -> Iterator[None]:
    """Notes, in the folder of a run, that it runs, and at last how it ended.

    Raises:
        InputError: where another process is running there.
    """
    if not distributed.is_first():
        yield
        return
    before = read_state(workdir)
    if before and before.alive and before.process != os.getpid():
        raise InputError(
            f"process {before.process} of {before.host} is running in {workdir}: wait for it, stop "
            f"it, or give another --workdir (if it is not: delete {workdir / results.STATE})"
        )

    def note(state: str, message: str = "") -> None:
        command = shlex.join(a for a in sys.argv[1:] if a.startswith("--config"))
        now = State(state, message, command, socket.gethostname(), os.getpid())
        results.write_atomically(workdir / results.STATE, json.dumps(now._asdict()) + "\n")

    note("running")
    try:
        yield
    except Interrupted as interrupted:
        note("stopped", str(interrupted))
        raise
    except BaseException as error:
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
    if noted and noted.state == "running" and not noted.alive:
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
    parser.add_argument("folder", type=pathlib.Path, nargs="?", default=pathlib.Path("runs"))
    folder = parser.parse_args().folder
    runs = found(folder)
    if not runs:
        sys.exit(f"error: there is no run in {folder}")
    print(table(runs))


if __name__ == "__main__":
    main()
