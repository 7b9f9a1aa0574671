"""Lists the runs in a folder: state, epoch, error, command, and why they stopped.

python -m relstab_jax.runs [FOLDER]
"""

import argparse
import datetime
import pathlib
import sys
from typing import NamedTuple

import numpy as np

from relstab_jax import results
from relstab_jax.errors import InputError, reading
from relstab_jax.fields import local_path
from relstab_jax.runs.folder import CONFIG
from relstab_jax.runs.state import STATE, read_state
from relstab_jax.training.metrics import METRICS, read_metrics

# Longer than `state.SILENT_SECONDS`, because the clocks of two machines may differ.
LOST_SECONDS = 120


class Run(NamedTuple):
    """A row of the listing.

    Attributes:
        workdir: the folder of the run.
        state: as in `State`; or killed, unknown (without a state), or damaged (an unreadable file).
        message: why it stopped, or what is damaged.
        command: as in `State`.
        epoch: the epoch of the last look.
        error: mean over seeds of the test error or, until the run has ended, the validation error.
        last_sign: when it last wrote or touched a file.
    """

    workdir: pathlib.Path
    state: str
    message: str
    command: str
    epoch: int | None
    error: str
    last_sign: datetime.datetime


def inspect(workdir: pathlib.Path) -> Run:
    """Reads the files of a run, any of which may be damaged."""
    paths = [workdir / name for name in (STATE, METRICS, CONFIG)]
    touched = max(path.stat().st_mtime for path in paths if path.exists())
    last_sign = datetime.datetime.fromtimestamp(touched)
    try:
        with reading(workdir, "a run", "delete it"):
            return _inspect(workdir, last_sign)
    except InputError as error:
        return Run(workdir, "damaged", str(error), "", None, "", last_sign)


def _inspect(workdir: pathlib.Path, last_sign: datetime.datetime) -> Run:
    recorded, lines = read_state(workdir), read_metrics(workdir)
    state = recorded.state if recorded else "unknown"
    if recorded and state == "running":
        silence = datetime.datetime.now() - last_sign
        if recorded.is_gone or silence.total_seconds() > LOST_SECONDS:
            state = "killed"
    error = ""
    if (workdir / results.RESULTS).exists():
        state = "ended"
        dataset = results.load(workdir / results.RESULTS)
        if "test_error" in dataset:
            error = f"{dataset.test_error.values.mean():.4f}"
    elif lines:
        error = f"{np.mean(lines[-1]['validation_error']):.4f} (validation)"
    return Run(
        workdir,
        state,
        message=recorded.message if recorded else "",
        command=recorded.command if recorded else "",
        epoch=lines[-1]["epoch"] if lines else None,
        error=error,
        last_sign=last_sign,
    )


def find(folder: pathlib.Path) -> list[Run]:
    """Returns the runs in a folder and its subfolders, sorted by path."""
    return [inspect(path.parent) for path in sorted(folder.rglob(CONFIG))]


def table(runs: list[Run]) -> str:
    """Formats a line per run, and below it the message of a run that has one."""
    rows = [("state", "epoch", "error", "last sign", "run", "command")]
    for run in runs:
        epoch = "" if run.epoch is None else str(run.epoch)
        last_sign = f"{run.last_sign:%Y-%m-%d %H:%M}"
        rows.append((run.state, epoch, run.error, last_sign, str(run.workdir), run.command))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    messages = ["", *(run.message for run in runs)]
    lines = []
    for row, message in zip(rows, messages, strict=True):
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        lines.append("  ".join(cells).rstrip())
        if message:
            lines.append(f"{' ' * widths[0]}  {message}")
    return "\n".join(lines)


def main() -> None:
    """Lists the runs in the folder that the command line names."""
    parser = argparse.ArgumentParser(
        prog="python -m relstab_jax.runs",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folder", nargs="?", default="runs", help="default: runs")
    try:
        folder = pathlib.Path(local_path("FOLDER", parser.parse_args().folder))
    except InputError as error:
        sys.exit(f"error: {error}")
    runs = find(folder)
    if not runs:
        sys.exit(f"error: no runs in {folder}: give the folder that contains them")
    print(table(runs))
