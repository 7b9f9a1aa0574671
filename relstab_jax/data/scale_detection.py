"""The scale-detection tasks: two active pixels on an empty background (Section 3, Fig. 5)."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from relstab_jax.errors import InputError


def task_number(task: int | str) -> int:
    """Returns 1 or 2 for a task given as 1, 2, "task1" or "task2".

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

    Task 1 is periodic: with d the distance of the active pixels on the ring, +1 for
    d < xi - gap/2, -1 for d >= xi + gap/2, and no point between. Task 2 has label +1 where both
    pixels lie in the same of the size/xi patches, else -1, and no gap.

    Args:
        task: 1 or 2.
        size: L, pixels of the input.
        xi: the characteristic scale ξ, in pixels.
        gap: g, in pixels; 0 in Task 2.

    Returns:
        The positions i < j of the active pixels, and the labels, +1 or -1.

    Raises:
        InputError: where the task is not defined, or one label has no point.
    """
    task = task_number(task)
    if not 0 < xi < size:
        raise InputError(f"xi={xi} must lie between 0 and size={size}")
    if gap < 0:
        raise InputError(f"gap={gap} must not be negative")
    i, j = np.triu_indices(size, k=1)
    if task == 1:
        distance = np.minimum(j - i, size - (j - i))
        labels = np.where(distance < xi - gap / 2, 1, np.where(distance >= xi + gap / 2, -1, 0))
    else:
        if gap:
            raise InputError(f"gap={gap}: Task 2 has no gap, use gap=0")
        if size % xi:
            raise InputError(f"xi={xi} does not divide size={size}, as the patches of Task 2 need")
        labels = np.where(i // xi == j // xi, 1, -1)
    for label in (1, -1):
        if label not in labels:
            raise InputError(
                f"no point has label {label:+d} for task={task}, size={size}, xi={xi}, gap={gap}: "
                "move xi or narrow the gap"
            )
    keep = labels != 0
    return np.stack([i, j], axis=1)[keep], labels[keep]


def images(positions: Int[Array, "*P 2"], size: int) -> Float[Array, "*P L 1"]:
    """Draws points: √(L/2) at each of the two positions, 0 elsewhere (Section 4, Setup)."""
    return (size / 2) ** 0.5 * jax.nn.one_hot(positions, size).sum(axis=-2)[..., None]


def deform(
    key: Key[Array, ""],
    positions: Int[Array, "*P 2"],
    *,
    task: int | str,
    size: int,
    xi: int,
    boundary: str = "wrap",
) -> Int[Array, "*P 2"]:
    """Moves each active pixel by one, left or right with probability 1/2 (Section 4).

    Task 1 wraps around the ring, or stays at the border for boundary="clamp", as the authors'
    program has it. In Task 2 a move out of the patch, and so out of the image, is undone: labels
    never change.
    """
    moved = positions + jax.random.rademacher(key, positions.shape, positions.dtype)
    if task_number(task) == 2:
        return jnp.where(moved // xi == positions // xi, moved, positions)
    return moved % size if boundary == "wrap" else moved.clip(0, size - 1)


class Split(NamedTuple):
    """Disjoint indices of points, each part with as many of one label as of the other."""

    train: Int[Array, "P"]
    validation: Int[Array, "V"]
    test: Int[Array, "T"]


def split_sizes(labels: Int[np.ndarray, "n"], train: int, validation: int) -> tuple[int, int, int]:
    """Returns how many points of each label the three parts of a `split` have.

    Raises:
        InputError: where the points do not suffice for it, or a number is odd.
    """
    rarest = min((labels == 1).sum(), (labels == -1).sum())
    for name, number in (("train_points", train), ("validation_points", validation)):
        if number < 2 or number % 2:
            raise InputError(f"{name}={number} must be even and at least 2, half of each label")
    rest = int(rarest) - train // 2 - validation // 2
    if rest < 1:
        raise InputError(
            f"train_points={train} and validation_points={validation} leave no test point: the "
            f"rarer label has {rarest} points, so together they can be at most {2 * (rarest - 1)}"
        )
    return train // 2, validation // 2, rest


def split(key: Key[Array, ""], labels: Int[np.ndarray, "n"], train: int, validation: int) -> Split:
    """Draws balanced training and validation points; the test set is the rest, balanced.

    Args:
        key: of this split.
        labels: +1 or -1 for each point of the task.
        train: number of training points, even.
        validation: number of validation points, even.

    Raises:
        InputError: as `split_sizes`.
    """
    sizes = split_sizes(labels, train, validation)
    keys = jax.random.split(key)
    shuffled = [
        jax.random.permutation(k, np.flatnonzero(labels == label))
        for k, label in zip(keys, (1, -1), strict=True)
    ]
    ends = np.cumsum(sizes)
    parts = [jnp.split(order, ends)[:3] for order in shuffled]
    return Split(*(jnp.concatenate(part) for part in zip(*parts, strict=True)))


def points_2d(
    size: int, xi: int, gap: int
) -> tuple[Int[np.ndarray, "n 2 2"], Int[np.ndarray, "n"]]:
    """Returns every point of Task 1 in two dimensions (Section 3, Fig. 5a).

    With d the Euclidean distance of the active pixels, +1 for d < xi - gap/2 and -1 for
    d >= xi + gap/2; pairs between are left out. Every unordered pair of pixels appears once.

    Args:
        size: pixels along each axis.
        xi: the characteristic scale ξ, in pixels.
        gap: g, in pixels.

    Returns:
        The (row, column) of both active pixels, and the labels, +1 or -1.
    """
    pixels = np.stack(np.divmod(np.arange(size**2), size), axis=1)
    pairs = np.stack(np.triu_indices(size**2, k=1), axis=1)
    distance = np.linalg.norm(pixels[pairs[:, 0]] - pixels[pairs[:, 1]], axis=1)
    labels = np.where(distance < xi - gap / 2, 1, np.where(distance >= xi + gap / 2, -1, 0))
    keep = labels != 0
    return pixels[pairs[keep]], labels[keep]
