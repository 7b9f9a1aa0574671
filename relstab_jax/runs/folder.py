"""The folder of a run: checked and claimed for one configuration."""

import json
import pathlib
from collections.abc import Collection

import xarray as xr
from ml_collections import ConfigDict

from relstab_jax import results
from relstab_jax.config import as_json, differences
from relstab_jax.errors import InputError, WriteError, end_of_path, reading, reason, some
from relstab_jax.files import strict_json, write_atomically
from relstab_jax.training.metrics import METRICS

CONFIG = "config.json"


def check(workdir: pathlib.Path, config: ConfigDict, may_change: Collection[str] = ()) -> None:
    """Checks that a folder holds no work of another configuration.

    A checkpoint, a line of metrics or results count as work; what a run left that failed before any
    of them does not.

    Args:
        workdir: the folder, which need not exist.
        config: the configuration of the run.
        may_change: names of fields that may differ, because they only affect the measurement.

    Raises:
        InputError: if it holds such work, or its configuration cannot be read.
    """
    path = workdir / CONFIG
    if not path.exists() or not _has_work(workdir):
        return
    with reading(path, "the configuration of a run", "delete it or give another --workdir"):
        theirs = dict(json.loads(path.read_text()))
    found = differences(theirs, as_json(config))
    if conflicts := [text for name, text in found.items() if name not in may_change]:
        raise InputError(
            f"{workdir} holds a run of another configuration "
            f"({some(conflicts, '; ', at_most=2)}): give another --workdir or delete it"
        )


def _has_work(workdir: pathlib.Path) -> bool:
    metrics = workdir / METRICS
    return (
        (workdir / results.RESULTS).exists()
        or any((workdir / "checkpoints").glob("[0-9]*"))
        or (metrics.exists() and metrics.stat().st_size > 0)
    )


def claim(workdir: pathlib.Path, config: ConfigDict, may_change: Collection[str] = ()) -> None:
    """Checks a folder, creates it, and writes the configuration into it.

    Raises:
        InputError: as `check`, and if the folder cannot be written.
    """
    check(workdir, config, may_change)
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        write_atomically(workdir / CONFIG, strict_json(as_json(config), indent=2))
    except (OSError, WriteError) as error:
        cause = error.__cause__ or error
        raise InputError(
            f"cannot write into {end_of_path(workdir)} ({reason(cause)}): make room there or give "
            "another --workdir"
        ) from error


def previous_results(
    workdir: pathlib.Path, config: ConfigDict
) -> tuple[xr.Dataset | None, dict[str, str]]:
    """Looks for results of an earlier run of the same configuration.

    Returns:
        The results, or None if there are none or the configuration differs; and, as of
        `differences`, how the configuration of existing results differs.

    Raises:
        InputError: if the results cannot be read.
    """
    path = workdir / results.RESULTS
    if not path.exists():
        return None, {}
    dataset = results.load(path)
    found = differences(dataset.attrs["config"], as_json(config))
    return (None if found else dataset), found
