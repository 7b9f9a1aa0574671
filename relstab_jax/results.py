"""Results of a run: an `xarray.Dataset` in the file `results.json`.

The file is `Dataset.to_dict()` as strict JSON, with null for values that are not finite. Its
variables are listed in docs/experiments.md. Their dimensions are among state (init, trained),
channels (all, mean, shuffled), seed and layer.
"""

import json
import os
import pathlib

import xarray as xr

from relstab_jax.errors import reading
from relstab_jax.files import nan_for_none, strict_json, write_atomically

RESULTS = "results.json"


def save(dataset: xr.Dataset, workdir: pathlib.Path) -> pathlib.Path:
    """Writes `results.json` into a folder, completely or not at all, and returns its path.

    Raises:
        WriteError: if the disk is full or the folder cannot be written.
    """
    path = workdir / RESULTS
    write_atomically(path, strict_json(dataset.to_dict(), indent=1))
    return path


def load(path: str | os.PathLike[str]) -> xr.Dataset:
    """Reads a results file.

    Raises:
        InputError: if there is no such file, or it does not contain results.
    """
    advice = f"give the {RESULTS} of a complete run, or delete it and run again"
    with reading(path, "results", advice):
        tree = json.loads(pathlib.Path(path).read_text())
        for variable in [*tree["coords"].values(), *tree["data_vars"].values()]:
            variable["data"] = nan_for_none(variable["data"])
        dataset = xr.Dataset.from_dict(tree)
    dataset.encoding["source"] = str(path)
    return dataset
