"""The files of a run: its configuration, its metrics and the one schema of its results.

A run writes into its workdir

- ``config.json``: the configuration, before anything else;
- ``state.json``: whether it runs, and how it ended (`relstab_jax.runs`);
- ``metrics.jsonl``: a line for each look at the training; with the extra `tensorboard`, its event
  files beside it;
- ``checkpoints/``: by Orbax;
- ``results.json``: once, atomically, at the end: `xarray.Dataset.to_dict` as JSON.

Sensitivities are the variables D, G and R with dimensions out of state (init, trained), channels
(all, mean, shuffled), seed and layer; numbers of a seed are variables over seed. What `gather`
makes of several runs has the dimension member in the place of seed and layer.
"""

import importlib.metadata
import importlib.util
import json
import os
import pathlib
from collections.abc import Sequence
from typing import Any, TextIO

import jax
import numpy as np
import xarray as xr

from relstab_jax import distributed
from relstab_jax.config import Config
from relstab_jax.errors import InputError, reading

CONFIG, METRICS, RESULTS, STATE = "config.json", "metrics.jsonl", "results.json", "state.json"
_RECORDED = ("relstab_jax", "jax", "jaxlib", "flax", "optax", "numpy")


def claim(workdir: pathlib.Path, config: Config) -> None:
    """Makes `workdir` the folder of a run of `config`, or finds that it is.

    Of several processes the first one writes.

    Raises:
        InputError: where the folder cannot be read or written, or belongs to another configuration.
    """
    ours = json.loads(config.to_json())
    path = workdir / CONFIG
    if path.exists():
        with reading(path, "the configuration of a run", "delete it or give another --workdir"):
            theirs = dict(json.loads(path.read_text()))
        if theirs != ours:
            raise InputError(
                f"{workdir} holds a run of another configuration ({_differences(theirs, ours)}): "
                "give another --workdir or delete it"
            )
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        if distributed.is_first():
            write_atomically(path, json.dumps(ours, indent=2) + "\n")
    except OSError as error:
        raise InputError(
            f"cannot write into {workdir} ({error.strerror}): give another --workdir"
        ) from error


def _differences(theirs: dict[str, Any], ours: dict[str, Any], prefix: str = "") -> str:
    found = []
    for name in sorted(theirs.keys() | ours.keys()):
        a, b = theirs.get(name), ours.get(name)
        if isinstance(a, dict) and isinstance(b, dict):
            found += [_differences(a, b, f"{prefix}{name}.")] if a != b else []
        elif a != b:
            found.append(f"{prefix}{name}: {a} there, {b} here")
    return "; ".join(found)


def provenance(config: Config, seconds: float) -> dict[str, Any]:
    """Returns the attributes of a results dataset: what made it, on what, in what time."""
    return {
        "config": json.loads(config.to_json()),
        "versions": {name: importlib.metadata.version(name) for name in _RECORDED},
        "device_kind": jax.devices()[0].device_kind,
        "device_count": jax.device_count(),
        "wall_time_seconds": round(seconds, 1),
    }


def save(dataset: xr.Dataset, workdir: pathlib.Path) -> pathlib.Path:
    """Writes `results.json`, whole or not at all, and returns its path."""
    path = workdir / RESULTS
    write_atomically(path, json.dumps(dataset.to_dict(), indent=1) + "\n")
    return path


def load(path: str | os.PathLike[str]) -> xr.Dataset:
    """Reads a results file.

    Raises:
        InputError: where there is none, or something else.
    """
    advice = f"give the {RESULTS} of a run that has ended, or delete it and run again"
    with reading(path, "results", advice):
        return xr.Dataset.from_dict(json.loads(pathlib.Path(path).read_text()))


def gather(datasets: Sequence[xr.Dataset]) -> xr.Dataset:
    """Gathers the trained networks of several runs into one dataset, for Figs. 1, 8 and 10.

    Args:
        datasets: results of `relstab_jax.experiments.train_images`.

    Returns:
        One entry for each network and seed, dimension member, with coordinates network, noise and
        seed: D, G, R [state, member] of the predictor, channels all; test_error, train_error,
        validation_error, best_epoch, epochs and test_points [member]. The attribute runs holds the
        attributes of each run.
    """
    members = []
    for dataset in datasets:
        config = dataset.attrs["config"]
        predictor = dataset.sel(channels="all", layer="output", drop=True)
        of_seed = [name for name in predictor.data_vars if predictor[name].dims[-1:] == ("seed",)]
        member = predictor[of_seed].reset_coords(drop=True).rename(seed="member")
        S = dataset.sizes["seed"]
        members.append(
            member.drop_vars("member").assign_coords(
                network=("member", [config["network"]] * S),
                noise=("member", [config["noise"]] * S),
                seed=("member", dataset.seed.values),
            )
        )
    gathered = xr.concat(members, "member", join="exact", combine_attrs="drop")
    return gathered.assign_attrs(runs=[dataset.attrs for dataset in datasets])


def write_atomically(path: pathlib.Path, text: str) -> None:
    """Writes a file whole or not at all."""
    partial = path.with_suffix(".partial")
    partial.write_text(text)
    partial.replace(path)


def read_metrics(workdir: pathlib.Path) -> list[dict[str, Any]]:
    """Returns the lines of `metrics.jsonl`, but for one that was not written to its end.

    Raises:
        InputError: where they are not lines of metrics.
    """
    path = workdir / METRICS
    with reading(path, "the metrics of a run", "delete it"):
        text = path.read_text() if path.exists() else ""
        lines = [json.loads(line) for line in text.splitlines(True) if line.endswith("}\n")]
        if not all("epoch" in line for line in lines):
            raise ValueError("a line without an epoch")
    return lines


class MetricsLog:
    """Appends a line of JSON for each look to `metrics.jsonl`.

    With the extra `tensorboard`, the same numbers, means over seeds, go into its event files.

    Args:
        workdir: the folder of the run.
        up_to_epoch: where the run goes on; lines past it, which an earlier start left, are dropped.
    """

    def __init__(self, workdir: pathlib.Path, up_to_epoch: int):
        path = workdir / METRICS
        kept = [line for line in read_metrics(workdir) if line["epoch"] <= up_to_epoch]
        write_atomically(path, "".join(json.dumps(line) + "\n" for line in kept))
        self._path, self._up_to_epoch = path, up_to_epoch

    def __enter__(self) -> "MetricsLog":
        self._file: TextIO = self._path.open("a")
        self._board = None
        if importlib.util.find_spec("tensorboardX"):
            from tensorboardX import SummaryWriter

            folder = str(self._path.parent)
            self._board = SummaryWriter(folder, purge_step=self._up_to_epoch + 1)
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        if self._board:
            self._board.close()

    def write(self, line: dict[str, Any]) -> None:
        """Writes and flushes one line."""
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()
        if self._board:
            for name in line.keys() - {"epoch"}:
                self._board.add_scalar(name, float(np.mean(line[name])), line["epoch"])
            self._board.flush()
