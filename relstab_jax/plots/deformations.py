"""Diffeomorphisms of an image (Fig. 1, left)."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array
from matplotlib.axes import Axes
from numpy.typing import ArrayLike

from relstab_jax.measures import diffeomorphism
from relstab_jax.plots import style

CUTS = (3, 6, 12)
OF_HIGHEST = (0.01, 0.1, 1.0, 4.0)  # T in units of T_max


@style.styled
def deformations(image: ArrayLike) -> style.Picture:
    """Plots diffeomorphisms of one image at several temperatures T and cut-offs c (Fig. 1, left).

    Within the allowed range of T pixels move by at least half a pixel and nothing folds over;
    images beyond it are marked. White lines show where a grid of eighths of the image goes.

    Args:
        image: RGB between 0 and 1 [size, size, 3].
    """
    x = jnp.asarray(image)
    size = len(x)
    figure, rows = style.panels(len(CUTS), len(OF_HIGHEST) + 1, row_height=1.35)
    for row, cut in zip(rows, CUTS, strict=True):
        lowest, highest = diffeomorphism.temperature_range(cut, size)
        _show(row[0], x, f"$c={cut}$: $T$ from\n{lowest:.1e} to {highest:.1e}")
        for axes, ratio in zip(row[1:], OF_HIGHEST, strict=True):
            T = ratio * highest
            dx, dy = diffeomorphism.displacement(jax.random.key(1), size, cut, T)
            delta = diffeomorphism.typical_displacement(T, cut, size)
            beyond = not lowest <= T <= highest
            title = f"$T={ratio:g}\\,T_{{\\mathrm{{max}}}}$, $\\delta={delta:.2g}$ px"
            title += "\nout of range" * beyond
            _show(axes, diffeomorphism.warp(x, dx, dy), title, marked=beyond)
            _lines(axes, np.asarray(dx), np.asarray(dy))
    return figure


def _show(axes: Axes, x: Array, title: str, marked: bool = False) -> None:
    """Shows an image."""
    axes.imshow(np.asarray(x).clip(0, 1))
    axes.set_title(title, fontsize=6, color=style.VERMILION if marked else style.BLACK)
    axes.set_axis_off()


def _lines(axes: Axes, dx: np.ndarray, dy: np.ndarray) -> None:
    """Draws where the lines of a regular grid go, to first order in the displacement."""
    size = len(dx)
    grid = np.arange(size)
    for at in np.linspace(0, size - 1, 9).round().astype(int):
        axes.plot(grid + dx[at], at + dy[at], color="white", lw=0.4, alpha=0.7)
        axes.plot(at + dx[:, at], grid + dy[:, at], color="white", lw=0.4, alpha=0.7)
    axes.set(xlim=(-0.5, size - 0.5), ylim=(size - 0.5, -0.5))
