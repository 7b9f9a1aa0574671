"""The command that runs a grid of runs and gathers their results.

python -m relstab_jax.grid configs/grids/fig08-laptop.txt

A grid is a text file. Each of its lines is a run: what stands behind `python -m relstab_jax.main`.
Empty lines and those that begin with # are left out. The runs go into folders of runs/GRID, one
after the other; those that have ended are skipped, those that were interrupted go on, and one that
fails does not stop the others. The gathered results are written into the same folder.
"""

import argparse
import pathlib
import re
import shlex
import subprocess
import sys
from typing import NamedTuple

import xarray as xr

from relstab_jax import results
from relstab_jax.errors import InputError, reading
from relstab_jax.main import figure


class Run(NamedTuple):
    """A line of a grid: arguments of the command, and the folder of the run."""

    arguments: list[str]
    workdir: pathlib.Path

    @property
    def ended(self) -> bool:
        """Whether its results are there."""
        return (self.workdir / results.RESULTS).exists()

    @property
    def flags(self) -> list[str]:
        """What stands behind `python -m relstab_jax.main` in its command."""
        return [*self.arguments, f"--workdir={self.workdir}"]

    @property
    def command(self) -> list[str]:
        """What runs it, or goes on with it."""
        return [sys.executable, "-m", "relstab_jax.main", *self.flags]


def read(path: pathlib.Path, workdir: pathlib.Path) -> list[Run]:
    """Returns the runs of a grid, in the order of its lines.

    Raises:
        InputError: where there is no such file or no run in it, or a line is not one.
    """
    with reading(path, "a grid", "give a text file, a run on each line"):
        text = path.read_text(encoding="utf-8-sig")  # editors on Windows begin it with a mark
    lines = [line.partition("#")[0].strip() for line in text.splitlines()]
    runs = []
    for line in filter(None, lines):
        if "--workdir" in line:
            raise InputError(f"{path}: a run of a grid has its folder in {workdir}: {line}")
        # configs/cifar10.py:LeNet --config.noise=10 goes into cifar10-LeNet-noise-10
        name = re.sub(r"--config\.|--config=(.*/)?|\.py\b", "", line)
        try:
            arguments = shlex.split(line)
        except ValueError as error:
            raise InputError(f"{path}: {error}: {line}") from error
        runs.append(Run(arguments, workdir / re.sub(r"[^\w.]+", "-", name)))
    if not runs:
        raise InputError(f"the grid {path} has no run")
    if twice := [run.workdir.name for run in runs if runs.count(run) > 1]:
        raise InputError(f"{path} has the run {twice[0]} more than once")
    return runs


def run(runs: list[Run]) -> list[Run]:
    """Runs what has not ended, one after the other; returns the runs that failed.

    Raises:
        SystemExit: where a run was told to stop.
    """
    failed = []
    for number, one in enumerate(runs, 1):
        title = f"run {number} of {len(runs)}, {one.workdir}"
        if one.ended:
            print(f"{title}: has ended before.", flush=True)
            continue
        print(f"{title}:", flush=True)
        code = subprocess.run(one.command).returncode
        if code > 128:  # as `interruption.Interrupted` ends a run
            sys.exit(code)
        if code:
            failed.append(one)
    return failed


def figures(gathered: xr.Dataset) -> tuple[str, ...]:
    """Returns the figures that gathered results allow: correlations take three networks."""
    data = {run["config"]["data"] for run in gathered.attrs["runs"]}
    if len(data) > 1 or min(len(level.member) for _, level in gathered.groupby("noise")) < 3:
        return ()
    return {"scale_detection_2d": ("fig08",), "cifar10": ("fig01_centre_right", "fig10")}.get(
        data.pop(), ()
    )


def main() -> None:
    """Runs the grid of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("grid", type=pathlib.Path, help="file of the grid")
    parser.add_argument(
        "--workdir", type=pathlib.Path, help="folder of the runs; default runs/GRID"
    )
    parser.add_argument(
        "--list", action="store_true", help="print the flags of the runs to do, and run nothing"
    )
    arguments = parser.parse_args()
    workdir = arguments.workdir or pathlib.Path("runs", arguments.grid.stem)
    try:
        runs = read(arguments.grid, workdir)
    except InputError as error:
        sys.exit(f"error: {error}")
    if arguments.list:
        print(*(shlex.join(one.flags) for one in runs if not one.ended), sep="\n")
        return
    try:
        failed = run(runs)
        ended = [results.load(one.workdir / results.RESULTS) for one in runs if one.ended]
    except InputError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit("Interrupted; the same command goes on from there.")
    if ended:
        gathered = results.gather(ended)
        path = results.save(gathered, workdir)
        print(f"results of {len(ended)} runs: {path}")
        for name in figures(gathered):
            print(f"figure: {figure(name, path)}")
    if failed:
        sys.exit("failed: " + ", ".join(str(one.workdir) for one in failed))


if __name__ == "__main__":
    main()
