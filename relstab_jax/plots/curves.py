"""What plots of single networks share: curves over seeds, and the names of networks and images."""

import itertools
import pathlib
from collections.abc import Sequence

import xarray as xr
from matplotlib.axes import Axes
from numpy.typing import ArrayLike

from relstab_jax.plots import style

# What plots draw of a network's layers.
LAYERS = {name: ("state", "channels", "seed", "layer") for name in "DGR"}


def curve(
    axes: Axes,
    x: ArrayLike,
    dataset: xr.Dataset,
    name: str,
    line: str,
    *,
    color: str,
    label: str | None = None,
) -> None:
    """Draws the mean over seeds of a variable [seed, x] against x, with a band.

    The band is the range over seeds or, for a single seed, the standard error if known.
    """
    values = dataset[name]
    low, high = values.min("seed"), values.max("seed")
    if values.sizes["seed"] == 1 and f"{name}_error" in dataset:
        error = dataset[f"{name}_error"].isel(seed=0)
        low, high = low - error, high + error
    mean = values.mean("seed")
    size = min(3.5, 80 / len(mean))  # so that the markers of a deep network do not overlap
    axes.plot(x, mean, line, ms=size, color=color, label=label)
    axes.fill_between(x, low, high, color=color, alpha=0.2, lw=0)


def colored(datasets: Sequence[xr.Dataset]) -> list[tuple[xr.Dataset, str]]:
    """Pairs the results of each network with a colour."""
    return list(zip(datasets, itertools.cycle(style.COLORS), strict=False))


def by_images(
    datasets: Sequence[xr.Dataset],
) -> tuple[style.Picture, list[tuple[Axes, list[tuple[xr.Dataset, str]]]]]:
    """Makes a figure with a panel for each set of images; pairs panels with coloured results."""
    of_images: dict[str, list[tuple[xr.Dataset, str]]] = {}
    for dataset, color in colored(datasets):
        of_images.setdefault(images_of(dataset), []).append((dataset, color))
    figure, [row] = style.panels(1, len(of_images), row_height=2.3)
    for axes, images in zip(row, of_images, strict=True):
        axes.set_title(images)
    return figure, list(zip(row, of_images.values(), strict=True))


def with_spatial_filters(dataset: xr.Dataset) -> xr.Dataset:
    """Keeps the convolutions whose filters have more than one tap, and so a frequency content."""
    return dataset.isel(conv=dataset.frequency_content.notnull().any(["state", "seed"]))


def name_row(row: Sequence[Axes], dataset: xr.Dataset) -> None:
    """Writes network and images above a row of panels, which have their titles."""
    for axes in row:
        axes.title.set_text(f"\n{axes.get_title()}")
    row[0].annotate(
        f"{network_of(dataset)}, {images_of(dataset)}",
        xy=(0, 1),
        xytext=(0, 16),
        xycoords="axes fraction",
        textcoords="offset points",
        fontsize=7,
    ).set_in_layout(False)


def network_of(dataset: xr.Dataset) -> str:
    """Returns the name of the measured network."""
    return dataset.attrs["config"].get("network", "SimpleCNN")


def images_of(dataset: xr.Dataset) -> str:
    """Returns the name of the images that a network was measured on."""
    config = dataset.attrs["config"]
    if "task" in config:
        return f"Task {config['task']}"
    return pathlib.Path(config.get("images") or config["data"]).stem
