"""The files of a run: its configuration, its metrics and the one schema of its results.

A run writes into its workdir

- ``config.json``: the configuration, before anything else;
- ``state.json``: whether it runs, and how it ended (`relstab_jax.runs`);
- ``metrics.jsonl``: a line for each look at the training; with the extra `tensorboard`, its event
  files beside it;
- ``checkpoints/``: by Orbax;
- ``results.json``: once, atomically, at the end: `xarray.Dataset.to_dict` as strict JSON, in which
  null stands for what is not finite.

Sensitivities are the variables D, G and R with dimensions out of state (init, trained), channels
(all, mean, shuffled), seed and layer; numbers of a seed are variables over seed. What `gather`
makes of several runs has the dimension member in the place of seed and layer.
"""

import contextlib
import importlib.metadata
import importlib.util
import json
import math
import os
import pathlib
from collections.abc import Collection, Mapping, Sequence
from typing import Any, TextIO

import jax
import numpy as np
import xarray as xr

from relstab_jax.config import Config, shown
from relstab_jax.errors import InputError, Unwritten, reading, writing

CONFIG, METRICS, RESULTS, STATE = "config.json", "metrics.jsonl", "results.json", "state.json"
_RECORDED = ("relstab_jax", "jax", "jaxlib", "flax", "optax", "numpy")


def as_json(config: Config) -> dict[str, Any]:
    """Returns a configuration as it is after it has been written and read."""
    return json.loads(config.to_json())


def check_folder(workdir: pathlib.Path, config: Config, may_change: Collection[str] = ()) -> None:
    """Checks that a folder has no work of another configuration.

    What a start left that failed before there was a checkpoint, a look or a result is no work.

    Args:
        workdir: the folder, which need not exist.
        config: of the run.
        may_change: fields that concern the measurement alone.

    Raises:
        InputError: where it has, or cannot be read.
    """
    path = workdir / CONFIG
    if not path.exists() or not _has_work(workdir):
        return
    with reading(path, "the configuration of a run", "delete it or give another --workdir"):
        theirs = dict(json.loads(path.read_text()))
    found = differences(theirs, as_json(config))
    if hindering := {name: text for name, text in found.items() if name not in may_change}:
        raise InputError(
            f"{workdir} holds a run of another configuration ({listed(hindering)}): give another "
            "--workdir or delete it"
        )


def _has_work(workdir: pathlib.Path) -> bool:
    metrics = workdir / METRICS
    return (
        (workdir / RESULTS).exists()
        or any((workdir / "checkpoints").glob("[0-9]*"))
        or (metrics.exists() and metrics.stat().st_size > 0)
    )


def claim(workdir: pathlib.Path, config: Config, may_change: Collection[str] = ()) -> None:
    """Makes `workdir` the folder of a run of `config`, or finds that it is.

    Raises:
        InputError: where the folder cannot be written, or as `check_folder`.
    """
    check_folder(workdir, config, may_change)
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        write_atomically(workdir / CONFIG, json.dumps(as_json(config), indent=2) + "\n")
    except (OSError, Unwritten) as error:
        cause = error if isinstance(error, OSError) else error.__cause__
        raise InputError(
            f"cannot write into {workdir} ({getattr(cause, 'strerror', cause)}): give another "
            "--workdir"
        ) from error


def outcome(workdir: pathlib.Path, config: Config) -> tuple[xr.Dataset | None, dict[str, str]]:
    """Returns the results of a run if it has ended, and what they were measured with instead.

    Args:
        workdir: of the run.
        config: as it is now.

    Returns:
        The results, or None where there are none, or where they are of another configuration; and
        its differences, empty for none.
    """
    path = workdir / RESULTS
    if not path.exists():
        return None, {}
    dataset = load(path)
    found = differences(dataset.attrs["config"], as_json(config))
    return (None if found else dataset), found


def differences(
    theirs: Mapping[str, Any], ours: Mapping[str, Any], prefix: str = ""
) -> dict[str, str]:
    """Returns {field: how it differs} of two configurations, of which the first is in a folder."""
    found = {}
    for name in sorted(theirs.keys() | ours.keys()):
        a, b = theirs.get(name), ours.get(name)
        if isinstance(a, dict) and isinstance(b, dict):
            found |= differences(a, b, f"{prefix}{name}.")
        elif a != b:
            found[prefix + name] = f"{prefix}{name}: {shown(a, 30)} there, {shown(b, 30)} here"
    return found


def listed(found: Mapping[str, str]) -> str:
    """Returns differences in a sentence, no more than the first two of them."""
    few = "; ".join(list(found.values())[:2])
    return few if len(found) <= 2 else f"{few}; and {len(found) - 2} more"


def provenance(config: Config, seconds: float) -> dict[str, Any]:
    """Returns the attributes of a results dataset: what made it, on what, in what time."""
    return {
        "config": as_json(config),
        "versions": {name: importlib.metadata.version(name) for name in _RECORDED},
        "device_kind": jax.devices()[0].device_kind,
        "device_count": jax.device_count(),
        "wall_time_seconds": round(seconds, 1),
    }


def save(dataset: xr.Dataset, workdir: pathlib.Path) -> pathlib.Path:
    """Writes `results.json`, whole or not at all, and returns its path."""
    path = workdir / RESULTS
    text = json.dumps(_finite(dataset.to_dict()), indent=1, allow_nan=False)
    write_atomically(path, text + "\n")
    return path


def load(path: str | os.PathLike[str]) -> xr.Dataset:
    """Reads a results file.

    Raises:
        InputError: where there is none, or something else.
    """
    advice = f"give the {RESULTS} of a run that has ended, or delete it and run again"
    with reading(path, "results", advice):
        tree = json.loads(pathlib.Path(path).read_text())
        for variable in [*tree["coords"].values(), *tree["data_vars"].values()]:
            variable["data"] = _with_nan(variable["data"])
        dataset = xr.Dataset.from_dict(tree)
    dataset.encoding["source"] = str(path)
    return dataset


def _finite(tree: Any) -> Any:
    """Returns nested lists and dicts with None in the place of numbers that are not finite."""
    if isinstance(tree, dict):
        return {name: _finite(value) for name, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [_finite(value) for value in tree]
    return None if isinstance(tree, float) and not math.isfinite(tree) else tree


def _with_nan(tree: Any) -> Any:
    """Returns nested lists with NaN in the place of None."""
    if isinstance(tree, list):
        return [_with_nan(value) for value in tree]
    return math.nan if tree is None else tree


def gather(datasets: Sequence[xr.Dataset]) -> xr.Dataset:
    """Gathers what several runs share into one dataset, for Figs. 1, 7, 8 and 10 among others.

    Args:
        datasets: results of any experiments.

    Returns:
        Of runs that differ in their seeds alone, the results of one run of all these seeds. Of
        others, one entry for each run and seed, dimension member, with the variables over seeds, or
        all variables of runs without seeds, that all runs have in one shape. Of layers and channels
        those of the predictor are taken where all runs have one. Coordinates [member]: seed;
        network and noise, where the configurations have them; and every field whose value is a
        number or text and differs between the runs, unless a variable has its name. The attribute
        runs holds the attributes of each run.

    Raises:
        InputError: where a seed is in two of the runs that differ in their seeds alone.
    """
    if len(datasets) > 1 and all(_same_but_for_seeds(datasets[0], other) for other in datasets):
        return _along_seed(datasets)
    has_predictor = all(
        "output" in dataset.get("layer", ()) and "channels" in dataset.dims for dataset in datasets
    )
    if has_predictor:
        datasets = [dataset.sel(channels="all", layer="output", drop=True) for dataset in datasets]
    configs = [dataset.attrs["config"] for dataset in datasets]
    fields = {
        name: [config[name] for config in configs]
        for name in configs[0]
        if all(isinstance(config.get(name), str | int | float) for config in configs)
    }
    members = [_members(dataset) for dataset in datasets]
    shared = [
        name
        for name in members[0].data_vars
        if all(name in member and _alike(member[name], members[0][name]) for member in members)
    ]
    gathered = xr.concat(
        [member[[*shared, "seed"]] for member in members],
        "member",
        join="exact",
        combine_attrs="drop",
    )
    sizes = [member.sizes["member"] for member in members]
    coords = {
        name: ("member", np.repeat(values, sizes))
        for name, values in fields.items()
        if name not in gathered.variables and (name in ("network", "noise") or len(set(values)) > 1)
    }
    runs = [dataset.attrs for dataset in datasets]
    return gathered.assign_coords(coords).assign_attrs(runs=runs)


def _same_but_for_seeds(one: xr.Dataset, other: xr.Dataset) -> bool:
    found = differences(one.attrs["config"], other.attrs["config"])
    return "seed" in one.dims and "seed" in other.dims and found.keys() <= {"seeds"}


def _along_seed(datasets: Sequence[xr.Dataset]) -> xr.Dataset:
    """Joins runs along the dimension seed, in the order of their seeds."""
    seeds = np.concatenate([dataset.seed.values for dataset in datasets])
    if len(set(seeds.tolist())) < len(seeds):
        twice = sorted({int(seed) for seed in seeds if (seeds == seed).sum() > 1})
        raise InputError(f"the runs to be gathered share the seeds {twice}: give each seed once")
    joined = xr.concat(
        datasets, "seed", data_vars="minimal", compat="equals", join="exact", combine_attrs="drop"
    ).sortby("seed")
    config = {**datasets[0].attrs["config"], "seeds": joined.seed.values.tolist()}
    return joined.assign_attrs(config=config, runs=[dataset.attrs for dataset in datasets])


def _members(dataset: xr.Dataset) -> xr.Dataset:
    """Returns the variables of a run with the dimension member, of which it has one for a seed."""
    dataset = dataset.reset_coords(drop=True)
    if "seed" not in dataset.dims:
        return dataset.expand_dims("member").assign_coords(seed=("member", [0]))
    over_seeds = [name for name in dataset.data_vars if "seed" in dataset[name].dims]
    seeds = dataset.seed.values
    members = dataset[over_seeds].rename(seed="member").drop_vars("member")
    return members.assign_coords(seed=("member", seeds))


def _alike(one: xr.DataArray, other: xr.DataArray) -> bool:
    """Returns whether two variables differ in the dimension member and in values alone."""
    return one.dims == other.dims and all(
        one[dim].equals(other[dim]) for dim in one.dims if dim != "member"
    )


def write_atomically(path: pathlib.Path, text: str) -> None:
    """Writes a file whole or not at all.

    Raises:
        Unwritten: where the disk is full, or the folder cannot be written.
    """
    partial = path.with_suffix(".partial")
    with writing(path):
        try:
            partial.write_text(text)
            partial.replace(path)
        except OSError:
            with contextlib.suppress(OSError):
                partial.unlink(missing_ok=True)
            raise


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
    return [{name: _with_nan(value) for name, value in line.items()} for line in lines]


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
        write_atomically(path, "".join(map(self._text, kept)))
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

    @staticmethod
    def _text(line: dict[str, Any]) -> str:
        return json.dumps(_finite(line), allow_nan=False) + "\n"

    def write(self, line: dict[str, Any]) -> None:
        """Writes and flushes one line.

        Raises:
            Unwritten: where the disk is full.
        """
        with writing(self._path):
            self._file.write(self._text(line))
            self._file.flush()
        if self._board:
            for name in line.keys() - {"epoch"}:
                self._board.add_scalar(name, float(np.mean(line[name])), line["epoch"])
            self._board.flush()
