"""Trains seeds of the simple CNN on a scale-detection task and measures every layer (Section 4)."""

import math
import pathlib
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jax.sharding import NamedSharding
from jaxtyping import Array, Float, Int, Integer, Key

from relstab_jax import layerwise, models
from relstab_jax.config import Config
from relstab_jax.data import scale_detection as task
from relstab_jax.errors import InputError
from relstab_jax.fields import (
    FLAG,
    SEED,
    SEEDS,
    choice,
    optional,
    positive,
    real,
    several,
    whole,
)
from relstab_jax.fields import check as check_fields
from relstab_jax.keys import key_of, keys_of
from relstab_jax.measures.noise import EqualVariance
from relstab_jax.messages import log
from relstab_jax.models import Model, Variables, patches, simple_cnn
from relstab_jax.theory import diffusion, homogeneous
from relstab_jax.training import losses
from relstab_jax.training.checkpoints import Snapshots, check_epochs
from relstab_jax.training.devices import (
    collected,
    gathered,
    on_devices,
    seed_sharding,
    share_of_process,
)
from relstab_jax.training.loop import Training, fit
from relstab_jax.training.sweep import compile_sweep
from relstab_jax.training.sweep_state import Data, Descent, Network, StoppingRule

CHANNELS = ("all", "mean")
GEOMETRY = ("size", "filter_size", "stride", "depth", "strided_layers")
# Of matrix products in training, with the relative rounding error of each.
PRECISIONS = {"bfloat16": 2.0**-8, "tensorfloat32": 2.0**-11, "float32": 2.0**-24}

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
    "measure_at": optional(several(whole(0))),  # the training keeps the networks of these epochs
}
MEASUREMENT = {  # may change for a run that has been trained
    "copies": whole(1, 2**16),
    "rectified_noise": FLAG,
    "boundary": choice("wrap", "clamp"),
    "measure_batch_size": whole(),
}
FIELDS = TRAINING | MEASUREMENT


class Keys(NamedTuple):
    """Keys of one seed."""

    split: Key[Array, "..."]
    init: Key[Array, "..."]
    order: Key[Array, "..."]


Points = tuple[Int[Array, "S P 2"], Int[Array, "S P"]]  # positions and labels


def network(config: Config, active_pixels: int | None = None) -> Model:
    """Makes the CNN of a configuration, optionally for images of `active_pixels` active pixels."""
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
    """Checks a configuration.

    Raises:
        InputError: if a field is out of range, or fields contradict each other.
    """
    check_fields(config, FIELDS)
    _, labels = task.points(config.task, config.size, config.xi, config.gap)
    task.split_sizes(labels, config.train_points, config.validation_points)
    network(config)
    if config.train_points % config.batch_size:
        raise InputError(
            f"batch_size={config.batch_size} must divide train_points={config.train_points}"
        )
    if config.max_epochs % config.look_every:
        raise InputError(
            f"max_epochs={config.max_epochs} must be a multiple of look_every={config.look_every}"
        )
    check_epochs(config.measure_at, config.max_epochs, "max_epochs")
    if descent(config).decay <= 0:
        raise InputError(
            f"learning_rate={config.learning_rate} times ridge={config.ridge} is too large: a step "
            f"would flip the sign of the filters; it must be below depth/2 = {config.depth / 2:g}"
        )


def run(config: Config, workdir: pathlib.Path) -> xr.Dataset:
    """Trains and measures all seeds.

    Returns:
        D, G, R and their standard errors D_error, G_error, R_error [state, channels, seed, layer];
        mean_filter [state, seed, layer, tap], the raw filters averaged over channels (Tables 1, 2);
        train_error, test_error, train_loss, epochs, interpolation_epoch and diverged [seed];
        exact_D, exact_G, exact_R [seed, layer], of the homogeneous network on the same test points;
        filters_D, filters_G, filters_R [seed, layer], of one channel with the trained mean filters;
        exponent_D and exponent_G of the asymptotic laws, in the receptive_field [layer]; and which
        layers are fitted [layer], as of `fitted_layers`. If there are epochs in `measure_at`,
        along_D and so on [epoch, channels, seed, layer] and along_test_error [epoch, seed]; from
        the epoch on at which a seed stops, its values stay the same.
    """
    S = len(config.seeds)
    sharding = seed_sharding(S)
    init_keys, points, data = prepare(config, sharding)
    snapshots = Snapshots(workdir, config.measure_at)

    with jax.default_matmul_precision(config.precision):
        sweep = make_sweep(config, sharding)
        initial = sweep.start(init_keys).variables
        trained = fit(
            sweep,
            init_keys,
            data,
            seeds=S,
            workdir=workdir,
            checkpoint_minutes=config.checkpoint_minutes,
            snapshots=snapshots,
        )
        last = sweep.variables(trained, config.max_epochs * sweep.steps_per_epoch)

    log.info(f"Measuring D, G and R of every layer of {S} seeds.")
    model = network(config)
    test_positions = collected(points["test"][0], S)
    evaluate = jax.jit(jax.vmap(partial(errors, config, model)), out_shardings=sharding)

    def measured(networks: Variables) -> xr.Dataset:
        return sensitivities(config, model, networks, test_positions)

    def evaluated(variables: Variables) -> dict[str, np.ndarray]:
        with jax.default_matmul_precision("highest"):
            return collected(evaluate(variables, points["train"], points["test"]), S)

    states = {"init": collected(initial, S), "trained": collected(last, S)}
    mean_filters = np.stack([jax.vmap(mean_filter)(networks) for networks in states.values()])
    of_seed = evaluated(last) | {
        name: collected(getattr(trained, name), S)
        for name in ("epochs", "interpolation_epoch", "diverged")
    }
    dataset = (
        xr.concat(map(measured, states.values()), "state", join="exact")
        .assign_coords(state=list(states))
        .assign(mean_filter=(("state", "seed", "layer", "tap"), mean_filters))
        .assign({name: ("seed", values) for name, values in of_seed.items()})
        .merge(theory(config, test_positions, mean_filters[-1]))
    )
    if snapshots.epochs:
        along = {}
        for epoch in snapshots.epochs:
            networks = snapshots.read(epoch, states["trained"])
            then = evaluated(on_devices(networks, len(init_keys), sharding))
            along[epoch] = measured(networks).assign(test_error=("seed", then["test_error"]))
        dataset = dataset.merge(layerwise.along_training(along))
    return dataset.transpose(..., "channels", "seed", "layer", "tap")


def prepare(
    config: Config, sharding: NamedSharding
) -> tuple[Key[Array, " S"], dict[str, Points], Data]:
    """Returns what the sweep of a configuration starts from.

    The last seed is repeated to pad the seed axis to the devices.

    Returns:
        The keys of initialisation; the "train", "validation" and "test" points of every seed; and
        the data of the sweep.
    """
    positions, labels = task.points(config.task, config.size, config.xi, config.gap)
    S = len(config.seeds)
    seeds = np.pad(np.array(config.seeds, np.uint32), (0, -S % sharding.num_devices), mode="edge")

    def of_seed(seed: Integer[Array, ""]) -> tuple[Keys, dict[str, tuple[Array, Array]]]:
        keys = Keys(*(key_of(config.seed, name, seed) for name in Keys._fields))
        split = task.split(keys.split, labels, config.train_points, config.validation_points)
        return keys, {
            name: (jnp.asarray(positions)[chosen], jnp.asarray(labels)[chosen])
            for name, chosen in split._asdict().items()
        }

    keys, points = jax.jit(jax.vmap(of_seed), out_shardings=sharding)(seeds)
    strides = simple_cnn.layer_strides(**{name: config[name] for name in GEOMETRY})

    def distinct(name: str) -> patches.DistinctPatches:
        images = np.asarray(task.images(jnp.asarray(collected(points[name][0])), config.size))
        made = [patches.distinct(each, config.filter_size, strides) for each in images]
        return jax.device_put(patches.stacked(made), sharding)

    images = jax.jit(lambda positions: task.images(positions, config.size), out_shardings=sharding)
    train_positions, train_labels = points["train"]
    data = Data(
        keys.order,
        images(train_positions),
        train_labels,
        distinct("train"),
        (distinct("validation"), points["validation"][1]),
        jax.device_put(np.arange(len(seeds)) >= S, sharding),
    )
    return keys.init, points, data


def make_sweep(config: Config, sharding: NamedSharding) -> Training:
    """Compiles the training of a configuration, on images of two active pixels."""
    model = network(config, active_pixels=2)

    def outputs_at(variables: Variables, decay: Array, images: patches.DistinctPatches) -> Array:
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
        sharding,
    )


def descent(config: Config) -> Descent:
    """Returns gradient descent on hinge loss + ridge · Σ‖w‖²/(HK), of rate learning_rate · H.

    See App. B.2. A step without loss multiplies the outputs by about exp(-shrinking). The
    look-ahead window is so long that the bound on a margin is as low as the margin is after about
    three such steps.
    """
    shrinking = 2 * config.learning_rate * config.ridge
    ahead = 2 * math.ceil(math.sqrt(3 / max(shrinking, 1e-6)))
    return Descent(
        rate=config.learning_rate * config.width,
        decay=1 - shrinking / config.depth,
        train_points=config.train_points,
        batch_size=config.batch_size,
        ahead=ahead if config.look_ahead else 0,
        rounding=128 * PRECISIONS[config.precision],
    )


def sensitivities(
    config: Config,
    model: Model,
    variables: Variables,
    positions: Int[np.ndarray, "S T 2"],
) -> xr.Dataset:
    """Measures D, G, R of every layer and of its mean channel, on the test points of each seed.

    The noise has the variance, mean over points, copies and pixels, of the deformations (App. B.2).
    Each process measures its share of the seeds. All calls with one model share a compiled program.

    Args:
        config: of the run.
        model: the network.
        variables: of S networks, NumPy arrays with a leading axis [S].
        positions: active pixels of the test points.

    Returns:
        The fields of `Measurement`, [seed, channels, layer].
    """
    share = share_of_process(len(config.seeds))
    found = layerwise.measure(
        models.Network(model.features, None, "SimpleCNN", map_axes=3),
        task.images(jnp.asarray(positions[share]), config.size),
        keys_of(config.seed, "measure", np.array(config.seeds)[share]),
        channels=CHANNELS,
        networks=jax.tree.map(lambda leaf: leaf[share], variables),
        paired=True,
        perturbation=task.Moves(config.task, config.xi, config.boundary),
        noise=EqualVariance(config.rectified_noise),
        copies=config.copies,
        batch_size=config.measure_batch_size,
    ).transpose("network", "channels", "layer")
    shares = {name: values.values for name, values in found.items()}
    of_seeds = gathered(shares, len(config.seeds))
    return xr.Dataset(
        {name: (("seed", "channels", "layer"), values) for name, values in of_seeds.items()},
        coords={
            "channels": list(CHANNELS),
            "seed": list(config.seeds),
            "layer": found.layer.values,
        },
    )


def theory(
    config: Config,
    positions: Int[np.ndarray, "S T 2"],
    mean_filters: Float[np.ndarray, "S layer tap"],
) -> xr.Dataset:
    """Computes what Section 4 predicts for the measured layers.

    Args:
        config: of the run.
        positions: active pixels of the test points of each seed.
        mean_filters: of the trained networks.

    Returns:
        exact_D, filters_D and so on [seed, layer], exponent_D and exponent_G, and the coordinates
        receptive_field and fitted [layer]: see `run`.
    """
    geometry = {name: config[name] for name in GEOMETRY}
    laws = diffusion.scaling_laws(xi=config.xi, **geometry)
    of_one_channel = {}
    for kind, filters in (("exact", np.ones_like(mean_filters)), ("filters", mean_filters)):
        of_seeds = [
            homogeneous.sensitivities(
                config.task,
                **geometry,
                xi=config.xi,
                gap=config.gap,
                boundary=config.boundary,
                rectified=config.rectified_noise,
                positions=of_points,
                filters=of_layers,
            )
            for of_points, of_layers in zip(positions, filters, strict=True)
        ]
        for name in "DGR":
            values = [getattr(of_seed, name) for of_seed in of_seeds]
            of_one_channel[f"{kind}_{name}"] = (("seed", "layer"), np.stack(values))
    depths = np.arange(1, config.depth + 1)
    return xr.Dataset(
        of_one_channel | {"exponent_D": laws.D, "exponent_G": laws.G},
        coords={
            "receptive_field": ("layer", laws.A),
            "fitted": ("layer", depths <= fitted_layers(config)),
        },
    )


def errors(
    config: Config,
    model: Model,
    variables: Variables,
    train: tuple[Int[Array, "P 2"], Int[Array, " P"]],
    test: tuple[Int[Array, "T 2"], Int[Array, " T"]],
) -> dict[str, Array]:
    """Returns train_loss, train_error and test_error of one network."""

    def outputs(positions: Int[Array, "P 2"]) -> Float[Array, " P"]:
        return jax.lax.map(
            lambda x: model.apply(variables, x[None])[0, 0],
            task.images(positions, config.size),
            batch_size=config.measure_batch_size,
        )

    on_train, on_test = outputs(train[0]), outputs(test[0])
    return {
        "train_loss": losses.hinge(on_train, train[1]).mean(),
        "train_error": losses.error(on_train, train[1]).mean(),
        "test_error": losses.error(on_test, test[1]).mean(),
    }


def mean_filter(variables: Variables) -> Float[Array, "layer tap"]:
    """Returns the raw filters of one network averaged over channels (Tables 1, 2)."""
    return jnp.stack([w.mean(axis=(1, 2)) for w in simple_cnn.kernels(variables)])


def fitted_layers(config: Config) -> int:
    """Returns the number of layers over which exponents are fitted.

    With strides, those with a receptive field smaller than ξ: beyond, no move that keeps the label
    changes the representation. Otherwise the first two thirds of the layers.
    """
    if config.stride == 1:
        return max(2, 2 * config.depth // 3)
    return max(2, sum(config.stride**k < config.xi for k in range(1, config.depth + 1)))
