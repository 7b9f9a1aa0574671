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
    x, moved = BEHIND[:, 1:], BEHIND[:, :-1]
    for axes, image, pooled, label in zip(
        grid[:2], (x, moved), (_pool(x), _pool(moved)), ("$f$", "moved"), strict=True
    ):
        _cells(axes[0], image, 9)
        _cells(axes[1], pooled, 9)
        axes[0].set_ylabel(label)
    for axes, change, of in zip(
        grid[2], (moved - x, _pool(moved) - _pool(x)), (x, _pool(x)), strict=True
    ):
        _cells(axes, np.abs(change), 9)
        axes.set_xlabel(f"{np.sum(change**2) / np.sum(of**2):.0%} of $\\|f\\|^2$")
    grid[2, 0].set_ylabel("|change|")
    grid[0, 0].set_title("representation")
    grid[0, 1].set_title("2×2 means")


def _channel(grid: np.ndarray) -> None:
    filters = [BAR, np.rot90(BAR)]
    grid[0, 0].axis("off")
    grid[0, 3].axis("off")
    for axes, kernel, name in zip(
        grid[0, 1:3], filters, ("$w_1$", r"$w_2=R_\theta w_1$"), strict=True
    ):
        _cells(axes, kernel, 3)
        axes.set_title(name)
    for row, x, label in zip(
        grid[1:], (INPUT, np.rot90(INPUT)), ("$x$", r"$R_\theta x$"), strict=True
    ):
        outputs = [np.sum(kernel * x) for kernel in filters]
        _cells(row[0], x, 9)
        row[0].set_ylabel(label)
        for axes, value in zip(row[1:], [*outputs, np.mean(outputs)], strict=True):
            _cells(axes, np.array([[value]]), 20)
    for axes, name in zip(
        grid[2], ("input", "$w_1 \\cdot$ input", "$w_2 \\cdot$ input", "mean"), strict=True
    ):
        axes.set_xlabel(name)


def _pool(x: np.ndarray) -> np.ndarray:
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
