"""The paper's settings (App. B), against which reduced runs are marked."""

from collections.abc import Mapping, Sequence
from typing import Any

import xarray as xr

_TASK = {
    "width": 1000,
    "ridge": 0.01,
    "patience": 500,
    "max_epochs": 600_000,
    "batch_size": 8,
    "learning_rate": 0.01,
}
SETTINGS: dict[str | int, dict[str, Any]] = {  # by task or set of examples
    1: _TASK | {"train_points": 48, "seeds": 4},
    2: _TASK | {"train_points": 1024, "seeds": 10},
    "cifar10": {
        "epochs": 250,
        "batch_size": 128,
        "learning_rate": 0.1,
        "annealing": 0.8,
        "train_points": None,
        "test_points": None,
        "seeds": 4,
    },
    "scale_detection_2d": {
        "epochs": 300,
        "batch_size": 128,
        "learning_rate": 0.05,
        "annealing": 0.8,
        "train_points": 1024,
        "test_points": 8192,
        "seeds": 10,
    },
}
DENSE = {  # what differs for fully connected networks
    "cifar10": {"annealing": 0.0, "seeds": 11},
    "scale_detection_2d": {"annealing": 0.0},
}


def setting(config: Mapping[str, Any]) -> dict[str, Any] | None:
    """Returns the paper's setting of a run, or None if the paper has no such run.

    Args:
        config: the configuration of the run, as its results hold it.

    Returns:
        {field: value}, `seeds` being their number and None all points that there are.
    """
    if config["experiment"] == "scale_detection":
        return SETTINGS[config["task"]]
    if config["experiment"] != "train_images" or config["data"] not in SETTINGS:
        return None
    dense = DENSE[config["data"]] if config["network"].startswith("DenseNet") else {}
    return SETTINGS[config["data"]] | dense


def reduced(datasets: Sequence[xr.Dataset]) -> str:
    """Lists the settings in which runs differ from the paper's, or have fewer seeds; "" if none.

    Args:
        datasets: results of runs, or gathered ones.
    """
    networks: dict[tuple[str, str], list[str]] = {}  # by their data and by how they differ
    for dataset in datasets:
        for run in [dataset.attrs] if "config" in dataset.attrs else dataset.attrs["runs"]:
            config = run["config"]
            if differences := _differences(config):
                data = f" on {config['data']}" if "network" in config else ""
                names = networks.setdefault((data, differences), [])
                name = config.get("network") or f"Task {config['task']}"
                if name not in names:
                    names.append(name)
    parts = [f"{', '.join(names)}{data}: {how}" for (data, how), names in networks.items()]
    return f"Reduced (paper): {'; '.join(parts)}." if parts else ""


def _differences(config: Mapping[str, Any]) -> str:
    """Lists what is not as in the paper as "field value (the paper's)"; "" if nothing."""
    paper = setting(config)
    if paper is None:
        return ""
    run = {**config, "seeds": len(config["seeds"])}
    return ", ".join(
        f"{field.replace('_', ' ')} {run[field]} ({'all' if value is None else value})"
        for field, value in paper.items()
        if field in run and (run[field] < value if field == "seeds" else run[field] != value)
    )
