"""Fig. 8: test error against D, G and R of the predictor, for networks trained on the 2-D task.

Gathered results, such as of configs/grids/fig08.txt. In brackets: 95 % of a bootstrap over
architectures and their seeds.

    python -m figures.fig08 runs/fig08/results.json
"""

import os
import pathlib
from collections.abc import Sequence

from figures import style

RESULTS = ("fig08-laptop.json",)


def draw(paths: Sequence[str | os.PathLike[str]], folder: str | os.PathLike[str]) -> pathlib.Path:
    """Draws the networks in the one file of `paths`; returns the path of the PNG."""
    [gathered] = style.load(paths, style.GATHERED, one=True)
    figure, [row] = style.panels(1, 3, row_height=2.5)
    style.scatters(row, gathered, style.looks(gathered), r"test error $\varepsilon$")
    style.legend_below(figure, row[0])
    return style.write(figure, "fig08", folder, [gathered])


if __name__ == "__main__":
    style.main(__doc__, draw, RESULTS)
