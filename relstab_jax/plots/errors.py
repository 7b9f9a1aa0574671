"""Test errors against sensitivities of many networks (Figs. 8, 10)."""

import xarray as xr

from relstab_jax.plots import style


@style.plot(style.GATHERED, one=True, tells=style.comparable)
def errors(gathered: xr.Dataset) -> style.Picture:
    """Plots the test error against D, G and R of the predictor, a row for each norm η of the noise.

    Figs. 8 and 10. In brackets: 95 % of a bootstrap over architectures and their seeds.

    Args:
        gathered: results of several networks, as of `gathering.gather`.
    """
    levels = gathered.groupby("noise")
    alone = len(levels) == 1
    figure, rows = style.panels(len(levels), 3, row_height=2.5 if alone else 1.9)
    looks = style.looks(gathered)
    for row, (eta, level) in zip(rows, levels, strict=True):
        for axes, name in zip(row, "DGR", strict=True):
            style.scatter(axes, level, looks, name)
        for axes in row[1:]:
            axes.sharey(row[0])
            axes.tick_params(labelleft=False)
        noise = "" if alone else rf"$\eta$ = {eta:g}: "
        row[0].set_ylabel(noise + r"test error $\varepsilon$")
    style.legend_below(figure, rows[0][0])
    return figure
