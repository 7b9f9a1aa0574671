"""The scale-detection tasks: two active pixels on an empty background (Section 3, Fig. 5)."""

from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from relstab_jax.errors import InputError

AnyArray = TypeVar("AnyArray", Array, np.ndarray)


def task_number(task: int | str) -> int:
    """Returns 1 or 2 for a task given as 1, 2, "1", "2", "task1" or "task2".

    Raises:
        InputError: for any other task.
    """
    numbers = {1: 1, 2: 2, "1": 1, "2": 2, "task1": 1, "task2": 2}
    if task not in numbers:
        raise InputError(f"task={task!r} is not known: use 1 or 2")
    return numbers[task]


def points(
    task: int | str, size: int, xi: int, gap: int
) -> tuple[Int[np.ndarray, "n 2"], Int[np.ndarray, "n"]]:
    """Returns every point of a one-dimensional task (Section 4).

    In Task 1 the label is +1 for d < xi - gap/2 and -1 for d >= xi + gap/2, where d is the distance
    of the active pixels on a ring; there are no points in between. In Task 2 the label is +1 if
    both pixels lie in the same of the size/xi patches, and -1 otherwise.

    Args:
        task: 1 or 2.
        size: L, pixels of the input.
        xi: the characteristic scale ξ, in pixels.
        gap: g, in pixels; 0 in Task 2.

    Returns:
        The positions i < j of the active pixels, and the labels, +1 or -1.

    Raises:
        InputError: if the task is undefined, or one label has no point.
    """
    task = task_number(task)
    _check_scales(size, xi, gap)
    i, j = np.triu_indices(size, k=1)
    if task == 1:
        labels = _labels(np.minimum(j - i, size - (j - i)), xi, gap)
    else:
        if gap:
            raise InputError(f"gap={gap}: Task 2 has no gap, use gap=0")
        if size % xi:
            raise InputError(f"xi={xi} does not divide size={size}, as the patches of Task 2 need")
        labels = np.where(i // xi == j // xi, 1, -1)
    return _labelled(np.stack([i, j], axis=1), labels, task=task, size=size, xi=xi, gap=gap)


def _check_scales(size: int, xi: int, gap: int) -> None:
    if not 0 < xi < size:
        raise InputError(f"xi={xi} must lie between 0 and size={size}")
    if gap < 0:
        raise InputError(f"gap={gap} must not be negative")


def _labels(distance: np.ndarray, xi: int, gap: int) -> Int[np.ndarray, " n"]:
    """Returns +1 for distances below xi - gap/2, -1 for xi + gap/2 and above, 0 in between."""
    return np.where(distance < xi - gap / 2, 1, np.where(distance >= xi + gap / 2, -1, 0))


def _labelled(
    pairs: Int[np.ndarray, "n ..."], labels: Int[np.ndarray, "n"], **setting: int | str | bool
) -> tuple[Int[np.ndarray, "m ..."], Int[np.ndarray, "m"]]:
    """Returns the pairs of pixels whose label is not 0, and their labels.

    Raises:
        InputError: if no pair has one of the labels +1 and -1 in this setting.
    """
    for label in (1, -1):
        if label not in labels:
            given = ", ".join(f"{name}={value}" for name, value in setting.items())
            raise InputError(
                f"no point has label {label:+d} for {given}: change xi or reduce the gap"
            )
    keep = labels != 0
    return pairs[keep], labels[keep]


def images(positions: Int[Array, "*P 2"], size: int) -> Float[Array, "*P L 1"]:
    """Makes images: √(L/2) at the two positions of a point, 0 elsewhere (Section 4, Setup)."""
    return (size / 2) ** 0.5 * jax.nn.one_hot(positions, size).sum(axis=-2)[..., None]


def moved(
    positions: Int[AnyArray, "*#P"],
    steps: Int[AnyArray, "*#P"],
    *,
    task: int | str,
    size: int,
    xi: int,
    boundary: str,
) -> Int[AnyArray, "*P"]:
    """Returns where active pixels are after steps of -1 or 1 (Section 4).

    Args:
        positions: positions of the pixels.
        steps: the step of each pixel.
        task: 1 or 2. In Task 2, pixels stay where the step would leave their patch, so that labels
            never change.
        size: L, pixels of the input.
        xi: the characteristic scale ξ, in pixels.
        boundary: for Task 1, "wrap" for a ring; "clamp" to stay at the border instead, as in the
            authors' program.

    Raises:
        InputError: if the task or the boundary is not known.
    """
    if boundary not in ("wrap", "clamp"):
        raise InputError(f'boundary={boundary!r} is not known: use "wrap" or "clamp"')
    there = positions + steps
    if task_number(task) == 2:
        patch = positions // xi * xi  # its first pixel
        return there.clip(patch, patch + xi - 1)
    return there % size if boundary == "wrap" else there.clip(0, size - 1)


@dataclass(frozen=True)
class Moves:
    """Moves each active pixel of an image by one, left or right with probability 1/2 (Section 4).

    Attributes:
        task: 1 or 2.
        xi: the characteristic scale ξ, in pixels.
        boundary: as for `moved`.
    """

    task: int
    xi: int
    boundary: str = "wrap"

    def __call__(self, key: Key[Array, ""], image: Float[Array, "L 1"]) -> Float[Array, "L 1"]:
        """Draws the image anew with its active pixels moved."""
        size, positions = len(image), jnp.flatnonzero(image, size=2)
        steps = jax.random.rademacher(key, positions.shape, positions.dtype)
        where = {"task": self.task, "size": size, "xi": self.xi, "boundary": self.boundary}
        return images(moved(positions, steps, **where), size)


class Split(NamedTuple):
    """Indices of points in three disjoint parts, in each of which both labels are as frequent."""

    train: Int[Array, "P"]
    validation: Int[Array, "V"]
    test: Int[Array, "T"]


def split_sizes(
    labels: Int[np.ndarray, "n"], train: int, validation: int, test: int | None = None
) -> tuple[int, int, int]:
    """Returns the number of points of each label in the three parts of a `split`.

    Raises:
        InputError: if there are too few points, or a number is odd or below 2.
    """
    numbers = {"train_points": train, "validation_points": validation}
    if test is not None:
        numbers["test_points"] = test
    for name, number in numbers.items():
        if number < 2 or number % 2:
            raise InputError(f"{name}={number} must be even and at least 2, half of each label")
    rarest = int(min((labels == 1).sum(), (labels == -1).sum()))
    most = rarest if test else rarest - 1  # one of each label to test on
    if sum(numbers.values()) > 2 * most:
        given = " and ".join(f"{name}={number}" for name, number in numbers.items())
        problem = "are too many" if test else "leave no test point"
        raise InputError(
            f"{given} {problem}: the rarer label has {rarest} points, so together they can be at "
            f"most {2 * most}"
        )
    rest = rarest - train // 2 - validation // 2
    return train // 2, validation // 2, test // 2 if test else rest


def split(
    key: Key[Array, ""],
    labels: Int[np.ndarray, "n"],
    train: int,
    validation: int,
    test: int | None = None,
) -> Split:
    """Draws balanced training, validation and test points.

    Args:
        key: random key of this split.
        labels: +1 or -1 for each point of the task.
        train: number of training points, even.
        validation: number of validation points, even.
        test: number of test points, even; None for all others that leave both labels as frequent.

    Raises:
        InputError: as `split_sizes` does.
    """
    sizes = split_sizes(labels, train, validation, test)
    keys = jax.random.split(key)
    shuffled = [
        jax.random.permutation(k, np.flatnonzero(labels == label))
        for k, label in zip(keys, (1, -1), strict=True)
    ]
    ends = np.cumsum(sizes)
    parts = [jnp.split(order, ends)[:3] for order in shuffled]
    return Split(*(jnp.concatenate(part) for part in zip(*parts, strict=True)))


def points_2d(
    size: int, xi: int, gap: int, *, rule: str = "L2", periodic: bool = False
) -> tuple[Int[np.ndarray, "n 2 2"], Int[np.ndarray, "n"]]:
    """Returns every point of the two-dimensional task (Section 3, Fig. 5a).

    The label is +1 for d < xi - gap/2 and -1 for d >= xi + gap/2, where d is the distance of the
    active pixels; there are no points in between. Every unordered pair of pixels appears once.

    Args:
        size: pixels along each axis.
        xi: the characteristic scale ξ, in pixels.
        gap: g, in pixels.
        rule: "L2" for the Euclidean distance; "Linf" for the larger of the distances along the
            axes; "quadrant" for the label +1 if both pixels lie in the same quadrant of the image,
            of side xi, and -1 otherwise.
        periodic: whether distances are those on a torus.

    Returns:
        The (row, column) of both active pixels, and the labels, +1 or -1.

    Raises:
        InputError: if the task is undefined, or one label has no point.
    """
    _check_scales(size, xi, gap)
    pixels = np.stack(np.divmod(np.arange(size**2), size), axis=1)
    first, second = (pixels[n] for n in np.triu_indices(size**2, k=1))
    apart = abs(first - second)
    if periodic:
        apart = np.minimum(apart, size - apart)
    if rule == "L2":
        labels = _labels(np.hypot(*apart.T), xi, gap)
    elif rule == "Linf":
        labels = _labels(apart.max(axis=1), xi, gap)
    elif rule == "quadrant":
        if 2 * xi != size or gap or periodic:
            raise InputError(
                f"rule='quadrant' needs xi={size / 2:g}, half of size={size}, gap=0 and "
                f"periodic=False, not xi={xi}, gap={gap} and periodic={periodic}"
            )
        labels = np.where((first // xi == second // xi).all(axis=1), 1, -1)
    else:
        raise InputError(f"rule={rule!r} is not known: use 'L2', 'Linf' or 'quadrant'")
    pairs = np.stack([first, second], axis=1)
    return _labelled(pairs, labels, rule=rule, periodic=periodic, size=size, xi=xi, gap=gap)


def images_2d(positions: Int[Array, "*P 2 2"], size: int) -> Float[Array, "*P d d 1"]:
    """Makes images of the two-dimensional task: d²/2 at the two positions, 0 elsewhere."""
    flat = positions[..., 0] * size + positions[..., 1]
    drawn = size**2 / 2 * jax.nn.one_hot(flat, size**2).sum(axis=-2)
    return drawn.reshape(*drawn.shape[:-1], size, size, 1)


@dataclass(frozen=True)
class Moves2D:
    """Moves each active pixel by at most one along each axis, but not out of the image.

    Attributes:
        moves: "unit_vector" to round a random unit vector to the grid, as in the authors' program:
            a pixel never stays, and moves diagonally with probability 1/3. "neighbours" to move to
            one of the eight adjacent pixels or stay, all with the same probability (Section 3).
    """

    moves: str = "unit_vector"

    def __call__(self, key: Key[Array, ""], image: Float[Array, "d d 1"]) -> Float[Array, "d d 1"]:
        """Draws the image anew with its active pixels moved."""
        size = len(image)
        positions = jnp.stack(jnp.divmod(jnp.flatnonzero(image, size=2), size), axis=-1)
        if self.moves == "unit_vector":
            angle = jax.random.uniform(key, (2,), maxval=2 * np.pi)
            steps = jnp.round(jnp.stack([jnp.sin(angle), jnp.cos(angle)], axis=-1))
        else:
            steps = jax.random.randint(key, (2, 2), -1, 2)
        return images_2d((positions + steps.astype(positions.dtype)).clip(0, size - 1), size)
