"""Runs the experiment of a configuration, and draws its results.

python -m relstab_jax.main --config=configs/task2.py:laptop
"""

import argparse
import importlib
import importlib.metadata
import pathlib
import sys
import time
import warnings
from collections.abc import Sequence
from types import ModuleType
from typing import Any, NoReturn

import absl.logging
import jax
import xarray as xr
from ml_collections import ConfigDict

from relstab_jax import __version__, distributed, messages, plots, results, tables
from relstab_jax import config as configs
from relstab_jax.compilation import CompilationCache
from relstab_jax.errors import (
    Diverged,
    InputError,
    WriteError,
    reporting_full_disk,
    shown,
    some,
    writing,
)
from relstab_jax.fields import TEXT, local_path, set_fields
from relstab_jax.messages import log
from relstab_jax.runs import folder, state
from relstab_jax.training.devices import one_device_per_core
from relstab_jax.training.interruption import Interrupted

EXPERIMENTS = ("homogeneous", "measure", "scale_detection", "train_images")
RECORDED_VERSIONS = ("jax", "jaxlib", "flax", "optax", "numpy")


class Parser(argparse.ArgumentParser):
    """A parser that raises an `InputError` where argparse would print its usage and exit."""

    def error(self, message: str) -> NoReturn:
        """Raises an InputError."""
        raise InputError(f"{message}: see python -m relstab_jax.main --help")


def parser() -> Parser:
    """Returns the parser of all arguments except --config.FIELD=VALUE."""
    made = Parser(
        prog="python -m relstab_jax.main",
        usage="%(prog)s --config=FILE[:WORDS] [--config.FIELD=VALUE ...] [options]",
        allow_abbrev=False,
        description="Runs the experiment of a configuration, or resumes it.",
    )
    made.add_argument("--config", help="file of the configuration, with presets after a colon")
    made.add_argument("--workdir", help="folder of the run; default: runs/CONFIG-PRESETS")
    made.add_argument(
        "--verbosity", type=int, choices=(-1, 0), default=0, help="-1: say nothing but warnings"
    )
    made.add_argument(
        "--distributed",
        action="store_true",
        help="be one of several processes that JAX finds itself; not needed on SLURM and GKE",
    )
    made.add_argument(
        "--coordinator", help="ADDRESS:PORT of the first of several processes, on plain machines"
    )
    made.add_argument("--processes", type=int, help="number of processes, with --coordinator")
    made.add_argument("--process", type=int, help="number of this process, from 0")
    return made


def configuration(arguments: Sequence[str]) -> tuple[ConfigDict, argparse.Namespace]:
    """Parses a command line.

    Returns:
        The configuration, with the fields of the command line set; and the other arguments.

    Raises:
        InputError: if an argument or the configuration is not valid.
    """
    flags, others = parser().parse_known_args(arguments)
    if not flags.config:
        raise InputError("no configuration: give one, as in --config=configs/task2.py:laptop")
    assignments = []
    for argument in others:
        if not argument.startswith("--config.") or "=" not in argument:
            raise InputError(
                f"{shown(argument)} is not a flag: set fields as --config.FIELD=VALUE, and see "
                "--help for the other flags"
            )
        assignments.append(argument.removeprefix("--config."))
    config = configs.load(flags.config)
    set_fields(config, assignments, {"experiment": TEXT} | experiment_of(config).FIELDS)
    return config, flags


def default_workdir(config_flag: str) -> pathlib.Path:
    """Returns runs/task2-laptop for configs/task2.py:laptop."""
    file, _, words = config_flag.partition(":")
    presets = [word for word in words.split(",") if word]
    return pathlib.Path("runs", "-".join([pathlib.Path(file).stem, *presets]))


def experiment_of(config: ConfigDict) -> ModuleType:
    """Returns the module of a configuration's experiment.

    Raises:
        InputError: if there is no such experiment.
    """
    if config.experiment not in EXPERIMENTS:
        raise InputError(
            f"experiment={shown(config.experiment)} is not known: use one of "
            f"{', '.join(map(repr, EXPERIMENTS))}"
        )
    return importlib.import_module(f"relstab_jax.experiments.{config.experiment}")


def run(config: ConfigDict, workdir: pathlib.Path) -> None:
    """Runs an experiment, resumes it, or measures it again; prints its summary and draws it.

    Raises:
        InputError: if the configuration is not valid, or the folder cannot be used.
        Diverged: if the loss of a training is no longer finite.
        Interrupted: on SIGTERM or SIGINT, with everything saved.
        WriteError: if the disk is full.
    """
    experiment = experiment_of(config)

    def check() -> None:
        experiment.check(config)
        if distributed.is_first():
            state.check_not_running(workdir)
            folder.claim(workdir, config, experiment.MEASUREMENT)

    distributed.check_together(check)
    dataset, differences = folder.previous_results(workdir, config)
    if dataset is not None:
        log.info(f"This run has ended before; delete {workdir} to run it again.")
    else:
        dataset = _new_results(experiment, config, workdir, list(differences.values()))
    if distributed.is_first():
        path = workdir / results.RESULTS
        log.info(tables.summary(dataset))
        log.info(f"results: {path}")
        for figure in draw(path):
            log.info(f"figure:  {figure}")


def _new_results(
    experiment: ModuleType, config: ConfigDict, workdir: pathlib.Path, differences: list[str]
) -> xr.Dataset:
    """Runs an experiment and saves its results.

    Args:
        experiment: the module of the experiment.
        config: its configuration.
        workdir: the folder of the run.
        differences: how the configuration differs from that of earlier results in the folder.
    """
    processes = f", of {jax.process_count()} processes" if jax.process_count() > 1 else ""
    devices = f"{jax.device_count()} × {jax.devices()[0].device_kind}"
    log.info(f"Running in {workdir} on {devices}{processes}.")
    if differences:
        changed = some(differences, "; ", at_most=2)
        log.info(f"Measuring again with other settings: {changed}.")
    cache = CompilationCache()
    began = time.monotonic()
    with state.recorded(workdir):
        dataset = experiment.run(config, workdir)
        dataset.attrs |= provenance(config, time.monotonic() - began)
        if differences:
            dataset.attrs["measured_anew"] = differences
        if distributed.is_first():
            results.save(dataset, workdir)
    if cache.seconds >= 1:
        log.info(f"Programs compiled by earlier runs have saved {cache.seconds:.0f} s.")
    return dataset


def provenance(config: ConfigDict, seconds: float) -> dict[str, Any]:
    """Returns the attributes of results: configuration, versions, devices and wall time."""
    return {
        "config": configs.as_json(config),
        "versions": {"relstab_jax": __version__}
        | {name: importlib.metadata.version(name) for name in RECORDED_VERSIONS},
        "device_kind": jax.devices()[0].device_kind,
        "device_count": jax.device_count(),
        "wall_time_seconds": round(seconds, 1),
    }


def draw(path: pathlib.Path) -> list[pathlib.Path]:
    """Draws all plots that a results file allows next to it; returns the paths of the pictures.

    Raises:
        WriteError: if the disk is full.
    """
    dataset = results.load(path)
    pictures = {
        path.with_name(f"{name}.png"): plot for name, plot in plots.shown_by(dataset).items()
    }
    for picture, plot in pictures.items():
        with writing(picture):
            plots.save(plot(dataset), picture)
    return list(pictures)


def leave_errors_of_orbax_to_be_raised() -> None:
    """Drops the tracebacks that Orbax prints of a save that failed, for example on a full disk.

    It raises the error too; but it also logs it in each of its threads, and what it had begun to
    write finds its event loop closed.
    """
    absl.logging.set_verbosity(absl.logging.FATAL)
    report = sys.unraisablehook

    def report_others(unraisable: Any) -> None:
        if str(unraisable.exc_value) != "Event loop is closed":
            report(unraisable)

    sys.unraisablehook = report_others


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line `arguments`, by default those of this process."""
    leave_errors_of_orbax_to_be_raised()
    warnings.formatwarning = lambda message, *_, **__: f"warning: {message}\n"
    try:
        config, flags = configuration(sys.argv[1:] if arguments is None else arguments)
        messages.show(flags.verbosity)
        workdir = flags.workdir or str(default_workdir(flags.config))
        workdir = pathlib.Path(local_path("--workdir", workdir))
        one_device_per_core()
        distributed.start(flags.distributed, flags.coordinator, flags.processes, flags.process)
        with distributed.printing_only_on_first(), reporting_full_disk(workdir):
            run(config, workdir)
    except (InputError, Diverged, WriteError) as error:
        sys.exit(f"error: {error}")
    except Interrupted as interrupted:
        if distributed.is_first():
            log.warning(f"{interrupted}; run the same command to resume.")
        sys.exit(interrupted.exit_code)


if __name__ == "__main__":
    main()
