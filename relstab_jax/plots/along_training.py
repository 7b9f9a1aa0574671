"""Sensitivities of the last layer, and the test error, along a training."""

import xarray as xr
from matplotlib.ticker import NullLocator

from relstab_jax.plots import style
from relstab_jax.plots.curves import curve, name_row
from relstab_jax.plots.plot import plot

NEEDS = {
    **{f"along_{name}": ("epoch", "channels", "seed", "layer") for name in "DGR"},
    "along_test_error": ("epoch", "seed"),
}
TITLES = {f"along_{name}": f"${name}_f$" for name in "DGR"}
TITLES["along_test_error"] = r"test error $\varepsilon$"


@plot(NEEDS, informative=lambda dataset: dataset.sizes["epoch"] > 1)
def along_training(*datasets: xr.Dataset) -> style.Picture:
    """Plots D_f, G_f and R_f of the last layer f and the test error against epochs.

    Args:
        datasets: results of runs with `measure_at`, a row for each.
    """
    figure, rows = style.panels(len(datasets), 4, row_height=1.7)
    for row, dataset in zip(rows, datasets, strict=True):
        last = dataset.isel(layer=-1).sel(channels="all")
        digits = len(str(last.epoch.values[-1]))
        powers = range(0, digits, 1 if digits < 4 else 2)  # every other one if there are many
        ticks = [0, *(10**n for n in powers)]
        for axes, (name, title) in zip(row, TITLES.items(), strict=True):
            curve(axes, last.epoch, last, name, "o-", color=style.BLUE)
            axes.set(xlabel="epoch", title=title)
            axes.set_xscale("symlog", linthresh=1)
            axes.set_xticks(ticks, list(map(str, ticks)))
            axes.xaxis.set_minor_locator(NullLocator())
            if name == "along_test_error":
                axes.set_ylim(bottom=0)
            else:
                axes.set_yscale("log")
                style.label_decades(axes.yaxis)
        name_row(row, dataset)
    return figure
