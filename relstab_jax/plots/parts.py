"""D_k and R_k of the parts of the displacement field (footnote 1)."""

import xarray as xr

from relstab_jax.errors import InputError
from relstab_jax.measures.diffeomorphism import PARTS
from relstab_jax.measures.perturbations import WHOLE
from relstab_jax.plots import style


@style.plot(style.LAYERS | {"relative_depth": ("layer",)})
def parts(*datasets: xr.Dataset) -> style.Picture:
    """Plots D_k and R_k of parts of the displacement field beside those of the whole.

    Args:
        datasets: results of one network that differ in the field `part` of their configuration,
            among them those of the whole.

    Raises:
        InputError: without the whole, or for two datasets of the same part.
    """
    found = {d.attrs["config"].get("part", WHOLE): d.isel(state=-1) for d in datasets}
    if WHOLE not in found or len(found) < len(datasets):
        raise InputError(
            f"the parts {', '.join(d.attrs['config'].get('part', WHOLE) for d in datasets)} are "
            f"given: give {WHOLE} and, each once, parts"
        )
    figure, [row] = style.panels(1, 3, row_height=2.3)
    of_D, shares, of_R = row
    colors: dict[str, str] = dict(zip((WHOLE, *PARTS), (style.BLACK, *style.COLORS), strict=False))
    whole = found[WHOLE].sel(channels="all")
    for part in (name for name in colors if name in found):
        dataset, color = found[part].sel(channels="all"), colors[part]
        dataset = dataset.assign(share=dataset.D / whole.D)
        for axes, name in zip(row, ("D", "share", "R"), strict=True):
            style.curve(axes, whole.relative_depth, dataset, name, "o-", color=color, label=part)
    of_D.set(yscale="log", title="$D_k$")
    shares.set(ylim=(0, None), title="$D_k$ over that of the whole")
    of_R.set(yscale="log", title="$R_k$")
    for axes in row:
        axes.set_xlabel("relative depth $k/K$")
    for axes in (of_D, of_R):
        style.plain_decades(axes.yaxis)
    style.name_row(of_D, whole)
    style.legend_below(figure, of_D)
    return figure
