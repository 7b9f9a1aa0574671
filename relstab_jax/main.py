"""The command: a configuration in, one experiment run, its results and figure out.

python -m relstab_jax.main --config=configs/task2.py:laptop
"""

import argparse
import importlib
import logging
import pathlib
import sys
import time
import warnings
from collections.abc import Sequence
from types import ModuleType
from typing import NoReturn

import jax

from relstab_jax import config as configs
from relstab_jax import distributed, plots, results, runs
from relstab_jax.compilation import CompilationCache
from relstab_jax.config import Config
from relstab_jax.errors import (
    Diverged,
    InputError,
    Unwritten,
    noticing_a_full_disk,
    writing,
)
from relstab_jax.training.devices import one_device_per_core
from relstab_jax.training.interruption import Interrupted

EXPERIMENTS = ("homogeneous", "measure", "scale_detection", "train_images")


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one sentence."""

    def error(self, message: str) -> NoReturn:
        """Raises an InputError."""
        raise InputError(message)


def parser() -> Parser:
    """Returns the parser of the command line but for the fields of the configuration."""
    made = Parser(
        prog="python -m relstab_jax.main",
        usage="%(prog)s --config=FILE[:WORDS] [--config.FIELD=VALUE ...] [options]",
        allow_abbrev=False,
        description="Runs the experiment of a configuration, or goes on with it.",
    )
    made.add_argument("--config", help="file of the configuration, with presets behind a colon")
    made.add_argument("--workdir", help="folder of the run; runs/CONFIG-PRESETS if not given")
    made.add_argument(
        "--distributed",
        action="store_true",
        help="be one of several processes that JAX finds by itself; SLURM and GKE need no flag",
    )
    made.add_argument(
        "--coordinator", help="ADDRESS:PORT of the first of several processes, on plain machines"
    )
    made.add_argument("--processes", type=int, help="number of processes, with --coordinator")
    made.add_argument("--process", type=int, help="which of them this is, from 0")
    return made


def default_workdir(config_flag: str) -> pathlib.Path:
    """Returns runs/task2-laptop for configs/task2.py:laptop."""
    file, _, words = config_flag.partition(":")
    return pathlib.Path(
        "runs", "-".join([pathlib.Path(file).stem, *filter(None, words.split(","))])
    )


def experiment_of(config: Config) -> ModuleType:
    """Returns the module of the experiment that a configuration names.

    Raises:
        InputError: where there is no such experiment.
    """
    if config.experiment not in EXPERIMENTS:
        raise InputError(
            f"experiment={configs.shown(config.experiment)} is not known: use one of "
            f"{', '.join(map(repr, EXPERIMENTS))}"
        )
    return importlib.import_module(f"relstab_jax.experiments.{config.experiment}")


def configuration(arguments: Sequence[str]) -> tuple[Config, argparse.Namespace]:
    """Returns the configuration of a command line, with its fields checked, and its other flags.

    Args:
        arguments: of the command.

    Raises:
        InputError: for any that cannot be.
    """
    flags, others = parser().parse_known_args(arguments)
    if not flags.config:
        raise InputError("no configuration: give one, as in --config=configs/task2.py:laptop")
    settings = [other.removeprefix("--config.") for other in others]
    for other, setting in zip(others, settings, strict=True):
        if other == setting or "=" not in setting:
            raise InputError(
                f"{configs.shown(other)} is no flag: fields are set as --config.FIELD=VALUE"
            )
    config = configs.load(flags.config)
    prefix = "experiment="
    for setting in settings:
        if setting.startswith(prefix):
            config.experiment = setting.removeprefix(prefix)
    settings = [setting for setting in settings if not setting.startswith(prefix)]
    experiment = experiment_of(config)
    configs.set_fields(config, settings, experiment.FIELDS)
    return config, flags


def run(config: Config, workdir: pathlib.Path) -> None:
    """Runs the experiment of `config` in `workdir`, or goes on with it; ends with its summary."""
    experiment = experiment_of(config)

    def check() -> None:
        experiment.check(config)
        if distributed.is_first():
            runs.check_free(workdir)
            results.claim(workdir, config, experiment.MEASUREMENT)

    distributed.agree(check)
    path = workdir / results.RESULTS
    dataset, differences = results.outcome(workdir, config)
    if dataset is not None:
        print(f"This run has ended before; delete {workdir} to run it again.")
    else:
        devices, processes = jax.devices(), jax.process_count()
        of_processes = f", of {processes} processes" if processes > 1 else ""
        device = devices[0].device_kind
        print(f"Running in {workdir} on {len(devices)} × {device}{of_processes}.", flush=True)
        if differences:
            print(f"It is measured anew: {results.listed(differences)}.", flush=True)
        cache = CompilationCache()
        began = time.monotonic()
        with runs.noted(workdir), noticing_a_full_disk(workdir):
            dataset = experiment.run(config, workdir)
            dataset.attrs |= results.provenance(config, time.monotonic() - began)
            if differences:
                dataset.attrs["measured_anew"] = list(differences.values())
            if distributed.is_first():
                results.save(dataset, workdir)
        if cache.seconds >= 1:
            print(f"Programs compiled by earlier runs have saved {cache.seconds:.0f} s.")
    if not distributed.is_first():
        return
    print(experiment.summary(dataset))
    print(f"results: {path}")
    for figure in draw(path):
        print(f"figure:  {figure}")


def draw(path: pathlib.Path) -> list[pathlib.Path]:
    """Draws what a results file can show beside it; returns the paths of the pictures."""
    dataset = results.load(path)
    with writing(path.parent):
        return [
            plots.save(plot(dataset), path.with_name(f"{name}.png"))
            for name, plot in plots.shown_by(dataset).items()
        ]


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the configuration of the command line."""
    logging.basicConfig(format="%(message)s")
    warnings.formatwarning = lambda message, *_, **__: f"warning: {message}\n"
    try:
        config, flags = configuration(sys.argv[1:] if arguments is None else arguments)
        workdir = configs.local("--workdir", flags.workdir or str(default_workdir(flags.config)))
        one_device_per_core()
        distributed.start(flags.distributed, flags.coordinator, flags.processes, flags.process)
        with distributed.only_the_first_prints():
            run(config, pathlib.Path(workdir))
    except (InputError, Diverged, Unwritten) as error:
        sys.exit(f"error: {error}")
    except Interrupted as interrupted:
        if distributed.is_first():
            print(f"{interrupted}; the same command goes on from there.")
        sys.exit(interrupted.exit_code)


if __name__ == "__main__":
    main()
