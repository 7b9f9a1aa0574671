"""Figs. 4, 13 and 14: power γ_l of each spatial frequency in the filters, layer by layer (Eq. 3).

Dotted at initialisation, full trained; from low to high frequencies. Rows for each results file.

    python -m figures.fig04 runs/measure/results.json
"""

import os
import pathlib
from collections.abc import Sequence

import numpy as np
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from figures import style
from relstab_jax import results

COLUMNS = 7
RESULTS = (
    "cifar10-vgg11bn-laptop.json",
    "scale_detection_2d-vgg11bn-laptop.json",
)


def draw(
    paths: Sequence[str | os.PathLike[str]], folder: str | os.PathLike[str], name: str = "fig04"
) -> pathlib.Path:
    """Draws the networks in `paths`; returns the path of the PNG."""
    datasets = [results.load(path) for path in paths]
    panels = []
    for dataset, color in style.colored(datasets):
        spatial = dataset.isel(conv=dataset.frequency_content.notnull().any(["state", "seed"]))
        convs = [(spatial.isel(conv=k), k + 1, color) for k in range(spatial.sizes["conv"])]
        panels += convs + [None] * (-len(convs) % min(COLUMNS, len(convs)))
    columns = min(COLUMNS, len(panels))
    figure, rows = style.panels(len(panels) // columns, columns, row_height=1.3)
    for axes, panel in zip([axes for row in rows for axes in row], panels, strict=True):
        if panel is None:
            axes.set_axis_off()
            continue
        of_layer, k, color = panel
        power = of_layer.spectrum.isel(mode=of_layer.eigenvalue.notnull().values)
        modes = np.arange(power.sizes["mode"])
        for state, line in zip(power.state.values[::-1], ("-", ":"), strict=False):
            gamma = power.sel(state=state)
            axes.plot(modes, gamma.mean("seed"), line, color=color)
            axes.fill_between(
                modes, gamma.min("seed"), gamma.max("seed"), color=color, alpha=0.2, lw=0
            )
        axes.set(yscale="log")
        title = f"{style.network_of(of_layer)}\n$k={k}$" if k == 1 else f"$k={k}$"
        axes.set_title(title, fontsize=7)
        axes.xaxis.set_major_locator(MaxNLocator(2, integer=True))
        axes.tick_params(labelsize=6)
        axes.yaxis.set_major_locator(LogLocator(numticks=4))
        axes.yaxis.set_minor_formatter(NullFormatter())
    figure.supxlabel("spatial frequency $l$, from low to high", fontsize=8)
    figure.supylabel(r"$\gamma_{k,l}$: full trained, dotted at initialisation", fontsize=8)
    return style.write(figure, name, folder, datasets)


if __name__ == "__main__":
    style.main(__doc__, draw, RESULTS)
