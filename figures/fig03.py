"""Figs. 3 and 11: R_k against relative depth, with channels as they are and shuffled.

A panel for each set of images, a colour for each network: one results file each.

    python -m figures.fig03 runs/measure/results.json
"""

import os
import pathlib
from collections.abc import Sequence

from matplotlib.lines import Line2D

from figures import style

RESULTS = (
    "cifar10-vgg11bn-laptop.json",
    "measure-vgg16.json",
)


def draw(
    paths: Sequence[str | os.PathLike[str]], folder: str | os.PathLike[str], name: str = "fig03"
) -> pathlib.Path:
    """Draws the networks in `paths`; returns the path of the PNG."""
    datasets = style.load(paths, style.LAYERS | {"relative_depth": ("layer",)})
    figure, row = style.by_images(datasets)
    for axes, of_images in row:
        for dataset, color in of_images:
            last = dataset.isel(state=-1)
            label = f"{style.network_of(dataset)}, {last.state.item()}"
            for channels, line in (("all", "o-"), ("shuffled", "o--")):
                of_channels = last.sel(channels=channels)
                style.curve(
                    axes,
                    dataset.relative_depth,
                    of_channels,
                    "R",
                    line,
                    color=color,
                    label=label if channels == "all" else None,
                )
        axes.axhline(1, color=style.GREY, lw=0.8, ls=":")
        axes.set(xlabel="relative depth $k/K$", yscale="log")
        style.plain_decades(axes.yaxis)
        axes.legend(loc="best")
    row[0][0].set_ylabel("$R_k$")
    kinds = [
        Line2D([], [], color=style.BLACK, ls=ls, label=label)
        for ls, label in (("-", "channels as they are"), ("--", "shuffled channels"))
    ]
    figure.legend(handles=kinds, loc="outside lower center", ncols=2)
    return style.write(figure, name, folder, datasets)


if __name__ == "__main__":
    style.main(__doc__, draw, RESULTS)
