"""What deep networks learn: sets of images, and the two-dimensional scale-detection task."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key, PyTree

from relstab_jax.config import FLAG, PATH, Config, choice, optional, real, whole
from relstab_jax.data import images, scale_detection
from relstab_jax.data.stream import Stream
from relstab_jax.errors import InputError
from relstab_jax.keys import key_of
from relstab_jax.measures import noise, sensitivity
from relstab_jax.training import losses
from relstab_jax.training.data_parallel import Task

SCALE_DETECTION = "scale_detection_2d"
MOVES = ("unit_vector", "neighbours")
RULES = ("L2", "Linf", "quadrant")

Features = Callable[[PyTree, Array], Mapping[str, Array]]  # (network, images) -> {layer: f}


class ImageSet(NamedTuple):
    """What is known of a set of images before it is read.

    Attributes:
        size: pixels along each axis, as the networks take them.
        channels: of the images.
        classes: number of labels.
        mean: of the training pixels, for each channel.
        std: their standard deviation.
        test: name of the split that TFDS has for tests.
        streamed: whether the images stay in their files, rather than in the devices' memory.
    """

    size: int
    channels: int
    classes: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    test: str = "test"
    streamed: bool = False


IMAGE_SETS = {
    "cifar10": ImageSet(32, 3, 10, images.CIFAR10_MEAN, images.CIFAR10_STD),
    "imagenet2012": ImageSet(
        *(224, 3, 1000, images.IMAGENET_MEAN, images.IMAGENET_STD), test="validation", streamed=True
    ),
}


# What there is to learn, and of the two-dimensional task alone: its geometry and its deformations.
FIELDS = {
    "data": choice(*IMAGE_SETS, SCALE_DETECTION),
    "data_dir": optional(PATH),
    "train_points": optional(whole()),
    "validation_points": whole(),
    "test_points": optional(whole()),
    "noise": real(),
    "augment": FLAG,
    "selection": choice("validation", "test"),
}
OF_SCALE_DETECTION = {
    "size": whole(2, 128),
    "xi": whole(),
    "gap": whole(0),
    "rule": choice(*RULES),
    "periodic": FLAG,
}
DEFORMATIONS = {"moves": choice(*MOVES)}


class Shape(NamedTuple):
    """What a network has to fit: pixels along each axis, channels, and outputs."""

    image_size: int
    channels: int
    num_classes: int


class Parts(NamedTuple):
    """Training, validation and test examples of each of S seeds, or how many there are."""

    train: Any
    validation: Any
    test: Any


class Problem(NamedTuple):
    """A set of examples and what there is to learn about them.

    Attributes:
        task: what is learned.
        inputs: [M, ...] all examples, as they are stored; or a stream of them.
        labels: [M]; none where a stream gives them.
        split: key -> the parts of a seed, indices of examples.
        measure: (features, networks, key, seeds [S], examples [S, P]) -> {layer: Sensitivity or
            Measurement of arrays [N]}, for a stack of N networks: the S seeds, in one or several
            states.
    """

    task: Task
    inputs: np.ndarray | Stream
    labels: np.ndarray
    split: Callable[[Key[Array, ""]], Parts]
    measure: Callable[[Features, PyTree, Key[Array, ""], np.ndarray, np.ndarray], Mapping[Any, Any]]


def shape(config: Config) -> Shape:
    """Returns what the network of a configuration has to fit."""
    if config.data == SCALE_DETECTION:
        return Shape(config.size, 1, 1)
    return Shape(*IMAGE_SETS[config.data][:3])


def part_sizes(config: Config) -> Parts:
    """Returns how many training, validation and test points there are.

    Raises:
        InputError: where there are not as many as the configuration asks for, or the set of images
            is not prepared.
    """
    train, validation, test = config.train_points, config.validation_points, config.test_points
    if config.data == SCALE_DETECTION:
        if train is None:
            raise InputError(f"train_points=None must be a number where data={config.data!r}")
        _, labels = scale_detection.points_2d(**_geometry(config))
        sizes = scale_detection.split_sizes(labels, train, validation, test)
        return Parts(*(2 * n for n in sizes))
    held_out = validation if config.selection == "validation" else 0
    all_train, all_test = (
        len(images.prepared(config.data, split, config.data_dir))
        for split in ("train", IMAGE_SETS[config.data].test)
    )
    train = all_train - held_out if train is None else train
    test = all_test if test is None else test
    if train < 1 or train + held_out > all_train:
        raise InputError(
            f"train_points={train} and validation_points={validation} must be at least 1, and "
            f"together at most the {all_train} training images of {config.data}"
        )
    if not 1 <= test <= all_test:
        raise InputError(f"test_points={test} must lie between 1 and {all_test}")
    return Parts(train, held_out, test)


def problem(config: Config) -> Problem:
    """Makes the problem of a configuration."""
    return (_two_pixels if config.data == SCALE_DETECTION else _images)(config)


def _images(config: Config) -> Problem:
    """A set of images (App. B.1)."""
    train, held_out, test = part_sizes(config)
    known = IMAGE_SETS[config.data]
    splits = f"train[:{train + held_out}]", f"{known.test}[:{test}]"
    if known.streamed:
        inputs = Stream(config.data, splits, config.data_dir, known.size, config.augment)
        labels = np.zeros(0, int)
    else:
        read = [images.load(config.data, split, config.data_dir) for split in splits]
        inputs, labels = (np.concatenate(parts) for parts in zip(*read, strict=True))

    def split(key: Key[Array, ""]) -> Parts:
        order = np.asarray(jax.random.permutation(key, train + held_out))
        tested = np.arange(train + held_out, train + held_out + test)
        return Parts(order[:train], order[train:] if held_out else tested, tested)

    def measure(
        features: Features,
        networks: PyTree,
        key: Key[Array, ""],
        seeds: np.ndarray,
        examples: np.ndarray,
    ) -> Mapping[Any, Any]:
        del seeds
        chosen = examples[0]  # test images, the same for every seed
        keys = jax.vmap(lambda number: key_of(key, "show", number))(chosen)
        shown = jax.jit(jax.vmap(task.show))(keys, inputs[chosen])
        return _sensitivities_of_images(config, features, networks, shown, key_of(key, "copies"))

    task = classification(config)
    return Problem(task, inputs, labels, split, measure)


def classification(config: Config) -> Task:
    """What is learned about a set of images: labels, with noise of norm `config.noise` (App. B.1).

    At every visit the images are cropped and flipped at random, and the noise is another.
    """
    known = IMAGE_SETS[config.data]

    def show(key: Key[Array, ""], stored: Array) -> Array:
        image = images.normalise(stored, known.mean, known.std)
        return images.with_noise(key, image, config.noise) if config.noise else image

    def visit(key: Key[Array, ""], stored: Array) -> Array:
        key_crop, key_flip, key_noise = jax.random.split(key, 3)
        if config.augment and not known.streamed:  # a stream crops and flips what it decodes
            stored = images.padded_crop(key_crop, stored, padding=4)
            stored = images.random_flip(key_flip, stored)
        return show(key_noise, stored)

    return Task(visit, show, losses.cross_entropy, losses.classification_error)


def _sensitivities_of_images(
    config: Config,
    features: Features,
    networks: PyTree,
    shown: Float[Array, "P size size C"],
    key: Key[Array, ""],
) -> Mapping[Any, Any]:
    """Sensitivities to diffeomorphisms, and to noise of the same norm."""
    return sensitivity.measure(
        features,
        shown,
        key,
        networks=networks,
        delta=config.delta,
        cut=config.cut,
        transforms=config.copies,
        batch_size=config.measure_batch_size,
    )


def _geometry(config: Config) -> dict[str, Any]:
    return {name: config[name] for name in ("size", "xi", "gap", "rule", "periodic")}


def _two_pixels(config: Config) -> Problem:
    """The two-dimensional scale-detection task: two active pixels, far apart or not (Section 3)."""
    positions, labels = scale_detection.points_2d(**_geometry(config))
    sizes = config.train_points, config.validation_points, config.test_points

    def show(key: Key[Array, ""], stored: Array) -> Array:
        return scale_detection.images_2d(stored, config.size)

    def split(key: Key[Array, ""]) -> Parts:
        drawn = scale_detection.split(key_of(key, "points"), labels, *sizes)
        parts = Parts(*map(np.asarray, drawn))
        # Both labels, however few of the points are measured.
        mixed = np.asarray(jax.random.permutation(key_of(key, "mix"), parts.test))
        on = parts.validation if config.selection == "validation" else mixed
        return Parts(parts.train, on, mixed)

    def measure(
        features: Features,
        networks: PyTree,
        key: Key[Array, ""],
        seeds: np.ndarray,
        examples: np.ndarray,
    ) -> Mapping[Any, Any]:
        # The stack has each seed several times, in several states.
        times = len(jax.tree.leaves(networks)[0]) // len(examples)
        keys = jnp.tile(jax.vmap(lambda seed: key_of(key, seed))(seeds), times)
        measured = jnp.tile(jnp.asarray(positions[examples]), (times, 1, 1, 1))
        return of_stack(features, (networks, keys, measured))

    @partial(jax.jit, static_argnums=0)
    def of_stack(features: Features, stack: tuple[PyTree, Array, Array]) -> Mapping[Any, Any]:
        one = partial(_sensitivities_of_pixels, config, features)
        return jax.lax.map(lambda a: one(*a), stack, batch_size=config.seeds_at_once)

    def hinge(outputs: Array, y: Array) -> Array:
        return losses.hinge(outputs[:, 0], y)

    def error(outputs: Array, y: Array) -> Array:
        return losses.error(outputs[:, 0], y)

    return Problem(Task(show, show, hinge, error), positions, labels, split, measure)


def _sensitivities_of_pixels(
    config: Config,
    features: Features,
    network: PyTree,
    key: Key[Array, ""],
    positions: Int[Array, "P 2 2"],
) -> Mapping[Any, Any]:
    """Sensitivities to moves of the active pixels, and to noise of the same norm."""
    shown = scale_detection.images_2d(positions, config.size)
    copies = jnp.repeat(positions[:, None], config.copies, axis=1)
    moved = scale_detection.deform_2d(
        key_of(key, "move"), copies, size=config.size, moves=config.moves
    )
    deformed = scale_detection.images_2d(moved, config.size)

    def with_noise(key: Key[Array, ""], image: Array, deformed: Array) -> Array:
        norm = jnp.linalg.norm((deformed - image).ravel())
        return image + noise.isotropic(key, image, norm)

    keys = jax.random.split(key_of(key, "noise"), copies.shape[:2])
    noisy = jax.vmap(jax.vmap(with_noise, (0, None, 0)))(keys, shown, deformed)
    return sensitivity.streamed(
        partial(features, network), shown, deformed, noisy, batch_size=config.measure_batch_size
    )
