"""Fig. 12: the spatial frequency content of filters against relative depth; 1 for white filters.

A panel for each set of images, a colour for each network: one results file each.

    python -m figures.fig12 runs/measure/results.json
"""

import os
import pathlib
from collections.abc import Sequence

import numpy as np

from figures import style

RESULTS = (
    "cifar10-vgg11bn-laptop.json",
    "cifar10-lenet-laptop.json",
    "measure-vgg16.json",
    "scale_detection_2d-vgg11bn-laptop.json",
    "scale_detection_2d-alexnet-laptop.json",
)


def draw(paths: Sequence[str | os.PathLike[str]], folder: str | os.PathLike[str]) -> pathlib.Path:
    """Draws the networks in `paths`; returns the path of the PNG."""
    datasets = style.load(paths, {"frequency_content": ("state", "seed", "conv")})
    figure, row = style.by_images(datasets)
    for axes, of_images in row:
        for dataset, color in of_images:
            spatial = dataset.isel(conv=dataset.frequency_content.notnull().any(["state", "seed"]))
            K = spatial.sizes["conv"]
            depth = np.arange(1, K + 1) / K
            for state, line in zip(spatial.state.values[::-1], ("o-", "o:"), strict=False):
                label = f"{style.network_of(dataset)}, {state}"
                shown = spatial.sel(state=state)
                style.curve(axes, depth, shown, "frequency_content", line, color=color, label=label)
        axes.set(ylim=(0, None))
        axes.axhline(1, color=style.GREY, lw=0.8, ls="--")
        axes.legend(loc="best")
    row[0][0].set_ylabel("frequency content of filters")
    figure.supxlabel("relative depth of the convolution", fontsize=8)
    return style.write(figure, "fig12", folder, datasets)


if __name__ == "__main__":
    style.main(__doc__, draw, RESULTS)
