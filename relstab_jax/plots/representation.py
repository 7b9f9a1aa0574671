"""Representations of homogeneous networks (Fig. 6)."""

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from relstab_jax.plots import style
from relstab_jax.plots.plot import plot

NEEDS = {
    "representation": ("network", "depth", "active", "pixel"),
    "representation_std": (),
    "representation_support": (),
}
SHADES = ("white", "#9FCBE8", style.BLUE)  # of none, one or both active pixels


@plot(NEEDS, one=True)
def representation(dataset: xr.Dataset) -> style.Picture:
    """Plots the representations of two active pixels by homogeneous networks (Fig. 6).

    Left, stride 1: each active pixel becomes a Gaussian profile that widens with depth. Right,
    stride F: a neuron counts the active pixels in its patch.

    Args:
        dataset: results of configs/homogeneous.py.
    """
    figure, ((left, right),) = style.panels(1, 2, row_height=2.3)
    for axes, name, panel in ((left, "stride_1", _profiles), (right, "stride_F", _counts)):
        network = dataset.attrs["config"][name]
        rows, size = network["depth"] + 1, network["size"]
        of_network = dataset.sel(network=name).isel(depth=slice(rows), pixel=slice(size))
        axes.set(xlim=(-0.3, size + 0.3), ylim=(-rows - 0.4, 0.7), xticks=[])
        axes.set_yticks(-np.arange(rows), ["input", *(f"$k={k}$" for k in range(1, rows))])
        axes.tick_params(left=False)
        axes.spines[:].set_visible(False)
        panel(axes, of_network, network["filter_size"])
    return figure


def _profiles(axes: Axes, dataset: xr.Dataset, filter_size: int) -> None:
    """Draws each layer as a normalised profile: the sum shaded, each active pixel as a line."""
    axes.set_title(f"$s=1$, $F={filter_size}$")
    f = dataset.representation.transpose("depth", "active", "pixel").values
    pixel = np.arange(f.shape[2]) + 0.5
    for k, f_k in enumerate(f):
        height = 0.75 / f_k.sum(axis=0).max()
        base = -k - 0.3
        axes.fill_between(
            pixel, base, base + height * f_k.sum(axis=0), step="mid", color=SHADES[1], lw=0
        )
        axes.plot(pixel[[0, -1]], [base, base], color=style.BLUE, lw=0.7)
        for one in f_k:
            seen = one > 0
            seen |= np.roll(seen, 1) | np.roll(seen, -1)
            axes.step(pixel[seen], base + height * one[seen], where="mid", color=style.BLUE, lw=0.7)
    centre, std = np.average(pixel, weights=f[-1, 0]), float(dataset.representation_std)
    k = len(f) - 1
    _mark(axes, centre - std, centre + std, -k - 0.5, f"$\\pm A_{k}$ = ±{std:.1f} pixels")


def _counts(axes: Axes, dataset: xr.Dataset, filter_size: int) -> None:
    """Draws each layer as cells over their receptive fields, shaded by their active pixels."""
    axes.set_title(f"$s=F={filter_size}$")
    f = dataset.representation.transpose("depth", "active", "pixel").values.sum(axis=1)
    for k, f_k in enumerate(f):
        width = filter_size**k
        for cell, active in enumerate(np.rint(width * f_k[: len(f_k) // width]).astype(int)):
            shade = SHADES[active]
            place = (cell * width, -k - 0.3)
            axes.add_patch(
                Rectangle(place, width, 0.6, facecolor=shade, edgecolor=style.BLUE, lw=0.8)
            )
    k, A = len(f) - 1, int(dataset.representation_support)
    _mark(axes, 0, A, -k - 0.5, f"$A_{k} = {filter_size}^{k}$ = {A} pixels")


def _mark(axes: Axes, first: float, last: float, y: float, text: str) -> None:
    """Marks an effective receptive field below the last layer."""
    arrow = {"arrowstyle": "|-|,widthA=0.25,widthB=0.25", "color": style.VERMILION}
    axes.annotate("", (first, y), (last, y), arrowprops=arrow | {"shrinkA": 0, "shrinkB": 0})
    axes.annotate(
        text,
        ((first + last) / 2, y),
        xytext=(0, -5),
        textcoords="offset points",
        color=style.VERMILION,
        ha="center",
        va="top",
    )
