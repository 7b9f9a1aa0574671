"""The spatial frequency content of filters (Fig. 12)."""

import numpy as np
import xarray as xr

from relstab_jax.plots import style
from relstab_jax.plots.curves import by_images, curve, network_of, with_spatial_filters
from relstab_jax.plots.plot import plot


@plot({"frequency_content": ("state", "seed", "conv")})
def frequency_content(*datasets: xr.Dataset) -> style.Picture:
    """Plots the spatial frequency content of filters against relative depth (Fig. 12).

    It is 1 for white filters, 0 for constant ones.

    Args:
        datasets: results of networks: a colour for each, a panel for each set of images.
    """
    figure, row = by_images(datasets)
    for axes, of_images in row:
        for dataset, color in of_images:
            spatial = with_spatial_filters(dataset)
            K = spatial.sizes["conv"]
            depth = np.arange(1, K + 1) / K
            for state, line in zip(spatial.state.values[::-1], ("o-", "o:"), strict=False):
                label = f"{network_of(dataset)}, {state}"
                shown = spatial.sel(state=state)
                curve(axes, depth, shown, "frequency_content", line, color=color, label=label)
        axes.set(ylim=(0, None))
        axes.axhline(1, color=style.GREY, lw=0.8, ls="--")
        axes.legend(loc="best")
    row[0][0].set_ylabel("frequency content of filters")
    figure.supxlabel("relative depth of the convolution", fontsize=8)
    return figure
