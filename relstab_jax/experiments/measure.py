"""Measures D, G, R and filter spectra of any network on any images (Figs. 3, 4, 9, 11-14)."""

import json
import pathlib
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

from relstab_jax import layerwise, models
from relstab_jax.config import Config
from relstab_jax.data import images as image_sets
from relstab_jax.data import photographs
from relstab_jax.errors import reading
from relstab_jax.fields import PATH, SEED, SEEDS, TEXT, choice, optional, positive, whole
from relstab_jax.fields import check as check_fields
from relstab_jax.keys import key_of, keys_of
from relstab_jax.measures import diffeomorphism
from relstab_jax.measures.perturbations import WHOLE, Diffeomorphism
from relstab_jax.messages import log
from relstab_jax.models import Model, Variables, weights
from relstab_jax.runs.folder import CONFIG
from relstab_jax.training import checkpoints

NORMALISATIONS = {
    "cifar10": (image_sets.CIFAR10_MEAN, image_sets.CIFAR10_STD),
    "imagenet": (image_sets.IMAGENET_MEAN, image_sets.IMAGENET_STD),
    "none": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
}
FIELDS = {
    "network": choice(*models.image_networks()),
    "weights": PATH,
    "image_size": optional(whole(1, 8192)),
    "channels": choice(1, 3),
    "num_classes": optional(whole()),
    "images": PATH,
    "measure_points": whole(),
    "split": TEXT,
    "data_dir": optional(PATH),
    "normalisation": optional(choice(*NORMALISATIONS)),
    "delta": positive(),
    "cut": whole(),
    "interpolation": choice(*diffeomorphism.INTERPOLATIONS),
    "part": choice(WHOLE, *diffeomorphism.PARTS),
    "copies": whole(1, 2**16),
    "shuffles": whole(1, 1000),
    "init_statistics": optional(choice("batch")),
    "seed": SEED,
    "seeds": SEEDS,
    "measure_batch_size": optional(whole()),
}
ERROR_BATCH = 32  # images at a time, of one network
MEASUREMENT = ()  # fields that may change for a run that has been trained


def check(config: Config) -> None:
    """Checks a configuration.

    Raises:
        InputError: if a field is out of range, or fields contradict each other.
    """
    check_fields(config, FIELDS)
    measured_on = images(config)
    with warnings.catch_warnings(action="ignore"):  # `run` gives the warning
        diffeomorphism.checked_temperature(config.delta, config.cut, size(config))
    network(config)
    measured_on.check()


def is_imagenet(config: Config) -> bool:
    """Returns whether the network has torchvision's form, for ImageNet."""
    return config.network.islower()


def size(config: Config) -> int:
    """Returns the pixels along each axis of the images."""
    return config.image_size or (224 if is_imagenet(config) else 32)


def images(config: Config) -> photographs.Photographs:
    """Finds the images of a configuration."""
    by_default = "imagenet" if is_imagenet(config) else "cifar10"
    mean, std = NORMALISATIONS[config.normalisation or by_default]
    if config.channels == 1:
        mean, std = ((float(np.mean(values)),) for values in (mean, std))
    return photographs.find(
        config.images,
        config.measure_points,
        size=size(config),
        channels=config.channels,
        mean=mean,
        std=std,
        split=config.split,
        data_dir=config.data_dir,
    )


def network(config: Config) -> tuple[Model, Variables | None]:
    """Makes the network of a configuration and reads its weights, if given.

    Returns:
        The network, and its trained variables with a leading axis [S], that of the seeds of a run;
        of other weights S = 1.

    Raises:
        InputError: if the weights belong to another network.
    """
    shape = {"image_size": size(config), "channels": config.channels}
    if not config.weights:
        num_classes = config.num_classes or (1000 if is_imagenet(config) else 10)
        return models.create(config.network, num_classes=num_classes, **shape), None
    folder = pathlib.Path(config.weights).expanduser()
    if folder.is_dir():
        trained = checkpoints.read_variables(folder)
    else:
        state = weights.read(config.weights)
        trained = jax.tree.map(lambda x: x[None], models.from_torch(config.network, state))
    one = jax.tree.map(lambda x: x[0], trained)
    return models.like(config.network, one, **shape), trained


def seeds_of(weights: str, trained: Variables) -> tuple[int, ...]:
    """Returns the seeds of trained networks: those of a run, or else 0, 1, ..."""
    path = pathlib.Path(weights, CONFIG).expanduser()
    if path.exists():
        with reading(path, "the configuration of a run", "give the folder of a run"):
            return tuple(json.loads(path.read_text())["seeds"])
    return tuple(range(len(jax.tree.leaves(trained)[0])))


def run(config: Config, workdir: pathlib.Path) -> xr.Dataset:
    """Measures a network. Writes nothing into `workdir`.

    Returns:
        D, G, R and their standard errors D_error, G_error, R_error [state, channels, seed, layer],
        as of `layerwise.sensitivities`; spectrum, eigenvalue and frequency_content, as of
        `layerwise.spectra`. States are init, a random network, and, with weights, trained. If the
        weights have an output layer for the classes of a labelled TFDS set, also test_error and
        test_points [seed], as of `errors`.
    """
    del workdir
    model, trained = network(config)
    measured_on = images(config)
    log.info(f"Measuring {measured_on.note}.")
    seeds = config.seeds if trained is None else seeds_of(config.weights, trained)
    initial = jax.jit(jax.vmap(model.init))(keys_of(config.seed, "init", seeds))
    if config.init_statistics == "batch":
        initial = layerwise.with_statistics_of(model, initial, measured_on)
    states = {"init": initial}
    if trained is not None:
        states["trained"] = jax.tree.map(jnp.asarray, trained)

    measured = layerwise.sensitivities(
        model,
        states,
        seeds,
        measured_on,
        key_of(config.seed, "copies"),
        perturbation=Diffeomorphism(config.delta, config.cut, config.interpolation, config.part),
        shuffle_key=key_of(config.seed, "shuffle"),
        shuffles=config.shuffles,
        copies=config.copies,
        batch_size=config.measure_batch_size,
        progress=True,
    )
    parts = [measured, layerwise.spectra(states, seeds)]
    if trained is not None and "output" in measured.layer:
        parts.append(errors(model, states["trained"], measured_on))
    return xr.merge(parts)


def errors(model: Model, networks: Variables, measured_on: photographs.Photographs) -> xr.Dataset:
    """Returns the test_error on the measured images and their number test_points [seed].

    Args:
        model: the network.
        networks: its variables, with a leading axis [S].
        measured_on: the images.

    Returns:
        Nothing if the images have no labels, or the network has not as many outputs as classes.
    """
    labels, P = measured_on.labels, len(measured_on)
    outputs = jax.jit(
        lambda networks, images: jax.lax.map(lambda one: model.apply(one, images), networks)
    )
    shape = jax.eval_shape(outputs, networks, measured_on[0][None]).shape
    if labels is None or shape[-1] != measured_on.classes:
        return xr.Dataset()
    batches = (range(P)[start : start + ERROR_BATCH] for start in range(0, P, ERROR_BATCH))
    with jax.default_matmul_precision("highest"):
        found = [outputs(networks, np.stack([measured_on[n] for n in batch])) for batch in batches]
    test_error = (np.concatenate(found, axis=1).argmax(-1) != labels).mean(axis=1)
    points = np.full(len(test_error), P)
    return xr.Dataset({"test_error": ("seed", test_error), "test_points": ("seed", points)})
