"""Figs. 3 and 11: R_k against relative depth, with channels as they are and shuffled.

A panel for each set of images, a colour for each network: one results file each.

    python -m figures.fig03 runs/measure/results.json
"""

import os
import pathlib
from collections.abc import Sequence

from matplotlib.lines import Line2D

from figures import style
from relstab_jax import results


def draw(paths: Sequence[str | os.PathLike[str]], folder: str | os.PathLike[str]) -> pathlib.Path:
    """Draws the networks in `paths`; returns the path of the PNG."""
    datasets = [results.load(path) for path in paths]
    sets_of_images = list(dict.fromkeys(map(style.images_of, datasets)))
    figure, [row] = style.panels(1, len(sets_of_images), row_height=2.3)
    for axes, images in zip(row, sets_of_images, strict=True):
        for dataset, color in zip(datasets, style.colors(), strict=False):
            if style.images_of(dataset) != images:
                continue
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
        axes.set(title=images, xlabel="relative depth $k/K$", yscale="log")
        style.plain_decades(axes.yaxis)
        axes.legend(loc="best")
    row[0].set_ylabel("$R_k$")
    kinds = [
        Line2D([], [], color=style.BLACK, ls=ls, label=label)
        for ls, label in (("-", "channels as they are"), ("--", "shuffled channels"))
    ]
    figure.legend(handles=kinds, loc="outside lower center", ncols=2)
    return style.write(figure, "fig03", folder)


if __name__ == "__main__":
    arguments = style.arguments(__doc__, ("measure-vgg16.json",))
    print(draw(arguments.results, arguments.output))
