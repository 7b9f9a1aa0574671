"""Fig. 1, left: diffeomorphisms of one image at several temperatures T and cut-offs c.

Within the allowed range of T pixels move by at least half a pixel and nothing folds over; images
beyond it are marked. A grid line of every eighth of the image is moved with it.

    python -m figures.fig01_left --image photograph.png --size 128
"""

import argparse
import os
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import PIL.Image
from jaxtyping import Array
from matplotlib.axes import Axes

from figures import style
from relstab_jax.data import photographs
from relstab_jax.measures import diffeomorphism

CUTS = (3, 6, 12)
OF_HIGHEST = (0.01, 0.1, 1.0, 4.0)  # T in units of T_max


def draw(image: str, folder: str | os.PathLike[str], size: int = 128) -> pathlib.Path:
    """Deforms the file `image`, cut to size² pixels; returns the path of the PNG."""
    with PIL.Image.open(image) as opened:
        x = jnp.asarray(photographs.cut(opened.convert("RGB"), size)) / 255
    figure, rows = style.panels(len(CUTS), len(OF_HIGHEST) + 1, row_height=1.35)
    for row, cut in zip(rows, CUTS, strict=True):
        lowest, highest = diffeomorphism.temperature_range(cut, size)
        show(row[0], x, f"$c={cut}$: $T$ from\n{lowest:.1e} to {highest:.1e}")
        for axes, ratio in zip(row[1:], OF_HIGHEST, strict=True):
            T = ratio * highest
            dx, dy = diffeomorphism.displacement(jax.random.key(1), size, cut, T)
            delta = diffeomorphism.typical_displacement(T, cut, size)
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


if __name__ == "__main__":
    here = pathlib.Path(__file__).parent
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--image", required=True, help="an image file")
    parser.add_argument("--size", type=int, default=128, help="pixels along each axis")
    parser.add_argument("--output", default=here / "output", help="folder of the PNG and the PDF")
    arguments = parser.parse_args()
    print(draw(arguments.image, arguments.output, arguments.size))
