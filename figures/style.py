"""What all figures share: size, colours and how they are written."""

import argparse
import importlib
import itertools
import os
import pathlib
import sys
import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import xarray as xr
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter
from numpy.typing import ArrayLike

from relstab_jax import results
from relstab_jax.errors import InputError, some
from relstab_jax.measures.correlation import correlation

# What figures draw of a network's layers, and of many trained networks.
LAYERS = {name: ("state", "channels", "seed", "layer") for name in "DGR"}
GATHERED = {name: ("state", "member") for name in "DGR"} | {
    name: ("member",) for name in ("test_error", "test_points", "network", "noise")
}

RESULTS = pathlib.Path(__file__).parent / "results"
OUTPUT = pathlib.Path(__file__).parent / "output"

WIDTH = 5.5  # inches: the text of the paper

# What a run at a reduced setting has less of than the paper's.
SETTING = (
    *("width", "ridge", "patience", "max_epochs"),
    *("epochs", "batch_size", "learning_rate", "annealing", "train_points", "test_points"),
)

# Okabe and Ito's colours, which stay apart for colour-blind readers.
BLUE, ORANGE, GREEN, VERMILION, SKY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#56B4E9"
GREY, BLACK = "#8C8C8C", "#000000"
COLORS = (BLUE, VERMILION, GREEN, ORANGE, SKY, BLACK)
MARKERS = ("o", "s", "^", "D")

mpl.use("Agg")
mpl.rcParams.update(
    {
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
        "figure.constrained_layout.use": True,
    }
)


def load(
    paths: Sequence[str | os.PathLike[str]], needs: Mapping[str, Sequence[str]], one: bool = False
) -> list[xr.Dataset]:
    """Reads the results that a figure draws.

    Args:
        paths: of the results files.
        needs: the variables and coordinates that it draws, each with its dimensions.
        one: whether it draws one file alone.

    Raises:
        InputError: for a file that cannot be read or lacks a part, or for more files than one.
    """
    if not paths or (one and len(paths) > 1):
        raise InputError(
            f"{len(paths)} files are given, and this figure draws {'one' if one else 'one or more'}"
        )
    datasets = [results.load(path) for path in paths]
    for path, dataset in zip(paths, datasets, strict=True):
        lacking = [
            f"{name}[{', '.join(dims)}]"
            for name, dims in needs.items()
            if name not in dataset.variables or not set(dims) <= set(dataset[name].dims)
        ]
        if not {"config", "runs"} & dataset.attrs.keys():
            lacking.append("the configuration")
        if lacking:
            raise InputError(
                f"{path} holds no {some(lacking, at_most=2)}, which this figure draws: give the "
                "results that its --help names"
            )
    return datasets


def panels(rows: int, columns: int, row_height: float = 1.9) -> tuple[Figure, list[list[Axes]]]:
    """Returns a figure of the paper's text width with a grid of axes."""
    figure, axes = plt.subplots(rows, columns, figsize=(WIDTH, row_height * rows), squeeze=False)
    return figure, [list(row) for row in axes]


def colored(datasets: Sequence[xr.Dataset]) -> list[tuple[xr.Dataset, str]]:
    """Returns the results of a figure's networks, each with its colour."""
    return list(zip(datasets, itertools.cycle(COLORS), strict=False))


def by_images(
    datasets: Sequence[xr.Dataset],
) -> tuple[Figure, list[tuple[Axes, list[tuple[xr.Dataset, str]]]]]:
    """Returns a figure with a panel for each set of images that the results were measured on.

    With each panel come its results, each in the colour that it has in the whole figure.
    """
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
    """Labels a logarithmic axis 0.1, 1, 10: each decade, and 2 and 5 in it where it is short."""
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
    """Draws a variable [seed, layer] against x: its mean over seeds, with a band.

    The band is the range over seeds; for a single seed the standard error, where it is known.
    """
    values = dataset[name]
    low, high = values.min("seed"), values.max("seed")
    if values.sizes["seed"] == 1 and f"{name}_error" in dataset:
        error = dataset[f"{name}_error"].isel(seed=0)
        low, high = low - error, high + error
    axes.plot(x, values.mean("seed"), line, color=color, label=label)
    axes.fill_between(x, low, high, color=color, alpha=0.2, lw=0)


def looks(gathered: xr.Dataset) -> dict[str, tuple[str, str]]:
    """Returns a marker and a colour for each network in gathered results."""
    different = zip(itertools.cycle(MARKERS), itertools.cycle(COLORS), strict=False)  # 12 of them
    return dict(zip(dict.fromkeys(gathered.network.values.tolist()), different, strict=False))


def scatters(
    row: Sequence[Axes], gathered: xr.Dataset, looks: dict[str, tuple[str, str]], label: str
) -> None:
    """Draws ε, under a label, against D, G and R of trained predictors in a row of axes."""
    for axes, name in zip(row, "DGR", strict=True):
        scatter(axes, gathered, looks, name)
    for axes in row[1:]:
        axes.sharey(row[0])
        axes.tick_params(labelleft=False)
    row[0].set_ylabel(label)


def scatter(axes: Axes, gathered: xr.Dataset, looks: dict[str, tuple[str, str]], name: str) -> None:
    """Draws ε against D, G or R of trained predictors, and writes ρ into the title.

    A point for each network and seed, with the looks of the network. An error of zero counts as
    half a wrong test point.
    """
    trained = gathered.sel(state="trained")
    error, x = test_error(trained), trained[name].values
    for network, (marker, color) in looks.items():
        of_network = gathered.network.values == network
        axes.plot(
            x[of_network],
            error[of_network],
            marker,
            color=color,
            alpha=0.8,
            mec="none",
            label=network,
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
    """Writes network and images above the title of the first panel of a row."""
    axes.annotate(
        f"{network_of(dataset)}, {images_of(dataset)}",
        *((0, 1), (0, 16)),
        xycoords="axes fraction",
        textcoords="offset points",
        fontsize=7,
    ).set_in_layout(False)


def legend_below(figure: Figure, axes: Axes) -> None:
    """Writes the legend of one panel under all of them."""
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=4)


def test_error(gathered: xr.Dataset) -> np.ndarray:
    """Returns ε of each network; an error of zero as half a wrong test point."""
    return np.maximum(gathered.test_error, 0.5 / gathered.test_points).values


def network_of(dataset: xr.Dataset) -> str:
    """Returns the name of the network that the results are of."""
    return dataset.attrs["config"]["network"]


def images_of(dataset: xr.Dataset) -> str:
    """Returns the name of the images that it was measured on."""
    config = dataset.attrs["config"]
    return pathlib.Path(config.get("images") or config["data"]).stem


def reduced(datasets: Sequence[xr.Dataset]) -> str:
    """Says where runs fell short of the paper's settings; nothing where they did not.

    Args:
        datasets: results of runs, or gathered ones.
    """
    runs = [run for d in datasets for run in d.attrs.get("runs", [d.attrs])]
    found: dict[tuple[str, str], dict[str, None]] = {}  # who falls short so, in order
    for config in (run["config"] for run in runs):
        if paper := _paper_setting(config):
            parts = [
                f"{field.replace('_', ' ')} {config[field]} ({paper[field]})"
                for field in SETTING
                if field in config and config[field] != paper[field]
            ]
            seeds, all_seeds = len(config["seeds"]), len(paper["seeds"])
            parts += [f"seeds {seeds} ({all_seeds})"] if seeds < all_seeds else []
            if parts:
                name = config.get("network") or f"Task {config['task']}"
                on = f" on {config['data']}" if "network" in config else ""
                found.setdefault((on, ", ".join(parts)), {})[name] = None
    parts = [f"{', '.join(names)}{on}: {setting}" for (on, setting), names in found.items()]
    return "Reduced (paper): " + "; ".join(parts) + "." if parts else ""


def _paper_setting(config: dict[str, Any]) -> Any:
    """Returns the configuration without a preset, or None where the paper has none."""
    if config["experiment"] == "scale_detection":
        return importlib.import_module(f"configs.task{config['task']}").get_config()
    if config["experiment"] == "train_images":
        file = {"imagenet2012": "imagenet"}.get(config["data"], config["data"])
        return importlib.import_module(f"configs.{file}").get_config(config["network"])
    return None


def write(
    figure: Figure,
    name: str,
    folder: str | os.PathLike[str],
    datasets: Sequence[xr.Dataset] = (),
) -> pathlib.Path:
    """Writes NAME.png and NAME.pdf into `folder`; returns the path of the first.

    Above the figure stands where the `datasets` it shows fell short of the paper's settings.
    """
    if note := textwrap.fill(reduced(datasets), 125):
        figure.set_figheight(figure.get_figheight() + 0.1 * (note.count("\n") + 2))
        figure.suptitle(note, x=0.008, ha="left", fontsize=5.5, color=GREY)
    path = pathlib.Path(folder) / f"{name}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    figure.savefig(path.with_suffix(".pdf"), metadata={"CreationDate": None})
    plt.close(figure)
    return path


def main(
    description: str | None,
    draw: Callable[[Sequence[Any], Any], pathlib.Path],
    committed: Sequence[str],
) -> None:
    """The command of a figure: draws the files given, or those in figures/results."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    default = [RESULTS / name for name in committed]
    parser.add_argument("files", nargs="*", default=default, help="default: those committed")
    parser.add_argument("--output", default=OUTPUT, help="folder of the PNG and the PDF")
    arguments = parser.parse_args()
    try:
        print(draw(arguments.files, arguments.output))
    except InputError as error:
        sys.exit(f"error: {error}")
