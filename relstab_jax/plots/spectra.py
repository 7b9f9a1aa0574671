"""Spectra of filters (Figs. 4, 13, 14)."""

import numpy as np
import xarray as xr
from matplotlib.ticker import MaxNLocator

from relstab_jax.plots import style
from relstab_jax.plots.curves import colored, curve, name_row, with_spatial_filters
from relstab_jax.plots.plot import plot

COLUMNS = 8
NEEDS = {
    "spectrum": ("state", "seed", "conv", "mode"),
    "eigenvalue": ("conv", "mode"),
    "frequency_content": ("state", "seed", "conv"),
}


@plot(NEEDS)
def spectra(*datasets: xr.Dataset) -> style.Picture:
    """Plots the power γ_l of each spatial frequency in the filters, layer by layer (Eq. 3).

    Figs. 4, 13 and 14: as a share of the power of all frequencies, 1/F² for white filters. Dotted
    at initialisation, full trained.

    Args:
        datasets: results of networks, rows for each.
    """
    networks = []
    for dataset, color in colored(datasets):
        spatial = with_spatial_filters(dataset)
        networks.append(
            [(spatial.isel(conv=k), k + 1, color) for k in range(spatial.sizes["conv"])]
        )
    columns = min(COLUMNS, max(map(len, networks)))
    panels = [panel for convs in networks for panel in convs + [None] * (-len(convs) % columns)]
    figure, rows = style.panels(len(panels) // columns, columns, row_height=1.3)
    for axes, panel in zip([axes for row in rows for axes in row], panels, strict=True):
        if panel is None:
            axes.set_axis_off()
            continue
        of_layer, k, color = panel
        of_layer = of_layer.isel(mode=of_layer.eigenvalue.notnull().values)
        shares = of_layer.assign(share=of_layer.spectrum / of_layer.spectrum.sum("mode"))
        modes = np.arange(shares.sizes["mode"])
        for state, line in zip(shares.state.values[::-1], ("-", ":"), strict=False):
            curve(axes, modes, shares.sel(state=state), "share", line, color=color)
        axes.set_title(f"$k={k}$", fontsize=7)
        if k == 1:
            name_row([axes], of_layer)
        axes.xaxis.set_major_locator(MaxNLocator(2, integer=True))
        axes.sharey(rows[0][0])
        axes.tick_params(labelsize=6, labelleft=axes in [row[0] for row in rows])
    rows[0][0].set_yscale("log")
    style.label_decades(rows[0][0].yaxis)
    dotted = "; dotted: at initialisation" * any("init" in d.state for d in datasets)
    figure.supxlabel(f"spatial frequency $l$, from low to high{dotted}", fontsize=8)
    figure.supylabel(r"share of $\gamma_{k,l}$", fontsize=8)
    return figure
