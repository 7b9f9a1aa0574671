"""The command: a configuration in, one experiment run, its results and figure out.

python -m relstab_jax.main --config=configs/task2.py:laptop
"""

import importlib
import logging
import pathlib
import sys
import time
import warnings
from types import ModuleType

import absl.logging
import jax
from absl import app, flags
from ml_collections import config_flags

from relstab_jax import distributed, results, runs
from relstab_jax.compilation import CompilationCache
from relstab_jax.config import Config
from relstab_jax.errors import Diverged, InputError
from relstab_jax.training.interruption import Interrupted
from relstab_jax.training.sweep import one_device_per_core

_CONFIG = config_flags.DEFINE_config_file(
    "config", None, "File of the configuration, with presets behind a colon."
)
_WORKDIR = flags.DEFINE_string(
    "workdir", None, "Folder of the run; runs/CONFIG-PRESETS if not given."
)
_DISTRIBUTED = flags.DEFINE_bool(
    "distributed",
    False,
    "Be one of several processes that JAX finds by itself. SLURM and GKE need no flag.",
)
_COORDINATOR = flags.DEFINE_string(
    "coordinator", None, "ADDRESS:PORT of the first of several processes, on plain machines."
)
_PROCESSES = flags.DEFINE_integer("processes", None, "Number of processes, with --coordinator.")
_PROCESS = flags.DEFINE_integer("process", None, "Which of them this is, from 0.")


def default_workdir(config_flag: str) -> pathlib.Path:
    """Returns runs/task2-laptop for configs/task2.py:laptop."""
    file, _, words = config_flag.partition(":")
    return pathlib.Path(
        "runs", "-".join([pathlib.Path(file).stem, *filter(None, words.split(","))])
    )


def run(config: Config, workdir: pathlib.Path) -> None:
    """Runs the experiment of `config` in `workdir`, or goes on with it; ends with its summary."""
    experiment = importlib.import_module(f"relstab_jax.experiments.{config.experiment}")
    experiment.check(config)
    results.claim(workdir, config)
    path = workdir / results.RESULTS
    if path.exists():
        print(f"This run has ended before; delete {workdir} to run it again.")
        dataset = results.load(path)
    else:
        devices, processes = jax.devices(), jax.process_count()
        of_processes = f", of {processes} processes" if processes > 1 else ""
        device = devices[0].device_kind
        print(f"Running in {workdir} on {len(devices)} × {device}{of_processes}.", flush=True)
        cache = CompilationCache()
        began = time.monotonic()
        with runs.noted(workdir):
            dataset = experiment.run(config, workdir)
            dataset.attrs |= results.provenance(config, time.monotonic() - began)
            if distributed.is_first():
                results.save(dataset, workdir)
        if cache.seconds >= 1:
            print(f"Programs compiled by earlier runs have saved {cache.seconds:.0f} s.")
    if not distributed.is_first():
        return
    print(experiment.summary(dataset))
    print(f"results: {path}")
    for name in experiment.figures(dataset):
        print(f"figure:  {figure(name, path)}")


def figure(name: str, path: pathlib.Path) -> pathlib.Path:
    """Draws a figure of a run beside its results, as `python -m figures.NAME RESULTS` would."""
    module: ModuleType = importlib.import_module(f"figures.{name}")
    return module.draw([path], path.parent)


def parse(argv: list[str]) -> list[str]:
    """Parses the command line and loads the configuration; ends with one sentence if it cannot."""
    try:
        arguments = flags.FLAGS(argv)
        if _CONFIG.value is None or not _CONFIG.value.experiment:
            raise InputError("no configuration: give one, as in --config=configs/task2.py:laptop")
        if len(arguments) > 1:
            raise InputError(f"{arguments[1]!r} is no flag: fields are set as --config.FIELD=VALUE")
        return arguments
    except (flags.Error, InputError) as error:  # a flag's error quotes one of its configuration
        sys.exit(f"error: {str(error).rpartition('InputError: ')[2].strip()}")
    except OSError as error:
        sys.exit(f"error: {str(error).rpartition('] ')[2].strip()}")
    except AttributeError as error:  # of ml_collections, around a KeyError that names the field
        unknown = str(getattr(error.args[0], "args", error.args)[0]).replace("\n", ". ")
        sys.exit(f"error: the configuration has no field {unknown}")


def main(_: list[str]) -> None:
    """Runs the configuration of the command line."""
    absl.logging.set_verbosity(absl.logging.WARNING)
    absl.logging.get_absl_handler().setFormatter(logging.Formatter("%(message)s"))
    warnings.formatwarning = lambda message, *_, **__: f"warning: {message}\n"
    try:
        workdir = _WORKDIR.value or default_workdir(
            config_flags.get_config_filename(flags.FLAGS["config"])
        )
        one_device_per_core()
        distributed.start(_DISTRIBUTED.value, _COORDINATOR.value, _PROCESSES.value, _PROCESS.value)
        with distributed.only_the_first_prints():
            run(_CONFIG.value, pathlib.Path(workdir))
    except (InputError, Diverged) as error:
        sys.exit(f"error: {error}")
    except Interrupted as interrupted:
        if distributed.is_first():
            print(f"{interrupted}; the same command goes on from there.")
        sys.exit(interrupted.exit_code)


if __name__ == "__main__":
    app.run(main, flags_parser=parse)
