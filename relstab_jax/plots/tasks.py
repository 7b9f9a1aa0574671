"""Inputs of the scale-detection tasks (Fig. 5)."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Circle

from relstab_jax.data import scale_detection as task
from relstab_jax.plots import style

SETTINGS_1D = {1: {"size": 32, "xi": 11, "gap": 4}, 2: {"size": 128, "xi": 32, "gap": 0}}
SETTING_2D = {"size": 28, "xi": 14, "gap": 2}
EXAMPLES = 5  # of each label, in the one-dimensional tasks
PATCH_COLORS = (style.SKY, style.ORANGE, style.GREEN, style.VERMILION)


@style.styled
def tasks() -> style.Picture:
    """Plots one or a few inputs of each label for each scale-detection task (Fig. 5)."""
    figure = style.Picture(3.5)
    axes = figure.subplot_mosaic(
        [["far", "near"], ["task1", "task1"], ["task2", "task2"]], height_ratios=[1.7, 1, 1]
    )
    generator = np.random.default_rng(3)
    _plane(axes["far"], -1, generator)
    _plane(axes["near"], 1, generator)
    axes["far"].set_title("(a) Task 1 in 2-D, $d > \\xi$: $y=-1$")
    axes["near"].set_title("$d < \\xi$: $y=+1$")
    for number in (1, 2):
        _line(axes[f"task{number}"], number, generator)
    axes["task1"].set_title("(b) Task 1 on a ring, $L=32$, $\\xi=11$, $g=4$", loc="left")
    axes["task2"].set_title("(c) Task 2, $L=128$, $\\xi=32$: patches coloured", loc="left")
    return figure


def _plane(axes: Axes, label: int, generator: np.random.Generator) -> None:
    """Draws an input of the 2-D task, with the disc of diameter 2ξ around its first pixel."""
    size, xi = SETTING_2D["size"], SETTING_2D["xi"]
    positions, labels = task.points_2d(size, xi, SETTING_2D["gap"])
    central = np.abs(positions[:, 0] - size / 2).max(axis=1) < size / 6
    chosen = positions[generator.choice(np.flatnonzero(central & (labels == label)))]
    image = np.zeros((size, size))
    image[tuple(chosen.T)] = 1
    axes.imshow(image, cmap="Greys", interpolation="nearest")
    (y0, x0), (y1, x1) = chosen
    axes.add_patch(Circle((x0, y0), xi, fill=False, color=style.BLUE, ls="--", lw=1))
    axes.plot([x0, x1], [y0, y1], color=style.VERMILION, lw=1)
    axes.annotate(
        "$d$",
        ((x0 + x1) / 2, (y0 + y1) / 2),
        xytext=(2, -2),
        textcoords="offset points",
        va="top",
        color=style.VERMILION,
    )
    axes.set(xlim=(-0.5, size - 0.5), ylim=(size - 0.5, -0.5), xticks=[], yticks=[])
    axes.spines[:].set_visible(True)


def _line(axes: Axes, number: int, generator: np.random.Generator) -> None:
    """Draws one-dimensional inputs as rows: those of the label -1 above, of +1 below."""
    setting = SETTINGS_1D[number]
    positions, labels = task.points(number, **setting)
    size, xi = setting["size"], setting["xi"]
    row = 0
    for label in (-1, 1):
        of_label = positions[labels == label]
        for chosen in of_label[generator.choice(len(of_label), EXAMPLES, replace=False)]:
            axes.plot([-0.5, size - 0.5], [row, row], color=style.GREY, lw=0.4, zorder=0)
            axes.scatter(chosen, [row, row], s=12, marker="s", color=style.BLACK)
            row += 1
        middle = row - (EXAMPLES + 1) / 2
        axes.text(
            1.01, middle, f"$y={label:+d}$", va="center", transform=axes.get_yaxis_transform()
        )
        row += 1
    if number == 2:
        for patch in range(size // xi):
            axes.axvspan(
                patch * xi - 0.5,
                (patch + 1) * xi - 0.5,
                color=PATCH_COLORS[patch],
                alpha=0.25,
                lw=0,
                zorder=-1,
            )
    axes.set(xlim=(-0.5, size - 0.5), ylim=(row - 1, -1), yticks=[], xlabel="pixel $i$")
    axes.spines["left"].set_visible(False)
