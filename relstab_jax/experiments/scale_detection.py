"""Section 4: many seeds of the simple CNN learn a scale-detection task; D, G, R of every layer."""

import math
import pathlib
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jax.sharding import NamedSharding
from jaxtyping import Array, Int, Integer, Key

from relstab_jax import models
from relstab_jax.config import (
    FLAG,
    SEED,
    SEEDS,
    Config,
    choice,
    optional,
    positive,
    real,
    whole,
)
from relstab_jax.config import check as check_fields
from relstab_jax.data import scale_detection as task
from relstab_jax.errors import InputError
from relstab_jax.keys import key_of
from relstab_jax.measures import diffusion, homogeneous, noise, sensitivity
from relstab_jax.measures.sensitivity import Sensitivity
from relstab_jax.models import Model, Variables, simple_cnn
from relstab_jax.training import losses
from relstab_jax.training.devices import collected, seed_sharding
from relstab_jax.training.loop import fit
from relstab_jax.training.sweep import Sweep, compile_sweep
from relstab_jax.training.sweep_state import Data, Descent, Network, StoppingRule

CHANNELS = ("all", "mean")
GEOMETRY = ("size", "xi", "filter_size", "stride", "depth", "strided_layers")
PRECISIONS = {"bfloat16": 2.0**-8, "tensorfloat32": 2.0**-11, "float32": 2.0**-24}
"""Of matrix products in training, with how far each rounds a number."""

TRAINING = {
    "task": choice(1, 2),
    "size": whole(2, 4096),
    "xi": whole(),
    "gap": whole(0),
    "train_points": whole(),
    "validation_points": whole(),
    "width": whole(1, 2**16),
    "depth": whole(1, 1024),
    "filter_size": whole(1, 4096),
    "stride": whole(1, 4096),
    "strided_layers": optional(whole(0, 1024)),
    "alpha": positive(),
    "seed": SEED,
    "seeds": SEEDS,
    "learning_rate": real(),
    "batch_size": whole(),
    "ridge": real(),
    "look_ahead": FLAG,
    "look_every": whole(),
    "patience": whole(),
    "max_epochs": whole(),
    "precision": choice(*PRECISIONS),
    "checkpoint_minutes": real(),
}
MEASUREMENT = {  # may change for a run that has been trained
    "copies": whole(1, 2**16),
    "rectified_noise": FLAG,
    "boundary": choice("wrap", "clamp"),
    "measure_batch_size": whole(),
}
FIELDS = TRAINING | MEASUREMENT


class Keys(NamedTuple):
    """The independent sources of randomness of one seed."""

    split: Key[Array, "..."]
    init: Key[Array, "..."]
    order: Key[Array, "..."]
    measure: Key[Array, "..."]


def seed_keys(seed: int, index: Integer[Array, ""]) -> Keys:
    """Returns the keys of seed `index`, whatever other seeds there are."""
    return Keys(*(key_of(seed, name, index) for name in Keys._fields))


def network(config: Config, active_pixels: int | None = None) -> Model:
    """Makes the CNN of a configuration; with `active_pixels`, for so many in an image."""
    return models.create(
        "SimpleCNN",
        num_classes=1,
        image_size=config.size,
        channels=1,
        width=config.width,
        depth=config.depth,
        filter_size=config.filter_size,
        stride=config.stride,
        strided_layers=config.strided_layers,
        alpha=config.alpha,
        active_pixels=active_pixels,
    )


def check(config: Config) -> None:
    """Raises an InputError where the configuration asks for what cannot be."""
    check_fields(config, FIELDS)
    _, labels = task.points(config.task, config.size, config.xi, config.gap)
    task.split_sizes(labels, config.train_points, config.validation_points)
    network(config)
    batch, P = config.batch_size, config.train_points
    if not 0 < batch <= P:
        raise InputError(f"batch_size={batch} must lie between 1 and train_points={P}")
    if P % batch:
        raise InputError(f"batch_size={batch} does not divide train_points={P}")
    if config.max_epochs % config.look_every:
        raise InputError(
            f"max_epochs={config.max_epochs} must be a multiple of look_every={config.look_every}"
        )
    if descent(config).decay <= 0:
        raise InputError(
            f"learning_rate={config.learning_rate} times ridge={config.ridge} is too large: a step "
            f"would turn the filters round; it must be below depth/2 = {config.depth / 2:g}"
        )


def run(config: Config, workdir: pathlib.Path) -> xr.Dataset:
    """Trains and measures all seeds.

    Returns:
        D, G, R [state, channels, seed, layer]; mean_filter [state, seed, layer, tap], the raw
        filters averaged over channels (Tables 1, 2); train_error, test_error, train_loss, epochs,
        interpolation_epoch and diverged [seed]; exact_D, exact_G, exact_R [seed, layer], of the
        homogeneous network on the same test points; exponent_D and exponent_G of the asymptotic
        laws, in the receptive_field [layer].
    """
    model = network(config)
    sharding = seed_sharding(len(config.seeds))
    S = len(config.seeds)
    keys, points = prepare(config, sharding)
    data, test = training_data(config, keys.order, points, sharding), points["test"]

    with jax.default_matmul_precision(config.precision):
        sweep = make_sweep(config, sharding)
        initial = sweep.start(keys.init)
        trained = fit(
            sweep,
            keys.init,
            data,
            seeds=S,
            workdir=workdir,
            checkpoint_minutes=config.checkpoint_minutes,
        )

    print(f"Measuring D, G and R of every layer of {S} seeds.", flush=True)

    def evaluate(*seed: Any) -> dict[str, Array]:
        return evaluation(config, model, *seed)

    evaluate = jax.jit(jax.vmap(evaluate), out_shardings=sharding)
    with jax.default_matmul_precision("highest"):
        at_init, at_end = (
            collected(evaluate(variables, keys.measure, points["train"], test), S)
            for variables in (initial.variables, sweep.trained(trained))
        )

    def both(name: str) -> np.ndarray:
        return np.stack([at_init[name], at_end[name]])

    geometry = {name: config[name] for name in GEOMETRY}
    exact = [
        homogeneous.sensitivities(
            config.task,
            **geometry,
            gap=config.gap,
            boundary=config.boundary,
            rectified=config.rectified_noise,
            positions=chosen,
        )
        for chosen in collected(test[0], S)
    ]
    laws = diffusion.scaling_laws(**geometry)
    of_seed = {
        name: collected(getattr(trained, name), S)
        for name in ("epochs", "interpolation_epoch", "diverged")
    }
    return xr.Dataset(
        {name: (("state", "seed", "channels", "layer"), both(name)) for name in "DGR"}
        | {
            f"exact_{name}": (("seed", "layer"), np.stack([getattr(e, name) for e in exact]))
            for name in "DGR"
        }
        | {"mean_filter": (("state", "seed", "layer", "tap"), both("mean_filter"))}
        | {name: ("seed", value) for name, value in of_seed.items()}
        | {name: ("seed", at_end[name]) for name in ("train_loss", "train_error", "test_error")}
        | {"exponent_D": laws.D, "exponent_G": laws.G},
        coords={
            "state": ["init", "trained"],
            "channels": list(CHANNELS),
            "seed": list(config.seeds),
            "layer": [f"conv{k}" for k in range(1, config.depth + 1)],
            "receptive_field": ("layer", laws.A),
            "fitted": ("layer", np.arange(1, config.depth + 1) <= fitted_layers(config)),
        },
    ).transpose("state", "channels", "seed", "layer", "tap")


Points = tuple[Int[Array, "S P 2"], Int[Array, "S P"]]  # positions and labels


def prepare(config: Config, sharding: NamedSharding) -> tuple[Keys, dict[str, Points]]:
    """Draws the keys of every seed and its points, "train", "validation" and "test".

    The last seed is repeated where the seed axis is longer than `config.seeds`.
    """
    positions, labels = task.points(config.task, config.size, config.xi, config.gap)
    missing = -len(config.seeds) % sharding.num_devices
    index = np.array([*config.seeds, *[config.seeds[-1]] * missing], np.uint32)

    def of_seed(index: Integer[Array, ""]) -> tuple[Keys, dict[str, tuple[Array, Array]]]:
        keys = seed_keys(config.seed, index)
        split = task.split(keys.split, labels, config.train_points, config.validation_points)
        return keys, {
            name: (jnp.asarray(positions)[chosen], jnp.asarray(labels)[chosen])
            for name, chosen in split._asdict().items()
        }

    return jax.jit(jax.vmap(of_seed), out_shardings=sharding)(index)


def training_data(
    config: Config,
    orders: Key[Array, " S"],
    points: dict[str, Points],
    sharding: NamedSharding,
) -> Data:
    """Makes what a sweep learns from of positions and labels, "train" and "validation"."""
    strides = layer_strides(config)

    def distinct(name: str) -> simple_cnn.DistinctPatches:
        positions = collected(points[name][0], len(orders))
        images = np.asarray(task.images(jnp.asarray(positions), config.size))
        made = [simple_cnn.distinct(each, config.filter_size, strides) for each in images]
        return jax.device_put(simple_cnn.stacked(made), sharding)

    images = jax.jit(lambda positions: task.images(positions, config.size), out_shardings=sharding)
    positions, labels = points["train"]
    return Data(
        orders,
        images(positions),
        labels,
        distinct("train"),
        (distinct("validation"), points["validation"][1]),
    )


def layer_strides(config: Config) -> tuple[int, ...]:
    """Returns the stride of each layer."""
    strided = config.depth if config.strided_layers is None else config.strided_layers
    return (config.stride,) * strided + (1,) * (config.depth - strided)


def make_sweep(config: Config, sharding: NamedSharding) -> Sweep:
    """Compiles the training of a configuration, on images of points of the task and no others."""
    model = network(config, active_pixels=2)

    def outputs_at(variables: Variables, decay: Array, images: simple_cnn.DistinctPatches) -> Array:
        return simple_cnn.outputs(variables, images, decay, config.alpha)[..., 0]

    return compile_sweep(
        Network(
            model.init,
            lambda variables, decay, images: model.apply(variables, images, decay)[:, 0],
            outputs_at,
            simple_cnn.with_kernels_times,
        ),
        descent(config),
        StoppingRule(config.look_every, config.patience, config.max_epochs),
        train_points=config.train_points,
        sharding=sharding,
    )


def descent(config: Config) -> Descent:
    """Returns the steps on hinge loss + ridge · Σ‖w‖²/(HK), of size learning_rate · H (App. B.2).

    Outputs change by a factor of about exp(-shrinking) in a step that learns nothing. The window
    over which margins are foreseen is so long that their bound is off by some three steps.
    """
    shrinking = 2 * config.learning_rate * config.ridge
    ahead = 2 * math.ceil(math.sqrt(3 / max(shrinking, 1e-6)))
    return Descent(
        rate=config.learning_rate * config.width,
        decay=1 - shrinking / config.depth,
        batch_size=config.batch_size,
        ahead=ahead if config.look_ahead else 0,
        rounding=128 * PRECISIONS[config.precision],
    )


def evaluation(
    config: Config,
    model: Model,
    variables: Variables,
    key: Key[Array, ""],
    train: tuple[Int[Array, "P 2"], Int[Array, " P"]],
    test: tuple[Int[Array, "T 2"], Int[Array, " T"]],
) -> dict[str, Array]:
    """Returns what is known of one network: sensitivities on the test points, errors, filters.

    Each test point has `config.copies` deformations and noises. The noise has the variance, mean
    over examples and pixels, of the deformations (App. B.2).

    Returns:
        D, G, R [channels, layer], channels all and mean; mean_filter [layer, tap]; train_loss,
        train_error and test_error.
    """
    positions, labels = test
    x = task.images(positions, config.size)
    moved = task.deform(
        key_of(key, "deform"),
        jnp.repeat(positions[:, None], config.copies, axis=1),
        task=config.task,
        size=config.size,
        xi=config.xi,
        boundary=config.boundary,
    )
    deformed = task.images(moved, config.size)
    variance = jnp.mean((deformed - x[:, None]) ** 2)
    noisy = x[:, None] + noise.gaussian(
        key_of(key, "noise"), deformed, variance, config.rectified_noise
    )

    def features(x: Array) -> dict[str, list[Array]]:
        f = list(model.features(variables, x).values())
        return {"all": f, "mean": [layer.mean(axis=-1) for layer in f]}

    found = sensitivity.streamed(features, x, deformed, noisy, batch_size=config.measure_batch_size)
    stacked = {
        name: jnp.stack([jnp.stack([getattr(layer, name) for layer in found[c]]) for c in CHANNELS])
        for name in Sensitivity._fields
    }

    def outputs(x: Array) -> Array:
        return jax.lax.map(
            lambda one: model.apply(variables, one[None])[0, 0],
            x,
            batch_size=config.measure_batch_size,
        )

    on_train, on_test = outputs(task.images(train[0], config.size)), outputs(x)
    return stacked | {
        "mean_filter": jnp.stack([w.mean(axis=(1, 2)) for w in simple_cnn.kernels(variables)]),
        "train_loss": losses.hinge(on_train, train[1]),
        "train_error": losses.error(on_train, train[1]),
        "test_error": losses.error(on_test, labels),
    }


def fitted_layers(config: Config) -> int:
    """Returns up to which layer exponents are read off.

    With strides, up to where a receptive field is still smaller than ξ: from there on no move that
    keeps the label changes the representation. Without, over the first two thirds of the layers.
    """
    if config.stride == 1:
        return max(2, 2 * config.depth // 3)
    return max(2, sum(config.stride**k < config.xi for k in range(1, config.depth + 1)))


def exponents(dataset: xr.Dataset, name: str) -> xr.DataArray:
    """Returns the slopes of log D_k or log G_k, means over seeds, against log A_k.

    Least squares over the fitted layers of a results dataset; one slope for each state and
    channels.
    """
    fitted = dataset.isel(layer=dataset.fitted.values)
    A = np.log(fitted.receptive_field)
    A = A - A.mean()
    log = np.log(fitted[name].mean("seed", skipna=False))
    return (A * log).sum("layer", skipna=False) / (A**2).sum("layer")


def summary(dataset: xr.Dataset) -> str:
    """Returns the tables that end a run: sensitivities, exponents, mean filters and errors.

    Means are over the seeds that did not diverge, if there are any.
    """
    diverged = dataset.diverged.values
    sound = dataset if diverged.all() else dataset.isel(seed=~diverged)
    sound = sound.astype(float)  # squares of weights that diverged overflow in float32
    mean = sound.mean("seed", skipna=False)
    trained, initial = (mean.sel(state=state) for state in ("trained", "init"))
    ratios = [
        (sound[name].sel(state="trained", channels="mean") / sound[f"exact_{name}"])
        .where(sound[f"exact_{name}"] > 0)
        .mean("seed", skipna=False)
        for name in "DG"
    ]
    columns = {
        "A_k": dataset.receptive_field,
        "D": trained.D.sel(channels="all"),
        "G": trained.G.sel(channels="all"),
        "R": trained.R.sel(channels="all"),
        "mean ch. D": trained.D.sel(channels="mean"),
        "G ": trained.G.sel(channels="mean"),
        "/exact D": ratios[0],
        "/exact G": ratios[1],
        "init D": initial.D.sel(channels="all"),
        "init G": initial.G.sel(channels="all"),
    }
    rows = ["layer " + "".join(f"{name:>11s}" for name in columns)]
    for layer in dataset.layer.values:
        values = (float(column.sel(layer=layer)) for column in columns.values())
        rows.append(
            f"{layer:6s}" + "".join(f"{v:11.4g}" if v == v else f"{'—':>11s}" for v in values)
        )

    last = int(dataset.fitted.sum())
    rows += ["", f"exponents in A_k over the first {last} layers:"]
    slopes = {name: exponents(sound, name) for name in "DG"}
    for state, channels in (("trained", "all"), ("trained", "mean"), ("init", "all")):
        D, G = (float(slopes[n].sel(state=state, channels=channels)) for n in "DG")
        rows.append(f"  {state + ', channels ' + channels:24s} D {D:+.2f}   G {G:+.2f}")
    laws = f"D {int(dataset.exponent_D):+d}      G {int(dataset.exponent_G):+d}"
    rows.append(f"  {'asymptotic law':24s} {laws}")

    deviation = sound.mean_filter.std("seed", skipna=False)
    rows += ["", "mean filters, with their deviation over seeds:"]
    for layer in dataset.layer.values:
        states = []
        for state in ("init", "trained"):
            taps = mean.mean_filter.sel(state=state, layer=layer).values
            spread = float(deviation.sel(state=state, layer=layer).mean())
            states.append(f"{state} " + " ".join(f"{w:8.4f}" for w in taps) + f" ± {spread:.4f}")
        rows.append(f"{layer:6s}  " + "    ".join(states))

    rows.append("")
    for name in ("seed", "train_error", "test_error", "interpolation_epoch", "epochs"):
        rows.append(f"{name:20s}" + "".join(f"{v:>9.4g}" for v in dataset[name].values))
    if diverged.any():
        rows.append(f"diverged: seeds {dataset.seed.values[diverged].tolist()}")
    return "\n".join(rows)
