"""Fig. 10: test error against D, G and R of the predictor, for networks trained on noisy CIFAR-10.

A row for each norm η of the noise. Gathered results, such as of configs/grids/fig10.txt. In
brackets: 95 % of a bootstrap over networks and seeds.

    python -m figures.fig10 runs/fig10/results.json
"""

import os
import pathlib
from collections.abc import Sequence

from figures import style
from relstab_jax import results


def draw(paths: Sequence[str | os.PathLike[str]], folder: str | os.PathLike[str]) -> pathlib.Path:
    """Draws the networks in the one file of `paths`; returns the path of the PNG."""
    [path] = paths
    levels = results.load(path).groupby("noise")
    figure, rows = style.panels(len(levels), 3, row_height=1.9)
    for row, (eta, gathered) in zip(rows, levels, strict=True):
        for axes, name in zip(row, "DGR", strict=True):
            style.scatter(axes, gathered, name)
        for axes in row[1:]:
            axes.sharey(row[0])
            axes.tick_params(labelleft=False)
        row[0].set_ylabel(rf"$\eta$ = {eta:g}: test error $\varepsilon$")
    handles, labels = rows[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4)
    return style.write(figure, "fig10", folder)


if __name__ == "__main__":
    arguments = style.arguments(__doc__, ("fig10-laptop.json",))
    print(draw(arguments.results, arguments.output))
