"""Sensitivities against the receptive field (Fig. 7)."""

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.ticker import NullLocator

from relstab_jax.plots import style
from relstab_jax.plots.curves import LAYERS, curve
from relstab_jax.plots.plot import plot

CURVES = (
    ("init", "all", "at initialisation", style.GREY, "o-"),
    ("trained", "all", "trained", style.BLUE, "o-"),
    ("trained", "mean", "trained, mean channel", style.SKY, "s:"),
)
NEEDS = {
    **{name: LAYERS[name] for name in "DG"},
    **{f"{of}_{name}": ("seed", "layer") for of in ("exact", "filters") for name in "DG"},
    **{name: ("layer",) for name in ("receptive_field", "fitted")},
    **{name: () for name in ("exponent_D", "exponent_G")},
}
LAWS = {  # by what is measured and the exponent of D
    ("D", -2): "Eq. 5: $D_k \\sim A_k^{-2}$",
    ("G", -2): "Eq. 7: $G_k \\sim A_k$",
    ("D", -1): "Eq. 8: $D_k \\sim A_k^{-1}$",
    ("G", -1): "Eq. 9: $G_k \\sim A_k$",
}


@plot(NEEDS)
def receptive_field(*datasets: xr.Dataset) -> style.Picture:
    """Plots D_k and G_k of simple CNNs against the receptive field A_k (Fig. 7).

    Args:
        datasets: results of configs/task1.py or task2.py, a row for each.
    """
    figure, rows = style.panels(len(datasets), 2)
    for row, dataset in zip(rows, datasets, strict=True):
        for axes, name in zip(row, "DG", strict=True):
            _panel(axes, dataset, name)
        row[0].set_title(_title(dataset), loc="left")
    style.legend_below(figure, rows[0][0], ncols=3)
    return figure


def _title(dataset: xr.Dataset) -> str:
    config = dataset.attrs["config"]
    seeds = dataset.sizes["seed"]
    return (
        f"Task {config['task']}: $s={config['stride']}$, $F={config['filter_size']}$, "
        f"width {config['width']}, ridge {config['ridge']}, {seeds} seed{'s' * (seeds > 1)}"
    )


def _panel(axes: Axes, dataset: xr.Dataset, name: str) -> None:
    """Draws one sensitivity: its curves over seeds, the exact values and the asymptotic law."""
    A = dataset.receptive_field.values
    for state, channels, label, color, line in CURVES:
        shown = dataset.sel(state=state, channels=channels)
        curve(axes, A, shown, name, line, color=color, label=label)
    # Where a seed has no positive filter, a mean over the others would be that of other networks.
    of_filters = dataset[f"filters_{name}"].mean("seed", skipna=False)
    axes.plot(A, of_filters, "+-", color=style.GREEN, lw=0.8, ms=6, label="exact, mean filters")
    exact = dataset[f"exact_{name}"].mean("seed")
    positive = exact.where(exact > 0).values
    axes.plot(A, positive, "x-", color=style.VERMILION, lw=0.8, ms=4, label="exact, equal taps")

    fitted = dataset.fitted.values
    power = int(dataset[f"exponent_{name}"])
    law = A[fitted] ** power
    law = law * np.exp(np.nanmean(np.log(positive[fitted] / law)))
    axes.plot(A[fitted], law, color=style.BLACK, ls="--", lw=1, label="asymptotic law")
    y, side = (0.05, "bottom") if name == "D" else (0.95, "top")
    equation = LAWS[name, int(dataset.exponent_D)]
    axes.text(0.05, y, equation, va=side, transform=axes.transAxes)
    axes.set(xscale="log", yscale="log", ylabel=f"${name}_k$", xlabel="receptive field $A_k$")
    if dataset.exponent_D == -2:
        axes.set_xticks([1, 2, 3], ["1", "2", "3"])
    else:
        axes.set_xticks(A, [f"{a:.0f}" for a in A])
    axes.xaxis.set_minor_locator(NullLocator())
    style.label_decades(axes.yaxis)
