"""The paper's settings (App. B), against which reduced runs are marked."""

from collections.abc import Mapping, Sequence
from typing import Any

import xarray as xr

_TASK = {"width": 1000, "ridge": 0.01, "patience": 500, "max_epochs": 600_000}
_TASK |= {"batch_size": 8, "learning_rate": 0.01}
_CIFAR10 = {"epochs": 250, "batch_size": 128, "learning_rate": 0.1, "annealing": 0.8}
_CIFAR10 |= {"train_points": None, "test_points": None, "seeds": 4}
_TWO_PIXELS = {"epochs": 300, "batch_size": 128, "learning_rate": 0.05, "annealing": 0.8}
_TWO_PIXELS |= {"train_points": 1024, "test_points": 8192, "seeds": 10}
SETTINGS: dict[str | int, dict[str, Any]] = {  # by task or set of examples
    1: _TASK | {"train_points": 48, "seeds": 4},
    2: _TASK | {"train_points": 1024, "seeds": 10},
    "cifar10": _CIFAR10,
    "scale_detection_2d": _TWO_PIXELS,
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
    """Describes in which settings runs are smaller than the paper's; "" if in none.

    Args:
        datasets: results of runs, or gathered ones.
    """
    runs = [
        run for d in datasets for run in ([d.attrs] if "config" in d.attrs else d.attrs["runs"])
    ]
    found: dict[tuple[str, str], dict[str, None]] = {}  # who falls short so, in order
    for config in (run["config"] for run in runs):
        if paper := setting(config):
            parts = [
                f"{field.replace('_', ' ')} {config[field]} ({value})"
                for field, value in paper.items()
                if field != "seeds" and config.get(field, value) != value
            ]
            seeds = len(config["seeds"])
            parts += [f"seeds {seeds} ({paper['seeds']})"] if seeds < paper["seeds"] else []
            if parts:
                name = config.get("network") or f"Task {config['task']}"
                on = f" on {config['data']}" if "network" in config else ""
                found.setdefault((on, ", ".join(parts)), {})[name] = None
    parts = [f"{', '.join(names)}{on}: {less}" for (on, less), names in found.items()]
    return "Reduced (paper): " + "; ".join(parts) + "." if parts else ""
