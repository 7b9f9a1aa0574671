"""Tables of results for the terminal, one for each experiment."""

from collections.abc import Callable, Sequence

import numpy as np
import xarray as xr


def summary(dataset: xr.Dataset) -> str:
    """Returns the tables of an experiment's results, which its run ends with."""
    return _OF_EXPERIMENT[dataset.attrs["config"]["experiment"]](dataset)


def scale_detection(dataset: xr.Dataset) -> str:
    """Returns the tables of sensitivities, exponents, mean filters and errors.

    Means are over the seeds that did not diverge, if there are any.
    """
    diverged = dataset.diverged.values
    sound = dataset if diverged.all() else dataset.isel(seed=~diverged)
    sound = sound.astype(float)  # squares of weights that diverged overflow in float32
    mean = sound.mean("seed", skipna=False)
    trained, initial = (mean.sel(state=state) for state in ("trained", "init"))
    layers = dataset.layer.values
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
    rows = _by_layer(layers, {name: _cells(values) for name, values in columns.items()})

    ratios = {}
    for of in ("exact", "filters"):
        for name in "DG":
            theory = sound[f"{of}_{name}"]
            ratio = sound[name].sel(state="trained", channels="mean") / theory.where(theory > 0)
            ratios[f"{name} / {of}"] = _cells(ratio.mean("seed", skipna=False))
    rows += ["", "mean channel, over the exact values of one channel with equal taps (exact)"]
    rows += ["and with the mean filters (filters, up to the first negative tap):"]
    rows += _by_layer(layers, ratios)

    fitted = mean.isel(layer=dataset.fitted.values)
    rows += ["", f"exponents in A_k over the first {fitted.sizes['layer']} layers:"]
    for state, channels in (("trained", "all"), ("trained", "mean"), ("init", "all")):
        at = fitted.sel(state=state, channels=channels)
        D, G = (_slope(at[name], fitted.receptive_field) for name in "DG")
        rows.append(f"  {state + ', channels ' + channels:24s} D {D:+.2f}   G {G:+.2f}")
    laws = f"D {int(dataset.exponent_D):+d}      G {int(dataset.exponent_G):+d}"
    rows.append(f"  {'asymptotic law':24s} {laws}")

    several = sound.sizes["seed"] > 1
    deviation = sound.mean_filter.std("seed", skipna=False)
    rows += ["", "mean filters, with their deviation over seeds:" if several else "mean filters:"]
    for layer in layers:
        states = []
        for state in ("init", "trained"):
            taps = mean.mean_filter.sel(state=state, layer=layer).values
            spread = float(deviation.sel(state=state, layer=layer).mean())
            filter = " ".join(f"{w:8.4f}" for w in taps)
            states.append(f"{state} {filter}" + (f" ± {spread:.4f}" if several else ""))
        rows.append(f"{layer:6s}  " + "    ".join(states))

    names = ("seed", "train_error", "test_error", "interpolation_epoch", "epochs")
    rows += ["", *_by_seed(dataset, names)]
    if diverged.any():
        rows.append(f"diverged: seeds {dataset.seed.values[diverged].tolist()}")
    return "\n".join(rows)


def train_images(dataset: xr.Dataset) -> str:
    """Returns the table of sensitivities, means over seeds, and the errors of each seed."""
    mean = dataset.mean("seed", skipna=False).sel(channels="all")
    columns = {
        f"{name} {state}": _cells(mean[name].sel(state=state))
        for state in ("init", "trained")
        for name in "DGR"
    }
    names = ("seed", "train_error", "validation_error", "test_error", "best_epoch", "epochs")
    rows = [*_by_layer(dataset.layer.values, columns), "", *_by_seed(dataset, names)]
    return "\n".join(rows)


def measure(dataset: xr.Dataset) -> str:
    """Returns the table of sensitivities: means over seeds, with their standard errors."""

    def column(name: str, state: str, channels: str) -> list[str]:
        at = dataset.sel(state=state, channels=channels)
        errors = (at[f"{name}_error"] ** 2).mean("seed") ** 0.5
        return _cells(at[name].mean("seed", skipna=False), errors)

    state = dataset.state.values[-1]
    columns = {name: column(name, state, "all") for name in "DGR"}
    columns |= {f"R {channels}": column("R", state, channels) for channels in ("mean", "shuffled")}
    if state == "trained":
        columns["R init"] = column("R", "init", "all")
    rows = [f"network in state {state}; ± is the standard error over images and their copies"]
    rows += _by_layer(dataset.layer.values, columns, width=21)
    if "test_error" in dataset:
        errors = " ".join(f"{error:.4f}" for error in dataset.test_error.values)
        rows += ["", f"test error by seed {errors}, of {int(dataset.test_points[0])} images"]
    return "\n".join(rows)


def homogeneous(dataset: xr.Dataset) -> str:
    """Returns the tables of both tasks and of Proposition A.1."""
    rows = []
    for task in dataset.task.values:
        at = dataset.sel(task=task)
        rectified, unrectified = (at.sel(noise=noise) for noise in ("rectified", "unrectified"))
        columns = [
            (at.receptive_field, "6.2f"),
            (at.receptive_field_std, "12.2f"),
            (at.D, "8.4f"),
            (rectified.G, "9.3f"),
            (rectified.R, "9.4f"),
            (unrectified.G, "16.3f"),
        ]
        rows += [
            f"{task}: exact sensitivities of the homogeneous network",
            "layer      A_k  std of A_k       D        G        R   G unrectified   laws hold",
        ]
        for layer in dataset.layer.values[at.receptive_field.notnull().values]:
            cells = (f"{float(values.sel(layer=layer)):{form}}" for values, form in columns)
            holds = "yes" if at.scaling_holds.sel(layer=layer) else "no"
            rows.append(f"{layer:8s}{''.join(cells)}   {holds}")
        within = at.isel(layer=at.scaling_holds.values)
        if within.layer.size >= 2:
            G = within.G.sel(noise="rectified")
            of_D, of_G = (_slope(values, within.receptive_field) for values in (within.D, G))
            rows.append(
                f"exponents in A_k where the laws hold: D {of_D:+.2f}, G {of_G:+.2f}; "
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


def _by_layer(layers: np.ndarray, columns: dict[str, list[str]], width: int = 12) -> list[str]:
    """Returns the lines of a table with a row for each layer.

    Args:
        layers: their names.
        columns: {title: cells}.
        width: of a column.
    """
    rows = [("layer", *columns), *zip(layers, *columns.values(), strict=True)]
    longest = max(len(layer) for layer, *_ in rows)
    return [
        f"{layer:{longest + 1}s}" + "".join(f"{cell:>{width}s}" for cell in cells)
        for layer, *cells in rows
    ]


def _cells(values: xr.DataArray, errors: xr.DataArray | None = None) -> list[str]:
    """Returns numbers, perhaps with their standard errors, as text; a dash for NaN."""
    texts = [f"{value:.4g}" for value in values.values]
    if errors is not None:
        texts = [f"{text} ± {error:.2g}" for text, error in zip(texts, errors.values, strict=True)]
    return np.where(values.isnull(), "—", texts).tolist()


def _by_seed(dataset: xr.Dataset, names: Sequence[str]) -> list[str]:
    """Returns a line for each variable over seed."""
    return [f"{name:20s}" + "".join(f"{v:>9.4g}" for v in dataset[name].values) for name in names]


def _slope(values: xr.DataArray, A: xr.DataArray) -> float:
    """Fits an exponent: the slope of log values over layer against log A_k, by least squares."""
    log_A = np.log(A) - np.log(A).mean()
    return float((log_A * np.log(values)).sum("layer", skipna=False) / (log_A**2).sum())


_OF_EXPERIMENT: dict[str, Callable[[xr.Dataset], str]] = {
    "homogeneous": homogeneous,
    "measure": measure,
    "scale_detection": scale_detection,
    "train_images": train_images,
}
