"""Learning problems of deep networks: image sets and the two-dimensional scale-detection task."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Key

from relstab_jax.config import Config
from relstab_jax.data import images, scale_detection
from relstab_jax.data.stream import Stream
from relstab_jax.errors import InputError
from relstab_jax.fields import FLAG, PATH, choice, optional, real, whole
from relstab_jax.keys import key_of, keys_of
from relstab_jax.measures.perturbations import Diffeomorphism
from relstab_jax.training import losses
from relstab_jax.training.devices import on_cpu
from relstab_jax.training.learner import Task

SCALE_DETECTION = "scale_detection_2d"
MOVES = ("unit_vector", "neighbours")
RULES = ("L2", "Linf", "quadrant")


class ImageSet(NamedTuple):
    """Properties of an image set that are known before it is read.

    Attributes:
        size: pixels along each axis of the network's input.
        channels: of the images.
        classes: number of classes.
        mean: of the training pixels, by channel.
        std: of the training pixels, by channel.
        test: name of the TFDS split for testing.
        streamed: whether images are read from their files during training, rather than kept in the
            memory of the devices.
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
        size=224,
        channels=3,
        classes=1000,
        mean=images.IMAGENET_MEAN,
        std=images.IMAGENET_STD,
        test="validation",
        streamed=True,
    ),
}


# Fields of configurations: of every problem, and of the two-dimensional task alone.
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


class Parts(NamedTuple):
    """Training, validation and test examples of a seed, or their numbers."""

    train: Any
    validation: Any
    test: Any


class Measured(NamedTuple):
    """What S networks are measured on, as arguments of `relstab_jax.measures.driver.measure`.

    Attributes:
        images: [P, ...], or [S, P, ...] where `paired`.
        key: of the copies; [S] where `paired`.
        perturbation: of the images.
        paired: whether each network has its own images.
    """

    images: Array
    key: Key[Array, "..."]
    perturbation: Callable[[Key[Array, ""], Array], Array]
    paired: bool


class Problem(NamedTuple):
    """A set of examples and a task on them.

    Attributes:
        task: views of the examples, loss and error.
        inputs: all examples as they are stored [M, ...], or a stream of them.
        labels: [M]; None for a stream, which yields them.
        split: key -> the parts of a seed, indices of examples.
        measured: (key, S seeds, examples [S, P]) -> the images that the networks of these seeds
            are measured on.
    """

    task: Task
    inputs: np.ndarray | Stream
    labels: np.ndarray | None
    split: Callable[[Key[Array, ""]], Parts]
    measured: Callable[[Key[Array, ""], Sequence[int], np.ndarray], Measured]


def shape(config: Config) -> dict[str, int]:
    """Returns the image_size, channels and num_classes of the network of a configuration."""
    if config.data == SCALE_DETECTION:
        return {"image_size": config.size, "channels": 1, "num_classes": 1}
    known = IMAGE_SETS[config.data]
    return {"image_size": known.size, "channels": known.channels, "num_classes": known.classes}


def part_sizes(config: Config) -> Parts:
    """Returns the numbers of training, validation and test points.

    Raises:
        InputError: if the configuration asks for more than there are, or the image set is not
            prepared.
    """
    train, validation, test = config.train_points, config.validation_points, config.test_points
    if config.data == SCALE_DETECTION:
        if train is None:
            raise InputError(f"train_points=None must be a number where data={config.data!r}")
        _, labels = _points(config)
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
    if test > all_test:
        raise InputError(f"test_points={test} must be at most {all_test}")
    return Parts(train, held_out, test)


def problem(config: Config) -> Problem:
    """Makes the problem of a configuration."""
    return (_two_pixels if config.data == SCALE_DETECTION else _images)(config)


def _images(config: Config) -> Problem:
    """Makes the problem of an image set (App. B.1)."""
    train, held_out, test = part_sizes(config)
    known = IMAGE_SETS[config.data]
    used = f"train[:{train + held_out}]+{known.test}[:{test}]"
    if known.streamed:
        inputs = Stream(config.data, used, config.data_dir, known.size, config.augment)
        labels = None
    else:
        inputs, labels = images.load(config.data, used, config.data_dir)

    @on_cpu
    def split(key: Key[Array, ""]) -> Parts:
        order = np.asarray(jax.random.permutation(key, train + held_out))
        tested = np.arange(train + held_out, train + held_out + test)
        return Parts(order[:train], order[train:] if held_out else tested, tested)

    def measured(key: Key[Array, ""], seeds: Sequence[int], examples: np.ndarray) -> Measured:
        del seeds
        chosen = examples[0]  # test images, the same for every seed
        shown = jax.jit(jax.vmap(task.preprocess))(keys_of(key, "show", chosen), inputs[chosen])
        perturbation = Diffeomorphism(config.delta, config.cut)
        return Measured(shown, key_of(key, "copies"), perturbation, paired=False)

    task = classification(config)
    return Problem(task, inputs, labels, split, measured)


def classification(config: Config) -> Task:
    """Makes the classification of an image set, with noise of norm `config.noise` (App. B.1).

    Crops, flips and the noise are drawn anew whenever an image is used.
    """
    known = IMAGE_SETS[config.data]

    def preprocess(key: Key[Array, ""], stored: Array) -> Array:
        image = images.normalise(stored, known.mean, known.std)
        return images.with_noise(key, image, config.noise) if config.noise else image

    def augment(key: Key[Array, ""], stored: Array) -> Array:
        key_crop, key_flip, key_noise = jax.random.split(key, 3)
        if config.augment and not known.streamed:  # a stream crops and flips what it decodes
            stored = images.padded_crop(key_crop, stored, padding=4)
            stored = images.random_flip(key_flip, stored)
        return preprocess(key_noise, stored)

    loss = optax.softmax_cross_entropy_with_integer_labels
    return Task(augment, preprocess, loss, losses.classification_error)


def _points(config: Config) -> tuple[np.ndarray, np.ndarray]:
    """Returns positions and labels of every point of the two-dimensional task."""
    return scale_detection.points_2d(**{name: config[name] for name in OF_SCALE_DETECTION})


def _two_pixels(config: Config) -> Problem:
    """Makes the two-dimensional scale-detection task (Section 3)."""
    positions, labels = _points(config)
    sizes = config.train_points, config.validation_points, config.test_points

    def preprocess(key: Key[Array, ""], stored: Array) -> Array:
        return scale_detection.images_2d(stored, config.size)

    @on_cpu
    def split(key: Key[Array, ""]) -> Parts:
        drawn = scale_detection.split(key_of(key, "points"), labels, *sizes)
        parts = Parts(*map(np.asarray, drawn))
        # Shuffled, so that any first few of the points have both labels.
        mixed = np.asarray(jax.random.permutation(key_of(key, "mix"), parts.test))
        on = parts.validation if config.selection == "validation" else mixed
        return Parts(parts.train, on, mixed)

    def measured(key: Key[Array, ""], seeds: Sequence[int], examples: np.ndarray) -> Measured:
        shown = scale_detection.images_2d(jnp.asarray(positions[examples]), config.size)
        moves = scale_detection.Moves2D(config.moves)
        return Measured(shown, keys_of(key, seeds), moves, paired=True)

    def hinge(outputs: Array, y: Array) -> Array:
        return losses.hinge(outputs[:, 0], y)

    def error(outputs: Array, y: Array) -> Array:
        return losses.error(outputs[:, 0], y)

    return Problem(Task(preprocess, preprocess, hinge, error), positions, labels, split, measured)
