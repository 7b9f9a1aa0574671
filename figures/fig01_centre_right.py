"""Fig. 1, centre and right: errors on CIFAR-10 go with R of the predictor, less so with noise.

The error against R; and its correlations with D, G and R as the norm of the noise grows.

Gathered results, such as of configs/grids/fig10.txt. Bars: 95 % of a bootstrap over
architectures and their seeds.

    python -m figures.fig01_centre_right runs/fig10/results.json
"""

import os
import pathlib
from collections.abc import Sequence

import numpy as np

from figures import style
from relstab_jax.measures.correlation import correlation

RESULTS = ("fig10-laptop.json",)


def draw(paths: Sequence[str | os.PathLike[str]], folder: str | os.PathLike[str]) -> pathlib.Path:
    """Draws the networks in the one file of `paths`; returns the path of the PNG."""
    [gathered] = style.load(paths, style.GATHERED, one=True)
    levels = {float(eta): level for eta, level in gathered.groupby("noise")}
    figure, [[centre, right]] = style.panels(1, 2, row_height=3.0)
    style.scatter(centre, levels[min(levels)], style.looks(gathered), "R")
    centre.set_ylabel(r"test error $\varepsilon$")
    style.legend_below(figure, centre)
    for name, color in zip("DGR", (style.BLUE, style.ORANGE, style.GREEN), strict=True):
        found = [
            correlation(
                style.test_error(level),
                level[name].sel(state="trained").values,
                level.network.values,
            )
            for level in levels.values()
        ]
        rho = np.array([c.rho for c in found])
        bars = np.abs(np.array([(c.low, c.high) for c in found]).T - rho)
        right.errorbar(
            range(len(levels)), rho, bars, fmt="o-", capsize=2, color=color, label=f"${name}_f$"
        )
    right.axhline(0, color=style.GREY, lw=0.8, ls=":")
    right.set(
        xticks=range(len(levels)),
        xticklabels=[f"{eta:g}" for eta in levels],
        xlabel=r"norm of the noise $\eta$",
        ylabel=r"$\rho(\varepsilon, X)$",
        ylim=(-1.05, 1.05),
    )
    right.legend(loc="best")
    return style.write(figure, "fig01_centre_right", folder, [gathered])


if __name__ == "__main__":
    style.main(__doc__, draw, RESULTS)
