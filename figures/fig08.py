"""Fig. 8: test error against D, G and R of the predictor, for networks trained on the 2-D task.

Gathered results, such as of configs/grids/fig08.txt. In brackets: 95 % of a bootstrap over networks
and seeds.

    python -m figures.fig08 runs/fig08/results.json
"""

import os
import pathlib
from collections.abc import Sequence

from figures import style
from relstab_jax import results


def draw(paths: Sequence[str | os.PathLike[str]], folder: str | os.PathLike[str]) -> pathlib.Path:
    """Draws the networks in the one file of `paths`; returns the path of the PNG."""
    [path] = paths
    gathered = results.load(path)
    figure, [row] = style.panels(1, 3, row_height=2.5)
    for axes, name in zip(row, "DGR", strict=True):
        style.scatter(axes, gathered, name)
    for axes in row[1:]:
        axes.sharey(row[0])
        axes.tick_params(labelleft=False)
    row[0].set_ylabel(r"test error $\varepsilon$")
    handles, labels = row[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4)
    return style.write(figure, "fig08", folder)


if __name__ == "__main__":
    arguments = style.arguments(__doc__, ("fig08-laptop.json",))
    print(draw(arguments.results, arguments.output))
