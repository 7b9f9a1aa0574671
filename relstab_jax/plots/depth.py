"""R_k against relative depth (Figs. 3, 11)."""

import xarray as xr
from matplotlib.lines import Line2D

from relstab_jax.plots import style
from relstab_jax.plots.curves import LAYERS, by_images, curve, network_of
from relstab_jax.plots.plot import plot


@plot(LAYERS | {"relative_depth": ("layer",)})
def depth(*datasets: xr.Dataset) -> style.Picture:
    """Plots R_k against relative depth, with channels as they are and shuffled (Figs. 3, 11).

    Args:
        datasets: results of networks: a colour for each, a panel for each set of images.
    """
    figure, row = by_images(datasets)
    for axes, of_images in row:
        for dataset, color in of_images:
            last = dataset.isel(state=-1)
            name = ", ".join(filter(None, (network_of(dataset), last.state.item())))
            for channels, line, label in (("all", "o-", name), ("shuffled", "o--", None)):
                if channels in last.channels:
                    shown = last.sel(channels=channels)
                    curve(axes, shown.relative_depth, shown, "R", line, color=color, label=label)
        axes.axhline(1, color=style.GREY, lw=0.8, ls=":")
        axes.set(xlabel="relative depth $k/K$", yscale="log")
        low, high = axes.get_ylim()  # with room for the names above the curves
        axes.set_ylim(low, high * (high / low) ** (0.14 * len(of_images)))
        style.label_decades(axes.yaxis)
        axes.legend(loc="upper right")
    row[0][0].set_ylabel("$R_k$")
    if any("shuffled" in dataset.channels for dataset in datasets):
        kinds = [
            Line2D([], [], color=style.BLACK, ls=line, label=text)
            for line, text in (("-", "channels as they are"), ("--", "shuffled channels"))
        ]
        figure.legend(handles=kinds, loc="outside lower center", ncols=2)
    return figure
