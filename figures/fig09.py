"""Fig. 9: D_k, G_k and R_k against relative depth: trained, with shuffled channels, and at init.

A row for each results file.

    python -m figures.fig09 runs/measure/results.json
"""

import os
import pathlib
from collections.abc import Sequence

from figures import style

CURVES = (
    (-1, "all", style.BLUE, "o-"),
    (-1, "shuffled", style.BLUE, "o--"),
    (-1, "mean", style.SKY, "s:"),
    (0, "all", style.GREY, "o-"),
)
RESULTS = ("scale_detection_2d-vgg11bn-laptop.json",)


def draw(paths: Sequence[str | os.PathLike[str]], folder: str | os.PathLike[str]) -> pathlib.Path:
    """Draws the networks in `paths`; returns the path of the PNG."""
    datasets = style.load(paths, style.LAYERS | {"relative_depth": ("layer",)})
    figure, rows = style.panels(len(paths), 3, row_height=2)
    for row, dataset in zip(rows, datasets, strict=True):
        for axes, name in zip(row, "DGR", strict=True):
            for state, channels, color, line in CURVES[: 3 + (dataset.sizes["state"] > 1)]:
                shown = dataset.isel(state=state).sel(channels=channels)
                known = shown[name].notnull().all("seed").values
                if not known.any():
                    continue
                label = f"{shown.state.item()}, {channels}"
                shown = shown.isel(layer=known)
                style.curve(axes, shown.relative_depth, shown, name, line, color=color, label=label)
            axes.set(xlabel="relative depth $k/K$", yscale="log", title=f"\n${name}_k$")
            style.plain_decades(axes.yaxis)
        style.name_row(row[0], dataset)
    handles, labels = rows[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, handlelength=3.5)
    return style.write(figure, "fig09", folder, datasets)


if __name__ == "__main__":
    style.main(__doc__, draw, RESULTS)
