"""D_k and R_k of the parts of the displacement field (footnote 1)."""

import xarray as xr

from relstab_jax.errors import InputError
from relstab_jax.measures.diffeomorphism import PARTS
from relstab_jax.measures.perturbations import WHOLE
from relstab_jax.plots import style


@style.plot(style.LAYERS | {"relative_depth": ("layer",)})
def parts(*datasets: xr.Dataset) -> style.Picture:
    """Plots D_k and R_k of parts of the displacement field, and how much of D_k they make.

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
    colors = dict(zip((WHOLE, *PARTS), (style.BLACK, *style.COLORS), strict=False))
    ordered = {part: found[part].sel(channels="all") for part in colors if part in found}
    x = found[WHOLE].relative_depth
    for axes, name in ((of_D, "D"), (of_R, "R")):
        for part, dataset in ordered.items():
            style.curve(axes, x, dataset, name, "o-", color=colors[part], label=part)
        axes.set(yscale="log", title=f"${name}_k$")
        style.plain_decades(axes.yaxis)
    whole = ordered.pop(WHOLE)
    heights = [(d.D / whole.D).mean("seed").values for d in ordered.values()]
    shares.stackplot(x, heights, colors=[colors[part] for part in ordered], alpha=0.8, lw=0)
    shares.axhline(1, color=style.BLACK, lw=0.8, ls=":")
    shares.set(ylim=(0, None), title="share of $D_k$ of the whole")
    for axes in row:
        axes.set_xlabel("relative depth $k/K$")
    style.name_row(of_D, found[WHOLE])
    style.legend_below(figure, of_D)
    return figure
