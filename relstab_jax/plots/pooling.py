"""Spatial and channel pooling (Fig. 2)."""

import numpy as np
from matplotlib.axes import Axes

from relstab_jax.plots import style

BEHIND = np.array([[0, 2, 5, 8], [0, 1, 9, 6], [1, 0, 4, 3]])  # 3×3 in view, and one column aside
BAR = np.array([[-1, 2, -1], [-1, 2, -1], [-1, 2, -1]])
INPUT = np.array([[0, 3, 0], [1, 3, 0], [0, 2, 1]])


@style.styled
def pooling() -> style.Picture:
    """Plots spatial and channel pooling, computed on small examples (Fig. 2).

    (a) Means over 2×2 patches at stride 1 reduce the change by a shift of one pixel.
    (b) Two channels whose filters are rotations of each other by θ = 90°: rotating the input swaps
    their outputs and preserves the mean over channels.
    """
    figure = style.Picture(2.75)
    halves = figure.add_gridspec(1, 2, width_ratios=[1, 1.45], wspace=0.05)
    spatial, channel = (figure.add_subfigure(half) for half in halves)
    _spatial(spatial.subplots(3, 2))
    _channel(channel.subplots(3, 4))
    spatial.suptitle("(a) spatial pooling", fontsize=8)
    channel.suptitle("(b) channel pooling", fontsize=8)
    return figure


def _spatial(grid: np.ndarray) -> None:
    """Draws a representation and the same moved by a pixel, beside means of both."""
    x, moved = BEHIND[:, 1:], BEHIND[:, :-1]
    columns = ("representation", x, moved), ("2×2 means", _pool(x), _pool(moved))
    for column, (name, f, f_moved) in zip(grid.T, columns, strict=True):
        change = f_moved - f
        for axes, values in zip(column, (f, f_moved, np.abs(change)), strict=True):
            _cells(axes, values, 9)
        column[0].set_title(name)
        column[-1].set_xlabel(f"{np.sum(change**2) / np.sum(f**2):.0%} of $\\|f\\|^2$")
    for axes, label in zip(grid[:, 0], ("$f$", "moved", "|change|"), strict=True):
        axes.set_ylabel(label)


def _channel(grid: np.ndarray) -> None:
    """Draws the filters of two channels and, below, two inputs with their outputs."""
    filters = BAR, np.rot90(BAR)
    names = "$w_1$", r"$w_2=R_\theta w_1$"
    for axes, kernel, name in zip(grid[0, 1:3], filters, names, strict=True):
        _cells(axes, kernel, 3)
        axes.set_title(name)
    for axes in grid[0, ::3]:
        axes.axis("off")
    inputs = ("$x$", INPUT), (r"$R_\theta x$", np.rot90(INPUT))
    for row, (name, x) in zip(grid[1:], inputs, strict=True):
        outputs = [np.sum(kernel * x) for kernel in filters]
        _cells(row[0], x, 9)
        row[0].set_ylabel(name)
        for axes, value in zip(row[1:], [*outputs, np.mean(outputs)], strict=True):
            _cells(axes, np.array([[value]]), 20)
    names = "input", "$w_1 \\cdot$ input", "$w_2 \\cdot$ input", "mean"
    for axes, name in zip(grid[-1], names, strict=True):
        axes.set_xlabel(name)


def _pool(x: np.ndarray) -> np.ndarray:
    """Returns the means of all 2×2 patches."""
    return np.lib.stride_tricks.sliding_window_view(x, (2, 2)).mean(axis=(2, 3))


def _cells(axes: Axes, values: np.ndarray, limit: float) -> None:
    """Draws numbers in cells that are shaded by them, orange where negative."""
    axes.imshow(values, cmap="PuOr", vmin=-limit, vmax=limit)
    for (y, x), value in np.ndenumerate(values):
        text = f"{value:.2f}".rstrip("0").rstrip(".")
        shade = "white" if abs(value) > 0.6 * limit else style.BLACK
        axes.text(x, y, text, ha="center", va="center", fontsize=7, color=shade)
    edges = np.arange(len(values) + 1) - 0.5
    axes.hlines(edges, -0.5, len(values) - 0.5, color=style.GREY, lw=0.4)
    axes.vlines(edges, -0.5, len(values) - 0.5, color=style.GREY, lw=0.4)
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
