"""Functions of datasets that draw a figure, with what they require of a dataset."""

import functools
import textwrap
from collections.abc import Callable, Mapping, Sequence

import xarray as xr

from relstab_jax.errors import InputError, some
from relstab_jax.plots import paper, style


class Plot:
    """A function of datasets that draws a figure, with its requirements on them.

    Args:
        draw: (datasets...) -> the figure.
        needs: {variable or coordinate: dimensions} that a dataset must have.
        one: whether it takes exactly one dataset.
        informative: dataset -> whether the figure tells something about a dataset that has them.
    """

    __name__: str

    def __init__(
        self,
        draw: Callable[..., style.Picture],
        needs: Mapping[str, Sequence[str]],
        one: bool,
        informative: Callable[[xr.Dataset], bool],
    ):
        functools.update_wrapper(self, draw)
        self._draw, self._needs, self._one, self._informative = draw, needs, one, informative

    @style.styled
    def __call__(self, *datasets: xr.Dataset) -> style.Picture:
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
        figure = self._draw(*datasets)
        if note := textwrap.fill(paper.reduced(datasets), 125):
            figure.set_figheight(figure.get_figheight() + 0.1 * (note.count("\n") + 2))
            figure.suptitle(note, x=0.008, ha="left", fontsize=5.5, color=style.GREY)
        return figure

    def can_show(self, dataset: xr.Dataset) -> bool:
        """Returns whether a dataset has what is drawn and the figure would be informative."""
        return not self._lacking(dataset) and self._informative(dataset)

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


def plot(
    needs: Mapping[str, Sequence[str]],
    one: bool = False,
    informative: Callable[[xr.Dataset], bool] = lambda dataset: True,
) -> Callable[[Callable[..., style.Picture]], Plot]:
    """Decorates a function of datasets to become a `Plot`, whose arguments these are."""
    return lambda draw: Plot(draw, needs, one, informative)
