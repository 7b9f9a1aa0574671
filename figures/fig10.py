"""Fig. 10: test error against D, G and R of the predictor, for networks trained on noisy CIFAR-10.

A row for each norm η of the noise. Gathered results, such as of configs/grids/fig10.txt. In
brackets: 95 % of a bootstrap over architectures and their seeds.

    python -m figures.fig10 runs/fig10/results.json
"""

import os
import pathlib
from collections.abc import Sequence

from figures import style

RESULTS = ("fig10-laptop.json",)


def draw(paths: Sequence[str | os.PathLike[str]], folder: str | os.PathLike[str]) -> pathlib.Path:
    """Draws the networks in the one file of `paths`; returns the path of the PNG."""
    [gathered] = style.load(paths, style.GATHERED, one=True)
    levels = gathered.groupby("noise")
    figure, rows = style.panels(len(levels), 3, row_height=1.9)
    for row, (eta, level) in zip(rows, levels, strict=True):
        style.scatters(
            row, level, style.looks(gathered), rf"$\eta$ = {eta:g}: test error $\varepsilon$"
        )
    style.legend_below(figure, rows[0][0])
    return style.write(figure, "fig10", folder, [gathered])


if __name__ == "__main__":
    style.main(__doc__, draw, RESULTS)
