"""R_k against relative depth (Figs. 3, 11)."""

import xarray as xr
from matplotlib.lines import Line2D

from relstab_jax.plots import style

LINES = {"all": ("-", "channels as they are"), "shuffled": ("--", "shuffled channels")}


@style.plot(style.LAYERS | {"relative_depth": ("layer",)})
def depth(*datasets: xr.Dataset) -> style.Picture:
    """Plots R_k against relative depth, with channels as they are and shuffled (Figs. 3, 11).

    Args:
        datasets: results of networks: a colour for each, a panel for each set of images.
    """
    figure, row = style.by_images(datasets)
    for axes, of_images in row:
        for dataset, color in of_images:
            last = dataset.isel(state=-1)
            label = ", ".join(filter(None, (style.network_of(dataset), last.state.item())))
            for channels, (line, _) in LINES.items():
                if channels not in last.channels:
                    continue
                of_channels = last.sel(channels=channels)
                style.curve(
                    axes,
                    dataset.relative_depth,
                    of_channels,
                    "R",
                    f"o{line}",
                    color=color,
                    label=label if channels == "all" else None,
                )
        axes.axhline(1, color=style.GREY, lw=0.8, ls=":")
        axes.set(xlabel="relative depth $k/K$", yscale="log")
        low, high = axes.get_ylim()  # with room for the names above the curves
        axes.set_ylim(low, high * (high / low) ** (0.12 * len(of_images)))
        style.plain_decades(axes.yaxis)
        axes.legend(loc="upper right")
    row[0][0].set_ylabel("$R_k$")
    if any("shuffled" in dataset.channels for dataset in datasets):
        kinds = [
            Line2D([], [], color=style.BLACK, ls=line, label=text) for line, text in LINES.values()
        ]
        figure.legend(handles=kinds, loc="outside lower center", ncols=2)
    return figure
