"""The command that runs a grid of runs and gathers their results.

python -m relstab_jax.grid configs/grids/fig08-laptop.txt

A grid is a text file. Each of its lines is a run: what stands behind `python -m relstab_jax.main`.
Empty lines and those that begin with # are left out. The runs go into folders of runs/GRID, one
after the other; those that have ended are skipped, those that were interrupted go on, and one that
fails does not stop the others. What all runs share is gathered and written into the same folder.
"""

import argparse
import hashlib
import pathlib
import re
import shlex
import subprocess
import sys
from typing import NamedTuple

from relstab_jax import config as configs
from relstab_jax import main as command
from relstab_jax import results
from relstab_jax.errors import InputError, Unwritten, reading

# Lines whose folder can be read off without doubt: a file of configs/, names, and numbers.
_PLAIN = re.compile(
    r"--config=configs/\w+\.py(:[A-Za-z]\w*(,[A-Za-z]\w*)*)?"
    r"( --config\.[A-Za-z][\w.]*=\d[\d.]*(,\d[\d.]*)*)*"
)


class Run(NamedTuple):
    """A line of a grid.

    Attributes:
        arguments: of the command.
        workdir: the folder of the run.
        changed: whether its results are of other fields of the measurement.
    """

    arguments: list[str]
    workdir: pathlib.Path
    changed: bool = False

    @property
    def ended(self) -> bool:
        """Whether its results are there."""
        return not self.changed and (self.workdir / results.RESULTS).exists()

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
        InputError: where there is no such file or no run in it, a line is not one, or the folder
            of a line has a run of another configuration.
    """
    with reading(path, "a grid", "give a text file, a run on each line"):
        text = path.read_text(encoding="utf-8-sig")  # editors on Windows begin it with a mark
    runs = []
    for line in filter(None, (line.partition("#")[0].strip() for line in text.splitlines())):
        if "--workdir" in line:
            raise InputError(f"{path}: a run of a grid has its folder in {workdir}: {line}")
        try:
            arguments = shlex.split(line)
        except ValueError as error:
            raise InputError(f"{path}: {error}: {line}") from error
        if any(run.arguments == arguments for run in runs):
            raise InputError(f"{path} has the run {configs.shown(line)} more than once")
        runs.append(Run(arguments, workdir / folder(arguments)))
    if not runs:
        raise InputError(f"the grid {path} has no run")
    return [run._replace(changed=_changed(path, run)) for run in runs]


def folder(arguments: list[str]) -> str:
    """Returns the name of a run's folder, which no other line has.

    --config=configs/cifar10.py:LeNet --config.noise=10 goes into cifar10-LeNet-noise-10. Where a
    line holds anything but names and numbers, a digest of it ends the name.
    """
    line = " ".join(arguments)
    name = re.sub(r"--config\.|--config=configs/|--config=|\.py\b", "", line)
    name = re.sub(r"[^\w.]+", "-", name)
    if _PLAIN.fullmatch(line):
        return name
    digest = hashlib.sha256(shlex.join(arguments).encode()).hexdigest()
    return f"{name[:100].strip('-.')}-{digest[:8]}"


def _changed(path: pathlib.Path, run: Run) -> bool:
    """Returns whether a run has results of another measurement; checks its line and its folder."""
    try:
        config, _ = command.configuration(run.arguments)
        experiment = command.experiment_of(config)
        results.check_folder(run.workdir, config, experiment.MEASUREMENT)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    return bool(results.outcome(run.workdir, config)[1])


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


def main() -> None:
    """Runs the grid of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("grid", help="file of the grid")
    parser.add_argument("--workdir", help="folder of the runs; default runs/GRID")
    parser.add_argument(
        "--list", action="store_true", help="print the flags of the runs to do, and run nothing"
    )
    arguments = parser.parse_args()
    try:
        path = pathlib.Path(configs.local("grid", arguments.grid))
        workdir = pathlib.Path(configs.local("--workdir", arguments.workdir or f"runs/{path.stem}"))
        runs = read(path, workdir)
    except InputError as error:
        sys.exit(f"error: {error}")
    if arguments.list:
        print(*(shlex.join(one.flags) for one in runs if not one.ended), sep="\n")
        return
    try:
        failed = run(runs)
    except KeyboardInterrupt:
        sys.exit("Interrupted; the same command goes on from there.")
    done = [one for one in runs if one.ended or (one.changed and one not in failed)]
    if done:
        try:
            gathered = results.gather([results.load(one.workdir / results.RESULTS) for one in done])
            path = results.save(gathered, workdir)
            print(f"results of {len(done)} runs: {path}")
            for figure in command.draw(path):
                print(f"figure: {figure}")
        except (InputError, Unwritten) as error:
            sys.exit(f"error: {error}")
    if failed:
        sys.exit("failed: " + ", ".join(str(one.workdir) for one in failed))


if __name__ == "__main__":
    main()
