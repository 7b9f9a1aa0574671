"""Runs a grid of runs one after the other, and gathers their results.

python -m relstab_jax.grid configs/grids/fig08-laptop.txt

A grid is a text file with a run on each line: the arguments of `python -m relstab_jax.main`. Empty
lines are ignored, and so is the rest of a line after #. The runs have folders in runs/GRID. Runs
that have ended are skipped, interrupted ones are resumed, and if one fails, the others still run.
At the end the results are gathered, written into runs/GRID and drawn.
"""

import argparse
import hashlib
import pathlib
import re
import shlex
import subprocess
import sys
from typing import NamedTuple

from relstab_jax import main as command
from relstab_jax import messages, results
from relstab_jax.errors import InputError, WriteError, reading, reason, shown
from relstab_jax.fields import local_path
from relstab_jax.gathering import gather
from relstab_jax.messages import log
from relstab_jax.runs import folder

# Arguments that `folder_name` maps to distinct names: a file of configs/, words, and numbers.
_PLAIN_ARGUMENTS = re.compile(
    r"--config=configs/\w+\.py(:[A-Za-z]\w*(,[A-Za-z]\w*)*)?"
    r"( --config\.[A-Za-z][\w.]*=\d[\d.]*(,\d[\d.]*)*)*"
)


class Run(NamedTuple):
    """A line of a grid.

    Attributes:
        arguments: of the command.
        workdir: the folder of the run.
        measure_again: whether its results were measured with other settings than the line's.
    """

    arguments: list[str]
    workdir: pathlib.Path
    measure_again: bool = False

    @property
    def has_results(self) -> bool:
        """Whether it has written results, perhaps with other settings."""
        return (self.workdir / results.RESULTS).exists()

    @property
    def ended(self) -> bool:
        """Whether there is nothing left to run."""
        return self.has_results and not self.measure_again

    @property
    def flags(self) -> list[str]:
        """The arguments of `python -m relstab_jax.main` that start or resume it."""
        return [*self.arguments, f"--workdir={self.workdir}"]

    @property
    def command(self) -> list[str]:
        """The command that starts or resumes it."""
        return [sys.executable, "-m", "relstab_jax.main", *self.flags]


def read(path: pathlib.Path, workdir: pathlib.Path) -> list[Run]:
    """Reads a grid, and checks the configurations and folders of all its runs.

    Args:
        path: of the grid.
        workdir: the folder for the folders of its runs.

    Returns:
        The runs, in the order of their lines.

    Raises:
        InputError: if the grid cannot be read or has no runs, a line is not a valid command, or a
            folder holds a run of another configuration.
    """
    with reading(path, "a grid", "give a text file with a run on each line"):
        text = path.read_text(encoding="utf-8-sig")  # without the mark that Windows editors add
    runs = []
    for line in text.splitlines():
        line = line.partition("#")[0].strip()
        if not line:
            continue
        if "--workdir" in line:
            raise InputError(
                f"{path}: remove --workdir from {shown(line)}: each run of a grid has its own "
                f"folder in {workdir}"
            )
        try:
            arguments = shlex.split(line)
        except ValueError as error:
            raise InputError(
                f"{path}: {shown(line)} is not a command ({reason(error)}): correct its quotes"
            ) from error
        if any(run.arguments == arguments for run in runs):
            raise InputError(f"{path} has the run {shown(line)} more than once: give it once")
        runs.append(Run(arguments, workdir / folder_name(arguments)))
    if not runs:
        raise InputError(f"the grid {path} has no runs: write a run on each line")
    return [run._replace(measure_again=_measure_again(path, run)) for run in runs]


def folder_name(arguments: list[str]) -> str:
    """Returns the name of a run's folder, which is different for every line.

    --config=configs/cifar10.py:LeNet --config.noise=10 gives cifar10-LeNet-noise-10. If the
    arguments contain anything else than words and numbers, the name ends with their digest.
    """
    line = " ".join(arguments)
    name = re.sub(r"--config\.|--config=configs/|--config=|\.py\b", "", line)
    name = re.sub(r"[^\w.]+", "-", name)
    if _PLAIN_ARGUMENTS.fullmatch(line):
        return name
    digest = hashlib.sha256(shlex.join(arguments).encode()).hexdigest()
    return f"{name[:100].strip('-.')}-{digest[:8]}"


def _measure_again(path: pathlib.Path, run: Run) -> bool:
    """Checks the command and the folder of a run; returns its `Run.measure_again`."""
    try:
        config, _ = command.configuration(run.arguments)
        experiment = command.experiment_of(config)
        folder.check(run.workdir, config, experiment.MEASUREMENT)
        _, differences = folder.previous_results(run.workdir, config)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    return bool(differences)


def run_all(runs: list[Run], verbosity: int = 0) -> list[Run]:
    """Runs those that have not ended, one after the other; returns those that failed.

    Raises:
        SystemExit: if a run was stopped by a signal.
    """
    failed = []
    for number, run in enumerate(runs, 1):
        title = f"run {number} of {len(runs)}, {run.workdir}"
        if run.ended:
            log.info(f"{title}: has ended before.")
            continue
        log.info(f"{title}:")
        code = subprocess.run([*run.command, f"--verbosity={verbosity}"]).returncode
        if code > 128:  # the exit code of `interruption.Interrupted`
            sys.exit(code)
        if code:
            failed.append(run)
    return failed


def gather_and_draw(runs: list[Run], workdir: pathlib.Path) -> None:
    """Writes the gathered results of runs into `workdir`, and draws their figures."""
    gathered = gather([results.load(run.workdir / results.RESULTS) for run in runs])
    path = results.save(gathered, workdir)
    log.info(f"results of {len(runs)} runs: {path}")
    for figure in command.draw(path):
        log.info(f"figure: {figure}")


def main() -> None:
    """Runs the grid that the command line names."""
    parser = argparse.ArgumentParser(
        prog="python -m relstab_jax.grid",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("grid", help="file of the grid")
    parser.add_argument("--workdir", help="folder of the runs; default: runs/GRID")
    parser.add_argument(
        "--list", action="store_true", help="only print the arguments of the runs that are left"
    )
    parser.add_argument(
        "--verbosity", type=int, choices=(-1, 0), default=0, help="-1: say nothing but warnings"
    )
    arguments = parser.parse_args()
    messages.show(arguments.verbosity)
    try:
        path = pathlib.Path(local_path("GRID", arguments.grid))
        workdir = arguments.workdir or f"runs/{path.stem}"
        workdir = pathlib.Path(local_path("--workdir", workdir))
        runs = read(path, workdir)
        if arguments.list:
            print(*(shlex.join(run.flags) for run in runs if not run.ended), sep="\n")
            return
        failed = run_all(runs, arguments.verbosity)
        # A run may fail after it has written its results, for example while it draws them.
        complete = [
            run for run in runs if run.has_results and not (run.measure_again and run in failed)
        ]
        if complete:
            gather_and_draw(complete, workdir)
    except (InputError, WriteError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit("Interrupted; run the same command to resume.")
    if failed:
        sys.exit("failed: " + ", ".join(str(run.workdir) for run in failed))


if __name__ == "__main__":
    main()
