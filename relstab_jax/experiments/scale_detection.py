"""Section 4: many seeds of the simple CNN learn a scale-detection task; D, G, R of every layer."""

import pathlib
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import xarray as xr
from jaxtyping import Array, Float, Int, Key
from ml_collections import ConfigDict

from relstab_jax import models
from relstab_jax.data import scale_detection as task
from relstab_jax.errors import InputError
from relstab_jax.measures import noise, sensitivity
from relstab_jax.measures.sensitivity import Sensitivity
from relstab_jax.models import Model, Variables, simple_cnn
from relstab_jax.training import losses
from relstab_jax.training.fit import fit
from relstab_jax.training.sweep import Data, Rules, compile_sweep, seed_sharding

CHANNELS = ("all", "mean")


class Keys(NamedTuple):
    """The independent sources of randomness of one seed."""

    split: Key[Array, "..."]
    init: Key[Array, "..."]
    order: Key[Array, "..."]
    measure: Key[Array, "..."]


def seed_keys(seed: int, index: Int[Array, ""]) -> Keys:
    """Returns the keys of seed `index`, whatever other seeds there are."""
    return Keys(
        *jax.random.split(jax.random.fold_in(jax.random.key(seed), index), len(Keys._fields))
    )


def network(config: ConfigDict) -> Model:
    """Makes the CNN of a configuration."""
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
    )


def check(config: ConfigDict) -> None:
    """Raises an InputError where the configuration asks for what cannot be."""
    _, labels = task.points(config.task, config.size, config.xi, config.gap)
    task.split_sizes(labels, config.train_points, config.validation_points)
    network(config)
    batch, P = config.batch_size, config.train_points
    if not 0 < batch <= P:
        raise InputError(f"batch_size={batch} must lie between 1 and train_points={P}")
    if P % batch:
        raise InputError(f"batch_size={batch} does not divide train_points={P}")
    seeds = config.seeds
    if not seeds:
        raise InputError("seeds=() names no seed: use for instance --config.seeds=0,1,2,3")
    if len(set(seeds)) < len(seeds):
        twice = sorted({s for s in seeds if seeds.count(s) > 1})
        raise InputError(f"seeds={tuple(seeds)} names {twice} more than once")
    if min(seeds) < 0:
        raise InputError(f"seeds={tuple(seeds)} must not be negative")
    for field in ("look_every", "patience", "max_epochs", "copies", "measure_batch_size"):
        if config[field] < 1:
            raise InputError(f"{field}={config[field]} must be at least 1")
    if config.max_epochs % config.look_every:
        raise InputError(
            f"max_epochs={config.max_epochs} must be a multiple of look_every={config.look_every}"
        )
    if config.boundary not in ("wrap", "clamp"):
        raise InputError(f"boundary={config.boundary!r} is not known: use 'wrap' or 'clamp'")


def run(config: ConfigDict, workdir: pathlib.Path) -> xr.Dataset:
    """Trains and measures all seeds.

    Returns:
        D, G, R [state, channels, seed, layer]; mean_filter [state, seed, layer, tap], the raw
        filters averaged over channels (Tables 1, 2); train_error, test_error, train_loss, epochs,
        interpolation_epoch and diverged [seed]; test_positions [seed, point, pixel].
    """
    model = network(config)
    positions, labels = task.points(config.task, config.size, config.xi, config.gap)
    sharding = seed_sharding(len(config.seeds))
    S = len(config.seeds)
    padded = -(-S // sharding.num_devices) * sharding.num_devices
    index = jnp.array([*config.seeds, *[config.seeds[-1]] * (padded - S)])

    def inputs_and_labels(chosen: Int[Array, " n"]) -> tuple[Array, Array]:
        return task.images(jnp.asarray(positions)[chosen], config.size), jnp.asarray(labels)[chosen]

    def prepare(index: Int[Array, ""]) -> tuple[Keys, task.Split, Data]:
        keys = seed_keys(config.seed, index)
        split = task.split(keys.split, labels, config.train_points, config.validation_points)
        data = Data(keys.order, inputs_and_labels(split.train), inputs_and_labels(split.validation))
        return keys, split, data

    keys, split, data = jax.jit(jax.vmap(prepare), out_shardings=sharding)(index)

    rules = Rules(config.look_every, config.patience, config.max_epochs)
    with jax.default_matmul_precision(config.precision):
        sweep = compile_sweep(
            model,
            optax.sgd(config.learning_rate * config.width),
            objective(model, config.ridge),
            rules,
            train_points=config.train_points,
            batch_size=config.batch_size,
            sharding=sharding,
        )
        trained = fit(
            sweep,
            keys.init,
            data,
            rules,
            seeds=S,
            sharding=sharding,
            workdir=workdir,
            checkpoint_minutes=config.checkpoint_minutes,
        )

    print(f"Measuring D, G and R of every layer of {S} seeds.", flush=True)
    evaluate = jax.jit(
        jax.vmap(lambda *seed: evaluation(config, model, *seed)), out_shardings=sharding
    )
    test = jnp.asarray(positions)[split.test], jnp.asarray(labels)[split.test]
    with jax.default_matmul_precision("highest"):
        states = [
            jax.tree.map(lambda a: np.asarray(a)[:S], evaluate(v, keys.measure, data.train, test))
            for v in (sweep.start(keys.init).variables, trained.variables)
        ]
    at_init, at_end = states

    def both(name: str) -> np.ndarray:
        return np.stack([at_init[name], at_end[name]])

    of_seed = {"epochs": trained.epochs, "interpolation_epoch": trained.interpolation_epoch}
    of_seed |= {"diverged": trained.diverged}
    k = np.arange(1, config.depth + 1)
    strided = config.depth if config.strided_layers is None else config.strided_layers
    return xr.Dataset(
        {name: (("state", "seed", "channels", "layer"), both(name)) for name in "DGR"}
        | {"mean_filter": (("state", "seed", "layer", "tap"), both("mean_filter"))}
        | {name: ("seed", np.asarray(value)[:S]) for name, value in of_seed.items()}
        | {name: ("seed", at_end[name]) for name in ("train_loss", "train_error", "test_error")},
        coords={
            "state": ["init", "trained"],
            "channels": list(CHANNELS),
            "seed": list(config.seeds),
            "layer": [f"conv{i}" for i in k],
            "receptive_field": (
                "layer",
                np.sqrt(k) if config.stride == 1 else 1.0 * config.stride ** k.clip(max=strided),
            ),
        },
    ).transpose("state", "channels", "seed", "layer", "tap")


def objective(model: Model, ridge: float) -> Callable[..., tuple[Array, Array]]:
    """Returns (variables, inputs, labels) -> (hinge loss + ridge · Σ‖w‖²/(HK), hinge loss)."""

    def loss(variables: Variables, x: Array, y: Array) -> tuple[Array, Array]:
        hinge = losses.hinge(model.apply(variables, x)[:, 0], y)
        return hinge + ridge * losses.ridge(simple_cnn.kernels(variables)), hinge

    return loss


def evaluation(
    config: ConfigDict,
    model: Model,
    variables: Variables,
    key: Key[Array, ""],
    train: tuple[Float[Array, "P L 1"], Int[Array, " P"]],
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
    key_deform, key_noise = jax.random.split(key)
    moved = task.deform(
        key_deform,
        jnp.repeat(positions[:, None], config.copies, axis=1),
        task=config.task,
        size=config.size,
        xi=config.xi,
        boundary=config.boundary,
    )
    deformed = task.images(moved, config.size)
    variance = jnp.mean((deformed - x[:, None]) ** 2)
    noisy = x[:, None] + noise.gaussian(key_noise, deformed, variance, config.rectified_noise)

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

    on_train, on_test = outputs(train[0]), outputs(x)
    return stacked | {
        "mean_filter": jnp.stack([w.mean(axis=(1, 2)) for w in simple_cnn.kernels(variables)]),
        "train_loss": losses.hinge(on_train, train[1]),
        "train_error": losses.error(on_train, train[1]),
        "test_error": losses.error(on_test, labels),
    }


def scaling_layers(config: ConfigDict) -> int:
    """Returns up to which layer the scalings are read off.

    With strides, up to where a receptive field is still smaller than ξ: from there on moves that
    keep the label keep the representation. Without, over the first two thirds of the layers.
    """
    if config.stride == 1:
        return max(2, 2 * config.depth // 3)
    return max(2, sum(config.stride**k < config.xi for k in range(1, config.depth + 1)))


def exponent(
    receptive_field: Float[np.ndarray, " K"], values: Float[np.ndarray, "*stack K"]
) -> Float[np.ndarray, "*stack"]:
    """Returns the slope of log values against log A_k, by least squares."""
    A = np.log(receptive_field) - np.log(receptive_field).mean()
    return np.log(values) @ A / (A @ A)


def summary(dataset: xr.Dataset) -> str:
    """Returns the table that ends a run: sensitivities and filters by layer, exponents, errors."""
    config = ConfigDict(dataset.attrs["config"])
    mean = dataset.mean("seed", skipna=True)
    rows = [
        "layer      A_k |  trained: D       G       R |  mean ch.: D      G |  init: D       G | filter"
    ]
    for layer in dataset.layer.values:
        at = mean.sel(layer=layer)
        t, m, i = (
            at.sel(state=state, channels=channels)
            for state, channels in (("trained", "all"), ("trained", "mean"), ("init", "all"))
        )
        taps = " ".join(f"{w:7.4f}" for w in at.mean_filter.sel(state="trained").values)
        rows.append(
            f"{layer:8s}{float(at.receptive_field):6.2f} |   {float(t.D):8.4f}{float(t.G):8.3f}"
            f"{float(t.R):8.4f} |   {float(m.D):8.4f}{float(m.G):7.3f} |"
            f"{float(i.D):8.4f}{float(i.G):8.3f} | {taps}"
        )
    K = scaling_layers(config)
    A = dataset.receptive_field.values[:K]
    rows.append(f"exponents in A_k over the first {K} layers (mean over seeds):")
    law = {"D": -2 if config.stride == 1 else -1, "G": 1}
    for state, channels in (("trained", "all"), ("trained", "mean"), ("init", "all")):
        part = dataset.sel(state=state, channels=channels).transpose("seed", "layer", ...)
        slopes = {n: np.nanmean(exponent(A, part[n].values[:, :K])) for n in law}
        text = ", ".join(f"{n} {slope:+.2f}" for n, slope in slopes.items())
        rows.append(f"  {state:8s}channels {channels:5s} {text}")
    rows.append(
        f"  Eqs. {'5, 7' if config.stride == 1 else '8, 9'}:{'':13s} D {law['D']:+d}, G {law['G']:+d}"
    )
    for name in ("train_error", "test_error", "interpolation_epoch", "epochs"):
        rows.append(f"{name:20s}" + " ".join(f"{v:.4g}" for v in dataset[name].values))
    if dataset.diverged.any():
        rows.append(f"diverged: seeds {dataset.seed.values[dataset.diverged.values].tolist()}")
    return "\n".join(rows)
