"""Correlations of test errors with sensitivities, as the noise grows (Fig. 1)."""

import numpy as np
import xarray as xr

from relstab_jax.measures.correlation import correlation
from relstab_jax.plots import style
from relstab_jax.plots.errors import GATHERED, comparable, looks_of, scatter, test_error
from relstab_jax.plots.plot import plot


def _informative(gathered: xr.Dataset) -> bool:
    return comparable(gathered) and len(np.unique(gathered.noise)) > 1


@plot(GATHERED, one=True, informative=_informative)
def correlations(gathered: xr.Dataset) -> style.Picture:
    """Plots the test error against R of the predictor, and ρ(ε, D), ρ(ε, G), ρ(ε, R) against noise.

    Fig. 1, centre and right. Bars: 95 % of a bootstrap over architectures and their seeds.

    Args:
        gathered: results of several networks, as of `gathering.gather`.
    """
    levels = {float(eta): level for eta, level in gathered.groupby("noise")}
    figure, [[centre, right]] = style.panels(1, 2, row_height=3.0)
    scatter(centre, levels[min(levels)], looks_of(gathered), "R")
    centre.set_ylabel(r"test error $\varepsilon$")
    style.legend_below(figure, centre)
    at = np.arange(len(levels))
    colors = style.BLUE, style.ORANGE, style.GREEN
    for name, color, aside in zip("DGR", colors, (-0.04, 0, 0.04), strict=True):
        found = [
            correlation(
                test_error(level), level[name].sel(state="trained").values, level.network.values
            )
            for level in levels.values()
        ]
        rho = np.array([c.rho for c in found])
        bars = np.abs(np.array([(c.low, c.high) for c in found]).T - rho)
        right.errorbar(at + aside, rho, bars, fmt="o-", capsize=2, color=color, label=f"${name}_f$")
    right.axhline(0, color=style.GREY, lw=0.8, ls=":")
    right.set(
        xticks=at,
        xticklabels=[f"{eta:g}" for eta in levels],
        xlabel=r"norm of the noise $\eta$",
        ylabel=r"$\rho(\varepsilon, X)$",
        ylim=(-1.05, 1.05),
    )
    right.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=3)  # in place of a title
    return figure
