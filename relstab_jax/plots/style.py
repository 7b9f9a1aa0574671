"""The look of all plots: colours, sizes, axes, legends, and the files of a figure."""

import io
import os
import pathlib
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

WIDTH = 5.5  # inches: the text of the paper

# Okabe and Ito's colours, which stay apart for colour-blind readers.
BLUE, ORANGE, GREEN, VERMILION, SKY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#56B4E9"
GREY, BLACK = "#8C8C8C", "#000000"
COLORS = (BLUE, VERMILION, GREEN, ORANGE, SKY, BLACK)

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

styled = mpl.rc_context(STYLE)  # decorates a function to run in the style of the plots


class Picture(Figure):
    """A figure drawn in the style of the plots, which notebooks display."""

    def __init__(self, height: float):
        super().__init__(figsize=(WIDTH, height), layout="constrained")

    @styled
    def draw(self, renderer: Any) -> None:
        """Draws in the style of the plots, since Matplotlib makes ticks only now."""
        super().draw(renderer)

    @styled
    def savefig(self, fname: Any, **options: Any) -> None:
        """Saves the figure, as Figure.savefig does, in the style of the plots."""
        super().savefig(fname, **options)

    def _repr_png_(self) -> bytes:
        file = io.BytesIO()
        self.savefig(file, format="png")
        return file.getvalue()


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


def label_decades(axis: Axis) -> None:
    """Labels a logarithmic axis with plain numbers: its decades, and more where it has few."""
    low, high = axis.get_view_interval()
    if high / low < 5:
        axis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
    else:
        axis.set_major_locator(LogLocator(subs=(1, 2, 5) if high / low < 100 else (1,)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def legend_below(figure: Figure, axes: Axes, **options: Any) -> None:
    """Draws the legend of one panel below the figure."""
    options = {"loc": "outside lower center", "ncols": 4} | options
    figure.legend(*axes.get_legend_handles_labels(), **options)
