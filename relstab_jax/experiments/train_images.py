"""Trains deep networks on images or the 2-D task and measures every layer (Sections 2, 3)."""

import pathlib
import warnings
from functools import partial

import jax
import numpy as np
import optax
import xarray as xr

from relstab_jax import layerwise, models, problems
from relstab_jax.config import Config
from relstab_jax.errors import InputError
from relstab_jax.fields import SEED, SEEDS, choice, optional, positive, real, several, whole
from relstab_jax.fields import check as check_fields
from relstab_jax.keys import key_of, keys_of
from relstab_jax.measures import diffeomorphism
from relstab_jax.messages import log
from relstab_jax.models import Model, Variables
from relstab_jax.training import data_parallel, optimizers
from relstab_jax.training.checkpoints import Snapshots, check_epochs
from relstab_jax.training.data_parallel import Data
from relstab_jax.training.devices import collected, data_parallel_devices, on_devices
from relstab_jax.training.learner import Sizes
from relstab_jax.training.loop import fit

TRAINING = {
    **problems.FIELDS,
    **problems.OF_SCALE_DETECTION,
    "network": choice(*models.image_networks()),
    "seed": SEED,
    "seeds": SEEDS,
    "seeds_at_once": whole(),
    "epochs": whole(),
    "batch_size": whole(),
    "micro_batches": whole(),
    "optimizer": choice("sgd", "adam"),
    "learning_rate": real(),
    "momentum": real(0, 1),
    "weight_decay": real(),
    "annealing": real(),
    "precision": choice("bfloat16", "tensorfloat32", "float32"),  # of products in training
    "evaluation_batch_size": whole(),
    "checkpoint_minutes": real(),
    "measure_at": optional(several(whole(0))),  # the training keeps the networks of these epochs
}
MEASUREMENT = {  # may change for a run that has been trained
    **problems.DEFORMATIONS,
    "delta": positive(),
    "cut": whole(),
    "copies": whole(1, 2**16),
    "measure_points": whole(2),
    "measure_batch_size": whole(),
    "shuffles": whole(1, 1000),
    "init_statistics": optional(choice("batch")),
}
FIELDS = TRAINING | MEASUREMENT


def network(config: Config) -> Model:
    """Makes the network of a configuration."""
    return models.create(config.network, **problems.shape(config))


def check(config: Config) -> None:
    """Checks a configuration.

    Raises:
        InputError: if a field is out of range, or fields contradict each other.
    """
    of_pixels = problems.OF_SCALE_DETECTION | problems.DEFORMATIONS
    is_of_pixels = config.get("data") == problems.SCALE_DETECTION
    check_fields(config, FIELDS, absent=() if is_of_pixels else of_pixels)
    check_epochs(config.measure_at, config.epochs, "epochs")
    network(config)
    data_parallel.check_batch(config.batch_size, config.micro_batches, len(data_parallel_devices()))
    train, _, test = problems.part_sizes(config)
    if config.batch_size > train:
        raise InputError(f"batch_size={config.batch_size} is more than the {train} training points")
    if config.measure_points > test:
        raise InputError(
            f"measure_points={config.measure_points} must be at most the {test} test points"
        )
    if not is_of_pixels:
        size = problems.IMAGE_SETS[config.data].size
        with warnings.catch_warnings(action="ignore"):  # the measurement gives the warning
            diffeomorphism.checked_temperature(config.delta, config.cut, size)


def optimizer(config: Config, steps_per_epoch: int) -> optax.GradientTransformation:
    """Makes the optimizer of a configuration (App. B.1)."""
    rate = config.learning_rate
    if config.annealing:
        rate = optimizers.cosine_annealing(rate, config.annealing * config.epochs, steps_per_epoch)
    if config.optimizer == "adam":
        return optimizers.adam(rate)
    return optimizers.sgd(rate, momentum=config.momentum, weight_decay=config.weight_decay)


def run(config: Config, workdir: pathlib.Path) -> xr.Dataset:
    """Trains and measures all seeds.

    Returns:
        What `layerwise.sensitivities` and `layerwise.spectra` return for the states init and
        trained: the networks of the epoch with the lowest validation error. And [seed] that epoch,
        best_epoch; its train_error, without augmentation, validation_error and test_error;
        last_test_error, of the last epoch; the numbers of epochs and of test_points. If there are
        epochs in `measure_at`, also what `layerwise.sensitivities` returns for them, as along_D and
        so on, and along_test_error, over epoch in place of state.
    """
    S = len(config.seeds)
    model = network(config)
    problem = problems.problem(config)
    split_keys, init_keys, training_keys = (
        keys_of(config.seed, name, config.seeds) for name in ("split", "init", "training")
    )
    parts = [problem.split(key) for key in split_keys]
    train, validation, test = (np.stack(examples) for examples in zip(*parts, strict=True))
    sizes = Sizes(
        train_points=train.shape[1],
        epochs=config.epochs,
        batch=config.batch_size,
        evaluation_batch=config.evaluation_batch_size,
        micro_batches=config.micro_batches,
        seeds_at_once=config.seeds_at_once,
    )
    snapshots = Snapshots(workdir, config.measure_at)
    with jax.default_matmul_precision(config.precision):
        training = data_parallel.compile_training(
            model,
            optimizer(config, sizes.steps_per_epoch),
            problem.task,
            sizes,
            data_parallel_devices(),
        )
        source = problem.inputs
        if problem.labels is not None:
            source = data_parallel.in_memory(problem.inputs, problem.labels, training.sharding)
        data = Data(source, train, validation, training_keys)
        trained = fit(
            training,
            init_keys,
            data,
            seeds=S,
            workdir=workdir,
            checkpoint_minutes=config.checkpoint_minutes,
            snapshots=snapshots,
        )
        initial = training.start(init_keys).variables

    def error(variables: Variables, examples: np.ndarray) -> np.ndarray:
        with jax.default_matmul_precision(config.precision):
            return np.asarray(training.evaluate(variables, data, examples)[1])

    log.info(f"Evaluating {S} seeds.")
    of_seed = {
        "train_error": error(trained.best, train),
        "test_error": error(trained.best, test),
        "last_test_error": error(trained.variables, test),
        "validation_error": np.asarray(trained.best_error),
        "best_epoch": np.asarray(trained.best_epoch),
        "epochs": np.full(S, config.epochs),
        "test_points": np.full(S, test.shape[1]),
    }

    log.info("Measuring D, G and R of every layer.")
    examples = test[:, : config.measure_points]
    on = problem.measured(key_of(config.seed, "measure"), config.seeds, examples)
    if config.init_statistics == "batch":
        initial = layerwise.with_statistics_of(model, initial, on.images, on.paired)
    states = {"init": collected(initial), "trained": collected(trained.best)}
    sensitivities = partial(
        layerwise.sensitivities,
        model,
        seeds=config.seeds,
        **on._asdict(),
        shuffle_key=key_of(config.seed, "shuffle"),
        shuffles=config.shuffles,
        copies=config.copies,
        batch_size=config.measure_batch_size,
    )
    trainings = xr.Dataset({name: ("seed", value) for name, value in of_seed.items()})
    found = [sensitivities(states=states), layerwise.spectra(states, config.seeds), trainings]
    if snapshots.epochs:
        along = {}
        for epoch in snapshots.epochs:
            networks = snapshots.read(epoch, states["trained"])
            test_error = error(on_devices(networks, S, training.sharding), test)
            measured = sensitivities(states={epoch: networks}).squeeze("state", drop=True)
            along[epoch] = measured.assign(test_error=("seed", test_error))
        found.append(layerwise.along_training(along))
    return xr.merge(found, compat="equals")
