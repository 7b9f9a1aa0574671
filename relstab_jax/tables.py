"""Tables of results for the terminal, one for each experiment."""

from collections.abc import Callable

import numpy as np
import xarray as xr


def summary(dataset: xr.Dataset) -> str:
    """Returns the tables that end a run, of its results."""
    return _OF_EXPERIMENT[dataset.attrs["config"]["experiment"]](dataset)


def scale_detection(dataset: xr.Dataset) -> str:
    """Returns the tables that end a run: sensitivities, exponents, mean filters and errors.

    Means are over the seeds that did not diverge, if there are any.
    """
    diverged = dataset.diverged.values
    sound = dataset if diverged.all() else dataset.isel(seed=~diverged)
    sound = sound.astype(float)  # squares of weights that diverged overflow in float32
    mean = sound.mean("seed", skipna=False)
    trained, initial = (mean.sel(state=state) for state in ("trained", "init"))
    columns = {
        "A_k": dataset.receptive_field,
        "D": trained.D.sel(channels="all"),
        "G": trained.G.sel(channels="all"),
        "R": trained.R.sel(channels="all"),
        "mean ch. D": trained.D.sel(channels="mean"),
        "G ": trained.G.sel(channels="mean"),
        "init D": initial.D.sel(channels="all"),
        "init G": initial.G.sel(channels="all"),
    }
    rows = _by_layer(columns)

    ratios = {}
    for of in ("exact", "filters"):
        for name in "DG":
            theory = sound[f"{of}_{name}"]
            ratio = sound[name].sel(state="trained", channels="mean") / theory.where(theory > 0)
            ratios[f"{name} / {of}"] = ratio.mean("seed", skipna=False)
    rows += ["", "mean channel, over the exact values of one channel with equal taps (exact)"]
    rows += ["and with the mean filters (filters, up to the first negative tap):"]
    rows += _by_layer(ratios)

    last = int(dataset.fitted.sum())
    rows += ["", f"exponents in A_k over the first {last} layers:"]
    slopes = {name: exponents(sound, name) for name in "DG"}
    for state, channels in (("trained", "all"), ("trained", "mean"), ("init", "all")):
        D, G = (float(slopes[n].sel(state=state, channels=channels)) for n in "DG")
        rows.append(f"  {state + ', channels ' + channels:24s} D {D:+.2f}   G {G:+.2f}")
    laws = f"D {int(dataset.exponent_D):+d}      G {int(dataset.exponent_G):+d}"
    rows.append(f"  {'asymptotic law':24s} {laws}")

    several = sound.sizes["seed"] > 1
    deviation = sound.mean_filter.std("seed", skipna=False)
    rows += ["", "mean filters, with their deviation over seeds:" if several else "mean filters:"]
    for layer in dataset.layer.values:
        states = []
        for state in ("init", "trained"):
            taps = mean.mean_filter.sel(state=state, layer=layer).values
            spread = float(deviation.sel(state=state, layer=layer).mean())
            filter = " ".join(f"{w:8.4f}" for w in taps)
            states.append(f"{state} {filter}" + (f" ± {spread:.4f}" if several else ""))
        rows.append(f"{layer:6s}  " + "    ".join(states))

    rows.append("")
    for name in ("seed", "train_error", "test_error", "interpolation_epoch", "epochs"):
        rows.append(f"{name:20s}" + "".join(f"{v:>9.4g}" for v in dataset[name].values))
    if diverged.any():
        rows.append(f"diverged: seeds {dataset.seed.values[diverged].tolist()}")
    return "\n".join(rows)


def _by_layer(columns: dict[str, xr.DataArray]) -> list[str]:
    """Returns the lines of a table of variables over layer."""
    rows = ["layer " + "".join(f"{name:>12s}" for name in columns)]
    for layer in next(iter(columns.values())).layer.values:
        values = (float(column.sel(layer=layer)) for column in columns.values())
        cells = (f"{v:12.4g}" if v == v else f"{'—':>12s}" for v in values)
        rows.append(f"{layer:6s}" + "".join(cells))
    return rows


def exponents(dataset: xr.Dataset, name: str) -> xr.DataArray:
    """Fits the exponents of D_k or G_k in A_k: slopes of log means over seeds against log A_k.

    Uses least squares over the fitted layers, for each state and channels.
    """
    fitted = dataset.isel(layer=dataset.fitted.values)
    A = np.log(fitted.receptive_field)
    A = A - A.mean()
    log = np.log(fitted[name].mean("seed", skipna=False))
    return (A * log).sum("layer", skipna=False) / (A**2).sum("layer")


def train_images(dataset: xr.Dataset) -> str:
    """Returns the table of sensitivities, means over seeds, and the errors of each seed."""
    mean = dataset.mean("seed", skipna=False).sel(channels="all")
    columns = {
        f"{name} {state}": mean[name].sel(state=state)
        for state in ("init", "trained")
        for name in "DGR"
    }
    width = max(len(str(layer)) for layer in dataset.layer.values) + 1
    rows = ["layer".ljust(width) + "".join(f"{name:>10s}" for name in columns)]
    for layer in dataset.layer.values:
        values = (float(column.sel(layer=layer)) for column in columns.values())
        rows.append(
            f"{layer:{width}s}" + "".join(f"{v:10.4g}" if v == v else f"{'—':>10s}" for v in values)
        )
    rows.append("")
    for name in ("seed", "train_error", "validation_error", "test_error", "best_epoch", "epochs"):
        rows.append(f"{name:18s}" + "".join(f"{v:>9.4g}" for v in dataset[name].values))
    return "\n".join(rows)


def measure(dataset: xr.Dataset) -> str:
    """Returns the table of sensitivities: means over seeds, with their standard errors."""
    state = dataset.state.values[-1]
    mean = dataset.mean("seed", skipna=False)
    error = {name: ((dataset[f"{name}_error"] ** 2).mean("seed")) ** 0.5 for name in "DGR"}
    columns = [("D", "all"), ("G", "all"), ("R", "all"), ("R", "mean"), ("R", "shuffled")]
    if state == "trained":
        columns.append(("R", "init"))
    width = max(len(str(layer)) for layer in dataset.layer.values) + 1
    names = [name if kind == "all" else f"{name} {kind}" for name, kind in columns]
    rows = [
        f"network in state {state}; ± is the standard error over images and their copies",
        "layer".ljust(width) + "".join(f"{name:>21s}" for name in names),
    ]
    for layer in dataset.layer.values:
        row = str(layer).ljust(width)
        for name, kind in columns:
            at = {"state": state, "channels": kind, "layer": layer}
            if kind == "init":
                at |= {"state": "init", "channels": "all"}
            value, plus_minus = float(mean[name].sel(at)), float(error[name].sel(at))
            number = f"{value:.4g} ± {plus_minus:.2g}" if value == value else "—"
            row += f"{number:>21s}"
        rows.append(row)
    if "test_error" in dataset:
        errors = " ".join(f"{error:.4f}" for error in dataset.test_error.values)
        rows += ["", f"test error by seed {errors}, of {int(dataset.test_points[0])} images"]
    return "\n".join(rows)


def homogeneous(dataset: xr.Dataset) -> str:
    """Returns the tables that end a run."""
    rows = []
    for task in dataset.task.values:
        at = dataset.sel(task=task)
        noise = {name: at.sel(noise=name) for name in ("rectified", "unrectified")}
        rows += [
            f"{task}: exact sensitivities of the homogeneous network",
            "layer      A_k  std of A_k       D        G        R   G unrectified   laws hold",
        ]
        for layer in dataset.layer.values[at.receptive_field.notnull().values]:
            D, G, R, unrectified, A, std = (
                float(v.sel(layer=layer))
                for v in (
                    at.D,
                    noise["rectified"].G,
                    noise["rectified"].R,
                    noise["unrectified"].G,
                    at.receptive_field,
                    at.receptive_field_std,
                )
            )
            rows.append(
                f"{layer:8s}{A:6.2f}{std:12.2f}{D:8.4f}{G:9.3f}{R:9.4f}{unrectified:16.3f}"
                f"   {'yes' if at.scaling_holds.sel(layer=layer) else 'no'}"
            )
        within = at.isel(layer=at.scaling_holds.values)
        if within.layer.size >= 2:
            log_A = np.log(within.receptive_field)
            D, G = (
                np.polyfit(log_A, np.log(values), 1)[0]
                for values in (within.D, within.G.sel(noise="rectified"))
            )
            rows.append(
                f"exponents in A_k where the laws hold: D {D:+.2f}, G {G:+.2f}; "
                f"the laws: D {int(at.exponent_D):+d}, G {int(at.exponent_G):+d}"
            )
            rows += growth(within)
        rows.append("")
    return "\n".join(rows + proposition(dataset))


def growth(within: xr.Dataset) -> list[str]:
    """Returns the bias study as text: how much G grows over the layers where the laws hold."""
    ratio = within.G_with_bias.isel(layer=-1) / within.G_with_bias.isel(layer=0)
    first, last = within.layer.values[[0, -1]]
    return [
        f"G({last})/G({first}) of noise of magnitude sigma that meets a bias in the first layer",
        "   sigma \\ bias" + "".join(f"{b:8.2f}" for b in within.bias.values),
        *(
            f"{sigma:15.2f}" + "".join(f"{v:8.2f}" for v in ratio.sel(sigma=sigma).values)
            for sigma in within.sigma.values
        ),
    ]


def proposition(dataset: xr.Dataset) -> list[str]:
    """Returns Proposition A.1 as text: coefficients and distances from M^k."""
    k = dataset.steps.values[-1]
    rows = [
        "Proposition A.1, exact and as printed: coefficient D, drift v, and total variation "
        f"distance from M^k at k = {k}",
        "   F   D exact  printed   v exact  printed   distance exact  printed",
    ]
    for F in dataset.filter_size.values:
        exact, paper = (dataset.sel(filter_size=F, source=s) for s in ("exact", "paper"))
        columns = [
            float(part[name])
            for name in ("gaussian_coefficient", "gaussian_drift")
            for part in (exact, paper)
        ] + [float(part.gaussian_error[-1]) for part in (exact, paper)]
        rows.append(f"{F:4d}" + "{:10.4f}{:9.4f}{:10.3f}{:9.3f}{:17.4f}{:9.4f}".format(*columns))
    return rows


_OF_EXPERIMENT: dict[str, Callable[[xr.Dataset], str]] = {
    "homogeneous": homogeneous,
    "measure": measure,
    "scale_detection": scale_detection,
    "train_images": train_images,
}
