"""Sensitivities against relative depth (Fig. 9)."""

import xarray as xr

from relstab_jax.plots import style
from relstab_jax.plots.curves import LAYERS, curve, name_row
from relstab_jax.plots.plot import plot

CURVES = (
    (-1, "all", style.BLUE, "o-"),
    (-1, "shuffled", style.BLUE, "o--"),
    (-1, "mean", style.SKY, "s:"),
    (0, "all", style.GREY, "o-"),  # the same as the first if there is one state
)


@plot(LAYERS | {"relative_depth": ("layer",)})
def sensitivities(*datasets: xr.Dataset) -> style.Picture:
    """Plots D_k, G_k and R_k against relative depth: trained, shuffled, and at init (Fig. 9).

    Args:
        datasets: results of networks, a row for each.
    """
    figure, rows = style.panels(len(datasets), 3, row_height=2)
    for row, dataset in zip(rows, datasets, strict=True):
        curves = CURVES if dataset.sizes["state"] > 1 else CURVES[:-1]
        for axes, name in zip(row, "DGR", strict=True):
            for state, channels, color, line in curves:
                if channels not in dataset.channels:
                    continue
                shown = dataset.isel(state=state).sel(channels=channels)
                known = shown[name].notnull().all("seed").values
                if not known.any():
                    continue
                label = ", ".join(filter(None, (shown.state.item(), channels)))
                shown = shown.isel(layer=known)
                curve(axes, shown.relative_depth, shown, name, line, color=color, label=label)
            axes.set(xlabel="relative depth $k/K$", yscale="log", title=f"${name}_k$")
            style.label_decades(axes.yaxis)
        name_row(row, dataset)
    style.legend_below(figure, rows[0][0], handlelength=3.5)
    return figure
