"""Fig. 7: D_k and G_k of simple CNNs against the receptive field A_k; a row for each results file.

python -m figures.fig07 runs/task1-laptop/results.json runs/task2-laptop/results.json
"""

import os
import pathlib
from collections.abc import Sequence

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.ticker import LogFormatter, NullFormatter

from figures import style
from relstab_jax import results

CURVES = (
    ("init", "all", "at initialisation", {"color": style.GREY, "marker": "o"}),
    ("trained", "all", "trained", {"color": style.BLUE, "marker": "o"}),
    ("trained", "mean", "trained, mean channel", {"color": style.SKY, "linestyle": ":", "lw": 2.2}),
)


def draw(paths: Sequence[str | os.PathLike[str]], folder: str | os.PathLike[str]) -> pathlib.Path:
    """Draws the runs of Section 4 in `paths`; returns the path of the PNG."""
    figure, rows = style.panels(len(paths), 2)
    for row, path in zip(rows, paths, strict=True):
        dataset = results.load(path)
        for axes, name in zip(row, "DG", strict=True):
            _panel(axes, dataset, name)
        row[0].set_title(_title(dataset), loc="left")
    rows[0][1].legend(loc="upper left")
    return style.write(figure, "fig07", folder)


def _title(dataset: xr.Dataset) -> str:
    config = dataset.attrs["config"]
    seeds = dataset.sizes["seed"]
    return (
        f"Task {config['task']}: $s={config['stride']}$, $F={config['filter_size']}$, "
        f"width {config['width']}, ridge {config['ridge']}, {seeds} seed{'s' * (seeds > 1)}"
    )


def _panel(axes: Axes, dataset: xr.Dataset, name: str) -> None:
    """One sensitivity: means and ranges over seeds, and the asymptotic law through the second k."""
    A = dataset.receptive_field.values
    for state, channels, label, look in CURVES:
        values = dataset[name].sel(state=state, channels=channels).transpose("seed", "layer").values
        axes.plot(A, np.nanmean(values, axis=0), label=label, **look)
        axes.fill_between(
            A, np.nanmin(values, 0), np.nanmax(values, 0), color=look["color"], alpha=0.2, lw=0
        )
    stride = dataset.attrs["config"]["stride"]
    power, equation = {
        ("D", True): (-2, "Eq. 5: $A_k^{-2}$"),
        ("G", True): (1, "Eq. 7: $A_k$"),
        ("D", False): (-1, "Eq. 8: $A_k^{-1}$"),
        ("G", False): (1, "Eq. 9: $A_k$"),
    }[name, stride == 1]
    K = 2 * len(A) // 3
    trained = dataset[name].sel(state="trained", channels="all").mean("seed").values
    law = np.exp(np.log(trained[:K] / A[:K] ** power).mean()) * A[:K] ** power
    axes.plot(A[:K], law, color=style.BLACK, ls="--", lw=1, label=equation)
    axes.annotate(
        equation,
        (A[K - 1], law[-1]),
        xytext=(3, 0),
        textcoords="offset points",
        va="center",
        fontsize=7,
    )
    axes.set(xscale="log", yscale="log", ylabel=f"${name}_k$", xlabel="receptive field $A_k$")
    axes.xaxis.set_major_formatter(LogFormatter(labelOnlyBase=False, minor_thresholds=(2, 0.4)))
    if stride > 1:
        axes.set_xscale("log", base=stride)
    axes.xaxis.set_minor_formatter(NullFormatter())


if __name__ == "__main__":
    arguments = style.arguments(__doc__, ("task1-laptop.json", "task2-laptop.json"))
    print(draw(arguments.results, arguments.output))
