"""Fig. 1, left: diffeomorphisms of one image at several temperatures T and cut-offs c.

Within the allowed range of T pixels move by at least half a pixel and nothing folds over; images
beyond it are marked. A grid line of every eighth of the image is moved with it.

    python -m figures.fig01_left photograph.png
"""

import os
import pathlib
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array
from matplotlib.axes import Axes

from figures import style
from relstab_jax.data import photographs
from relstab_jax.errors import InputError
from relstab_jax.measures import diffeomorphism

CUTS = (3, 6, 12)
SIZE = 128  # pixels along each axis, to which the image is cut
OF_HIGHEST = (0.01, 0.1, 1.0, 4.0)  # T in units of T_max
RESULTS = ("astronaut.png",)


def draw(paths: Sequence[str | os.PathLike[str]], folder: str | os.PathLike[str]) -> pathlib.Path:
    """Deforms the one image file in `paths`; returns the path of the PNG."""
    if len(paths) != 1:
        raise InputError(f"{len(paths)} images are given, and this figure deforms one")
    [path] = paths
    x = jnp.asarray(photographs.fitted(photographs.read(path), SIZE, channels=3))
    figure, rows = style.panels(len(CUTS), len(OF_HIGHEST) + 1, row_height=1.35)
    for row, cut in zip(rows, CUTS, strict=True):
        lowest, highest = diffeomorphism.temperature_range(cut, SIZE)
        show(row[0], x, f"$c={cut}$: $T$ from\n{lowest:.1e} to {highest:.1e}")
        for axes, ratio in zip(row[1:], OF_HIGHEST, strict=True):
            T = ratio * highest
            dx, dy = diffeomorphism.displacement(jax.random.key(1), SIZE, cut, T)
            delta = diffeomorphism.typical_displacement(T, cut, SIZE)
            beyond = "" if lowest <= T <= highest * 1.0001 else "\nout of range"
            title = f"$T={ratio:g}\\,T_{{max}}$, $\\delta={delta:.2g}$ px{beyond}"
            show(axes, diffeomorphism.warp(x, dx, dy), title, bool(beyond))
            lines(axes, np.asarray(dx), np.asarray(dy))
    return style.write(figure, "fig01_left", folder)


def show(axes: Axes, x: Array, title: str, marked: bool = False) -> None:
    """Shows an image."""
    axes.imshow(np.asarray(x).clip(0, 1))
    axes.set_title(title, fontsize=6, color=style.VERMILION if marked else style.BLACK)
    axes.set_axis_off()


def lines(axes: Axes, dx: np.ndarray, dy: np.ndarray) -> None:
    """Draws where the lines of a regular grid go: by +τ, to first order in the displacement."""
    size = len(dx)
    grid = np.arange(size)
    for at in np.linspace(0, size - 1, 9).round().astype(int):
        axes.plot(grid + dx[at], at + dy[at], color="white", lw=0.4, alpha=0.7)
        axes.plot(at + dx[:, at], grid + dy[:, at], color="white", lw=0.4, alpha=0.7)
    axes.set(xlim=(-0.5, size - 0.5), ylim=(size - 0.5, -0.5))


if __name__ == "__main__":
    style.main(__doc__, draw, RESULTS)
