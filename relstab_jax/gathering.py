"""Gathers the results of several runs into one dataset."""

from collections.abc import Sequence

import numpy as np
import xarray as xr

from relstab_jax.config import differences
from relstab_jax.errors import InputError

DEFAULTS = {"noise": 0.0}  # of fields that a configuration may lack


def gather(datasets: Sequence[xr.Dataset]) -> xr.Dataset:
    """Gathers the results of several runs, for Figs. 1, 7, 8 and 10 among others.

    Runs whose configurations differ only in their seeds are joined along the dimension seed, as if
    one run had had all seeds. Other runs are stacked along a new dimension member, one for every
    run and seed, as follows.

    Args:
        datasets: results of runs of any experiments.

    Returns:
        The variables that all runs have over their seeds, with the same other dimensions and
        coordinates; of runs without seeds, all variables count. If every run has the layer
        "output", only the predictor is kept: this layer, and all channels. Coordinates [member]
        are seed, and the fields of the configurations whose values are numbers or text and differ
        between runs (network and noise also if they do not), except where a variable has the same
        name. The attribute runs lists the attributes of every run.

    Raises:
        InputError: if runs that differ only in their seeds share a seed.
    """
    if len(datasets) > 1 and all(_differ_only_in_seeds(datasets[0], other) for other in datasets):
        return _joined_along_seed(datasets)
    has_predictor = all(
        "output" in dataset.get("layer", ()) and "channels" in dataset.dims for dataset in datasets
    )
    if has_predictor:
        datasets = [dataset.sel(channels="all", layer="output", drop=True) for dataset in datasets]
    members = [_members(dataset) for dataset in datasets]
    shared = [
        name
        for name in members[0].data_vars
        if all(
            name in member and _have_same_coords(member[name], members[0][name])
            for member in members
        )
    ]
    gathered = xr.concat(
        [member[[*shared, "seed"]] for member in members],
        "member",
        join="exact",
        combine_attrs="drop",
    )
    coords = _fields(datasets, [member.sizes["member"] for member in members])
    coords = {name: values for name, values in coords.items() if name not in gathered.variables}
    runs = [dataset.attrs for dataset in datasets]
    return gathered.assign_coords(coords).assign_attrs(runs=runs)


def _differ_only_in_seeds(one: xr.Dataset, other: xr.Dataset) -> bool:
    found = differences(one.attrs["config"], other.attrs["config"])
    return "seed" in one.dims and "seed" in other.dims and found.keys() <= {"seeds"}


def _joined_along_seed(datasets: Sequence[xr.Dataset]) -> xr.Dataset:
    """Joins runs along the dimension seed, sorted by seed."""
    seeds = np.concatenate([dataset.seed.values for dataset in datasets])
    if len(set(seeds.tolist())) < len(seeds):
        repeated = sorted({int(seed) for seed in seeds if (seeds == seed).sum() > 1})
        raise InputError(f"the runs to be gathered share the seeds {repeated}: give each seed once")
    joined = xr.concat(
        datasets, "seed", data_vars="minimal", compat="equals", join="exact", combine_attrs="drop"
    ).sortby("seed")
    config = {**datasets[0].attrs["config"], "seeds": joined.seed.values.tolist()}
    return joined.assign_attrs(config=config, runs=[dataset.attrs for dataset in datasets])


def _members(dataset: xr.Dataset) -> xr.Dataset:
    """Returns a run's variables with the dimension member: its seeds, or 1 if it has none."""
    dataset = dataset.reset_coords(drop=True)
    if "seed" not in dataset.dims:
        return dataset.expand_dims("member").assign_coords(seed=("member", [0]))
    over_seeds = [name for name in dataset.data_vars if "seed" in dataset[name].dims]
    seeds = dataset.seed.values
    members = dataset[over_seeds].rename(seed="member").drop_vars("member")
    return members.assign_coords(seed=("member", seeds))


def _have_same_coords(one: xr.DataArray, other: xr.DataArray) -> bool:
    """Returns whether two variables have the same dimensions and coordinates, except member."""
    return one.dims == other.dims and all(
        one[dim].equals(other[dim]) for dim in one.dims if dim != "member"
    )


def _fields(datasets: Sequence[xr.Dataset], sizes: Sequence[int]) -> dict[str, tuple]:
    """Returns the fields that tell runs apart, as coordinates {name: ("member", values)}.

    Args:
        datasets: results of the runs.
        sizes: number of members of each run.
    """
    configs = [dataset.attrs["config"] for dataset in datasets]
    coords = {}
    for name in dict.fromkeys(name for config in configs for name in config):
        values = [config.get(name, DEFAULTS.get(name)) for config in configs]
        is_plain = all(isinstance(value, str | int | float) for value in values)
        if is_plain and (name in ("network", "noise") or len(set(values)) > 1):
            coords[name] = ("member", np.repeat(values, sizes))
    return coords
