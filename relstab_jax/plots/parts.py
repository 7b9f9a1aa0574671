"""D_k and R_k of the parts of the displacement field (footnote 1)."""

import jax.numpy as jnp
import numpy as np
import xarray as xr

from relstab_jax.errors import InputError
from relstab_jax.measures import diffeomorphism
from relstab_jax.measures.diffeomorphism import PARTS
from relstab_jax.measures.perturbations import WHOLE
from relstab_jax.plots import style
from relstab_jax.plots.curves import LAYERS, curve, name_row
from relstab_jax.plots.plot import plot

_COLORS: dict[str, str] = dict(zip((WHOLE, *PARTS), (style.BLACK, *style.COLORS), strict=False))
_SIZE = 64  # pixels, of the field whose displacements are computed: they hardly depend on it


@plot(LAYERS | {"relative_depth": ("layer",)})
def parts(*datasets: xr.Dataset) -> style.Picture:
    """Plots D_k and R_k of parts of the displacement field beside those of the whole.

    The legend gives the root mean square of how far pixels move.

    Args:
        datasets: results of one network that differ in the fields `part` and `delta` of their
            configuration: a colour for each part. The first whole is what D_k is compared with;
            those with another delta are dotted.

    Raises:
        InputError: without the whole.
    """
    whole, *others = sorted(datasets, key=lambda dataset: list(_COLORS).index(_part(dataset)))
    if _part(whole) != WHOLE:
        raise InputError("parts draws results of part=whole and of its parts: give the whole too")
    figure, [row] = style.panels(1, 3, row_height=2.3)
    for dataset in (whole, *others):
        config, part = dataset.attrs["config"], _part(dataset)
        pixels = _displacement(config["delta"], config["cut"], part)
        line = "o-" if config["delta"] == whole.attrs["config"]["delta"] else "o:"
        shown = dataset.assign(share=dataset.D / whole.D).isel(state=-1).sel(channels="all")
        look = {"color": _COLORS[part], "label": f"{part}, {pixels:.1f} px"}
        for axes, name in zip(row, ("D", "share", "R"), strict=True):
            curve(axes, shown.relative_depth, shown, name, line, **look)
    for axes, title in zip(row, ("$D_k$", "$D_k$ over that of the whole", "$R_k$"), strict=True):
        axes.set(xlabel="relative depth $k/K$", yscale="log", title=title)
        style.label_decades(axes.yaxis)
    name_row(row, whole)
    style.legend_below(figure, row[0])
    return figure


def _part(dataset: xr.Dataset) -> str:
    """Returns the part of the displacement field that a network was measured with."""
    return dataset.attrs["config"].get("part", WHOLE)


def _displacement(delta: float, cut: int, part: str) -> float:
    """Returns the root mean square displacement by a part of random fields, in pixels."""
    temperature = diffeomorphism.typical_temperature(delta, cut, _SIZE)
    square = 0.0
    for coefficients in np.eye(cut**2).reshape(-1, cut, cut):  # independent, of unit variance
        u = diffeomorphism.scalar_field(jnp.asarray(coefficients), _SIZE)
        field = u, jnp.zeros_like(u)
        moved = field if part == WHOLE else diffeomorphism.parts(*field)[part]
        along_x = sum(jnp.square(d).mean() for d in moved)
        square += 2 * float(along_x)  # as much along y
    return float(np.sqrt(temperature * square)) * _SIZE
