"""Style, common parts and dataset requirements of all plots."""

import functools
import io
import itertools
import os
import pathlib
import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ParamSpec

import matplotlib as mpl
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter
from numpy.typing import ArrayLike

from relstab_jax.errors import InputError, some
from relstab_jax.measures.correlation import correlation
from relstab_jax.plots import paper

# What plots draw of a network's layers, and of many trained networks.
LAYERS = {name: ("state", "channels", "seed", "layer") for name in "DGR"}
GATHERED = {name: ("state", "member") for name in "DGR"} | {
    name: ("member",) for name in ("test_error", "test_points", "network", "noise")
}

P = ParamSpec("P")

WIDTH = 5.5  # inches: the text of the paper

# Okabe and Ito's colours, which stay apart for colour-blind readers.
BLUE, ORANGE, GREEN, VERMILION, SKY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#56B4E9"
GREY, BLACK = "#8C8C8C", "#000000"
COLORS = (BLUE, VERMILION, GREEN, ORANGE, SKY, BLACK)
MARKERS = ("o", "s", "^", "D")

STYLE: dict[Any, Any] = {
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "legend.fontsize": 7,
    "lines.linewidth": 1.4,
    "lines.markersize": 3.5,
    "mathtext.fontset": "cm",
    "savefig.dpi": 200,
}


class Picture(Figure):
    """A figure drawn in the style of the plots, which notebooks display."""

    def __init__(self, height: float):
        super().__init__(figsize=(WIDTH, height), layout="constrained")

    def draw(self, renderer: Any) -> None:
        """Draws in the style of the plots, since Matplotlib makes ticks only now."""
        with mpl.rc_context(STYLE):
            super().draw(renderer)

    def savefig(self, fname: Any, **options: Any) -> None:
        """Saves the figure, as Figure.savefig does, in the style of the plots."""
        with mpl.rc_context(STYLE):
            super().savefig(fname, **options)

    def _repr_png_(self) -> bytes:
        file = io.BytesIO()
        self.savefig(file, format="png")
        return file.getvalue()


class Plot:
    """A function of datasets that draws a figure, with its requirements on them.

    Args:
        draw: (datasets...) -> the figure.
        needs: {variable or coordinate: dimensions} that a dataset must have.
        one: whether it takes exactly one dataset.
        tells: dataset -> whether the figure is informative for a dataset that has them.
    """

    def __init__(
        self,
        draw: Callable[..., Picture],
        needs: Mapping[str, Sequence[str]],
        one: bool,
        tells: Callable[[xr.Dataset], bool],
    ):
        self._draw, self._needs, self._one, self._tells = draw, needs, one, tells
        self.__name__, self.__doc__ = draw.__name__, draw.__doc__

    def __call__(self, *datasets: xr.Dataset, **options: Any) -> Picture:
        """Draws datasets of results, noting above where their runs were smaller than the paper's.

        Raises:
            InputError: if a dataset lacks a variable, or the number of datasets does not fit.
        """
        if not datasets or (self._one and len(datasets) > 1):
            number = "one dataset" if self._one else "one or more datasets"
            raise InputError(f"{self.__name__} draws {number}, got {len(datasets)}")
        datasets = tuple(map(self._completed, datasets))
        for dataset in datasets:
            if lacking := self._lacking(dataset):
                source = dataset.encoding.get("source", "the dataset")
                raise InputError(
                    f"{source} lacks {some(lacking, at_most=2)}, which {self.__name__} draws: "
                    "give results that have them"
                )
        with mpl.rc_context(STYLE):
            figure = self._draw(*datasets, **options)
            if note := textwrap.fill(paper.reduced(datasets), 125):
                figure.set_figheight(figure.get_figheight() + 0.1 * (note.count("\n") + 2))
                figure.suptitle(note, x=0.008, ha="left", fontsize=5.5, color=GREY)
        return figure

    def can_show(self, dataset: xr.Dataset) -> bool:
        """Returns whether a dataset has what is drawn and the figure would be informative."""
        return not self._lacking(dataset) and self._tells(dataset)

    def _completed(self, dataset: xr.Dataset) -> xr.Dataset:
        """Gives what `measure` returns the dimensions of a run, one network in one state."""
        if "layer" not in dataset.dims or "D" not in self._needs:
            return dataset
        if "network" in dataset.dims:
            dataset = dataset.rename(network="seed")
        for name, only in (("state", ""), ("channels", "all"), ("seed", 0)):
            if name in self._needs["D"] and name not in dataset.dims:
                dataset = dataset.assign_coords({name: dataset.coords.get(name, only)})
                dataset = dataset.expand_dims(name)
        return dataset

    def _lacking(self, dataset: xr.Dataset) -> list[str]:
        lacking = [
            f"{name}[{', '.join(dims)}]"
            for name, dims in self._needs.items()
            if name not in dataset.variables or not set(dims) <= set(dataset[name].dims)
        ]
        if not {"config", "runs"} & dataset.attrs.keys():
            lacking.append("the configuration")
        return lacking


def styled(draw: Callable[P, Picture]) -> Callable[P, Picture]:
    """Decorates a function to draw in the style of the plots."""

    @functools.wraps(draw)
    def in_style(*arguments: P.args, **options: P.kwargs) -> Picture:
        with mpl.rc_context(STYLE):
            return draw(*arguments, **options)

    return in_style


def plot(
    needs: Mapping[str, Sequence[str]],
    one: bool = False,
    tells: Callable[[xr.Dataset], bool] = lambda dataset: True,
) -> Callable[[Callable[..., Picture]], Plot]:
    """Decorates a function of datasets to become a `Plot`, whose arguments these are."""
    return lambda draw: Plot(draw, needs, one, tells)


def save(figure: Figure, path: str | os.PathLike[str]) -> pathlib.Path:
    """Writes a figure as PNG and, beside it, as PDF; returns the path of the first.

    Args:
        figure: the figure.
        path: of the PNG; its folder is created if needed.
    """
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    figure.savefig(path.with_suffix(".pdf"), metadata={"CreationDate": None})
    return path


def panels(rows: int, columns: int, row_height: float = 1.9) -> tuple[Picture, list[list[Axes]]]:
    """Returns a figure of the paper's text width with a grid of axes."""
    figure = Picture(row_height * rows)
    axes = figure.subplots(rows, columns, squeeze=False)
    return figure, [list(row) for row in axes]


def colored(datasets: Sequence[xr.Dataset]) -> list[tuple[xr.Dataset, str]]:
    """Pairs the results of each network with a colour."""
    return list(zip(datasets, itertools.cycle(COLORS), strict=False))


def by_images(
    datasets: Sequence[xr.Dataset],
) -> tuple[Picture, list[tuple[Axes, list[tuple[xr.Dataset, str]]]]]:
    """Makes a figure with a panel for each image set, and the coloured results of each panel."""
    sets_of_images = list(dict.fromkeys(map(images_of, datasets)))
    figure, [row] = panels(1, len(sets_of_images), row_height=2.3)
    shown = []
    for axes, images in zip(row, sets_of_images, strict=True):
        axes.set_title(images)
        shown.append(
            (axes, [(d, color) for d, color in colored(datasets) if images_of(d) == images])
        )
    return figure, shown


def plain_decades(axis: Axis) -> None:
    """Labels a logarithmic axis at each decade, and at 2 and 5 if short, with plain numbers."""
    low, high = axis.get_view_interval()
    if high / low < 5:
        axis.set_major_locator(MaxNLocator(3))
    else:
        axis.set_major_locator(LogLocator(subs=(1, 2, 5) if high / low < 50 else (1,)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


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
    """Draws the mean over seeds of a variable [seed, layer] against x, with a band.

    The band is the range over seeds or, for a single seed, the standard error if known.
    """
    values = dataset[name]
    low, high = values.min("seed"), values.max("seed")
    if values.sizes["seed"] == 1 and f"{name}_error" in dataset:
        error = dataset[f"{name}_error"].isel(seed=0)
        low, high = low - error, high + error
    axes.plot(x, values.mean("seed"), line, color=color, label=label)
    axes.fill_between(x, low, high, color=color, alpha=0.2, lw=0)


def looks(gathered: xr.Dataset) -> dict[str, tuple[str, str]]:
    """Assigns a marker and a colour to each network in gathered results."""
    different = zip(itertools.cycle(MARKERS), itertools.cycle(COLORS), strict=False)  # 12 of them
    return dict(zip(dict.fromkeys(gathered.network.values.tolist()), different, strict=False))


def comparable(gathered: xr.Dataset) -> bool:
    """Returns whether networks share their data, with at least three of them at each noise."""
    configs = [run["config"] for run in gathered.attrs["runs"]]
    data = {config.get("data") or config.get("images") for config in configs}
    return len(data) == 1 and min(len(at.member) for _, at in gathered.groupby("noise")) >= 3


def scatter(axes: Axes, gathered: xr.Dataset, looks: dict[str, tuple[str, str]], name: str) -> None:
    """Draws ε against D, G or R of trained predictors, and writes ρ into the title.

    There is a point for each network and seed, a hollow one where the weights were given and not
    trained here. A test error of zero is drawn as half a wrong test point.
    """
    trained = gathered.sel(state="trained")
    error, x = test_error(trained), trained[name].values
    experiments = gathered.get("experiment")
    given = np.zeros(len(x), bool) if experiments is None else experiments.values == "measure"
    for network, (marker, color) in looks.items():
        of_network = gathered.network.values == network
        for hollow in sorted(set(given[of_network])):
            chosen = of_network & (given == hollow)
            axes.plot(
                x[chosen],
                error[chosen],
                marker,
                color=color,
                alpha=0.8,
                mfc="none" if hollow else color,
                mec=color if hollow else "none",
                label=f"{network}, given" if hollow else network,
            )
    rho = correlation(error, x, gathered.network.values)
    interval = f" [{rho.low:.2f}, {rho.high:.2f}]" if np.isfinite(rho.low) else ""
    axes.set(
        xscale="log",
        yscale="log",
        xlabel=f"${name}_f$",
        title=rf"$\rho(\varepsilon, {name}_f)$ = {rho.rho:.2f}{interval}",
    )
    for axis in (axes.xaxis, axes.yaxis):
        plain_decades(axis)


def name_row(axes: Axes, dataset: xr.Dataset) -> None:
    """Writes network and images above the first panel of a row."""
    axes.annotate(
        f"{network_of(dataset)}, {images_of(dataset)}",
        *((0, 1), (0, 16)),
        xycoords="axes fraction",
        textcoords="offset points",
        fontsize=7,
    ).set_in_layout(False)


def legend_below(figure: Figure, axes: Axes) -> None:
    """Draws the legend of one panel below the figure."""
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=4)


def test_error(gathered: xr.Dataset) -> np.ndarray:
    """Returns ε of each network, with zero replaced by half a wrong test point."""
    return np.maximum(gathered.test_error, 0.5 / gathered.test_points).values


def network_of(dataset: xr.Dataset) -> str:
    """Returns the name of the measured network."""
    return dataset.attrs["config"].get("network", "SimpleCNN")


def images_of(dataset: xr.Dataset) -> str:
    """Returns the name of the images that a network was measured on."""
    config = dataset.attrs["config"]
    if "task" in config:
        return f"Task {config['task']}"
    return pathlib.Path(config.get("images") or config["data"]).stem
