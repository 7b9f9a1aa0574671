"""Plots of results: functions of datasets that return a matplotlib Figure.

    from relstab_jax import plots, results

    plots.depth(results.load("runs/measure/results.json")).savefig("depth.png")

`shown_by` tells which of them a dataset has the variables for.
"""

from collections.abc import Callable

import xarray as xr

from relstab_jax.plots.along_training import along_training
from relstab_jax.plots.correlations import correlations
from relstab_jax.plots.deformations import deformations
from relstab_jax.plots.depth import depth
from relstab_jax.plots.errors import errors
from relstab_jax.plots.frequency_content import frequency_content
from relstab_jax.plots.parts import parts
from relstab_jax.plots.pooling import pooling
from relstab_jax.plots.receptive_field import receptive_field
from relstab_jax.plots.representation import representation
from relstab_jax.plots.sensitivities import sensitivities
from relstab_jax.plots.spectra import spectra
from relstab_jax.plots.style import Picture, save
from relstab_jax.plots.tasks import tasks

__all__ = [
    "Picture",
    "along_training",
    "correlations",
    "deformations",
    "depth",
    "errors",
    "frequency_content",
    "parts",
    "pooling",
    "receptive_field",
    "representation",
    "save",
    "sensitivities",
    "shown_by",
    "spectra",
    "tasks",
]

_OF_RESULTS = (
    *(receptive_field, representation, depth, sensitivities, spectra, frequency_content),
    *(along_training, errors, correlations),
)


def shown_by(dataset: xr.Dataset) -> dict[str, Callable[..., Picture]]:
    """Returns {name: plot} of the plots that a dataset of results can show."""
    return {plot.__name__: plot for plot in _OF_RESULTS if plot.can_show(dataset)}
