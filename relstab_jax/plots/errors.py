"""Test errors against sensitivities of many networks (Figs. 1 centre, 8 and 10)."""

import itertools

import numpy as np
import xarray as xr
from matplotlib.axes import Axes

from relstab_jax.measures.correlation import correlation
from relstab_jax.plots import style
from relstab_jax.plots.plot import plot

GATHERED = {name: ("state", "member") for name in "DGR"} | {
    name: ("member",) for name in ("test_error", "test_points", "network", "noise")
}
MARKERS = ("o", "s", "^", "D")


def comparable(gathered: xr.Dataset) -> bool:
    """Returns whether networks share their data, with at least three of them at each noise."""
    configs = [run["config"] for run in gathered.attrs["runs"]]
    data = {config.get("data") or config.get("images") for config in configs}
    return len(data) == 1 and min(len(at.member) for _, at in gathered.groupby("noise")) >= 3


@plot(GATHERED, one=True, informative=comparable)
def errors(gathered: xr.Dataset) -> style.Picture:
    """Plots the test error against D, G and R of the predictor, a row for each norm η of the noise.

    Figs. 1 (centre), 8 and 10. In brackets: 95 % of a bootstrap over architectures and their seeds.

    Args:
        gathered: results of several networks, as of `gathering.gather`.
    """
    levels = gathered.groupby("noise")
    alone = len(levels) == 1
    figure, rows = style.panels(len(levels), 3, row_height=2.5 if alone else 1.9)
    looks = looks_of(gathered)
    for row, (eta, level) in zip(rows, levels, strict=True):
        for axes, name in zip(row, "DGR", strict=True):
            scatter(axes, level, looks, name)
        for axes in row[1:]:
            axes.sharey(row[0])
            axes.tick_params(labelleft=False)
        noise = "" if alone else rf"$\eta$ = {eta:g}: "
        row[0].set_ylabel(noise + r"test error $\varepsilon$")
    style.legend_below(figure, rows[0][0])
    return figure


def looks_of(gathered: xr.Dataset) -> dict[str, tuple[str, str]]:
    """Assigns a marker and a colour to each network in gathered results, 12 different pairs."""
    networks = dict.fromkeys(gathered.network.values.tolist())
    pairs = zip(itertools.cycle(MARKERS), itertools.cycle(style.COLORS), strict=False)
    return dict(zip(networks, pairs, strict=False))


def scatter(axes: Axes, gathered: xr.Dataset, looks: dict[str, tuple[str, str]], name: str) -> None:
    """Draws ε against D, G or R of trained predictors, and writes ρ into the title.

    There is a point for each network and seed. Beside networks that were trained here, those whose
    weights were given are hollow. A test error of zero is drawn as half a wrong test point.
    """
    trained = gathered.sel(state="trained")
    error, x, networks = test_error(trained), trained[name].values, gathered.network.values
    experiments = gathered.get("experiment")
    given = np.zeros(len(x), bool) if experiments is None else experiments.values == "measure"
    for network, (marker, color) in looks.items():
        for hollow in sorted(set(given[networks == network])):
            chosen = (networks == network) & (given == hollow)
            axes.plot(
                x[chosen],
                error[chosen],
                marker,
                color=color,
                alpha=0.8,
                mfc="none" if hollow else color,
                mec=color if hollow else "none",
                label=f"{network}, pretrained" if hollow else network,
            )
    rho = correlation(error, x, networks)
    interval = f" [{rho.low:.2f}, {rho.high:.2f}]" if np.isfinite(rho.low) else ""
    axes.set(xscale="log", yscale="log", xlabel=f"${name}_f$")
    axes.set_title(rf"$\rho(\varepsilon, {name}_f)$ = {rho.rho:.2f}{interval}", fontsize=7)
    for axis in (axes.xaxis, axes.yaxis):
        style.label_decades(axis)


def test_error(gathered: xr.Dataset) -> np.ndarray:
    """Returns ε of each network, with zero replaced by half a wrong test point."""
    return np.maximum(gathered.test_error, 0.5 / gathered.test_points).values
