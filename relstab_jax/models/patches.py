"""Patches of circular convolutions in one dimension, and which of them differ."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Shaped


def patches(
    x: Shaped[Array, "P L C"], filter_size: int, stride: int
) -> Shaped[Array, "P L_out FC"]:
    """Returns the patches of a circular convolution, flattened to (tap, channel).

    `stride` is 1, or F, which must divide L. The patch of output pixel o begins (F - 1) // 2 pixels
    left of pixel o * stride, for odd and even F alike.

    One matrix product with the patches makes the convolution. Under `vmap` over seeds it becomes a
    batched matrix product, which is fast on every device, in loops too.
    """
    left = (filter_size - 1) // 2
    if stride == 1:
        return jnp.concatenate([jnp.roll(x, left - f, axis=1) for f in range(filter_size)], axis=-1)
    P, L, C = x.shape
    return jnp.roll(x, left, axis=1).reshape(P, L // filter_size, filter_size * C)


class DistinctRows(NamedTuple):
    """Images [P, L, C] with few distinct pixels: pixel l of image p is values[row[p, l]].

    Row 0 is the background. Rows p·A + 1 to p·A + A belong to image p, which may not use them all.

    Attributes:
        values: the distinct pixels; N = 1 + P·A.
        row: the index in `values` of each pixel.
    """

    values: Float[Array, "N C"]
    row: Int[Array, "P L"]

    @property
    def active(self) -> int:
        """A, the number of rows that belong to each image."""
        return (len(self.values) - 1) // len(self.row)

    def images(self) -> Float[Array, "P L C"]:
        """Returns the images [P, L, C].

        It is a sum over the rows that an image may use, of which one is selected: its gradient is
        deterministic on a GPU, unlike that of `values[row]`.
        """
        before = self.active * jnp.arange(len(self.row))[:, None]  # rows of the images before
        nth = jnp.where(self.row > 0, self.row - before, 0)[..., None]
        own = self.values[1:].reshape(len(self.row), self.active, -1)
        x = jnp.where(nth == 0, self.values[0], 0)
        for a in range(self.active):
            x = x + jnp.where(nth == a + 1, own[:, None, a], 0)
        return x


def first_of_each_row(
    x: Shaped[Array, "P L C"], row: Int[Array, "P L"], active: int
) -> Shaped[Array, "N C"]:
    """Returns for each row the first pixel of its image that has it, zeros for the background."""
    P, _, C = x.shape
    owned = 1 + jnp.arange(P * active).reshape(P, active, 1)
    first = (row[:, None, :] == owned).argmax(axis=-1)
    pixels = jnp.take_along_axis(x, first[..., None], axis=1)
    return jnp.concatenate([jnp.zeros((1, C), x.dtype), pixels.reshape(P * active, C)])


def distinct_pixels(x: Float[Array, "P L C"], active: int) -> DistinctRows:
    """Finds the nonzero pixels of each image; NaN everywhere if one has more than `active`."""
    nonzero = (x != 0).any(axis=-1)
    nth = nonzero.cumsum(axis=1)
    row = jnp.where(nonzero, nth + active * jnp.arange(len(x))[:, None], 0)
    values = first_of_each_row(x, row, active)
    return DistinctRows(jnp.where(nth.max() > active, jnp.nan, values), row)


def distinct_patches(x: DistinctRows, filter_size: int) -> DistinctRows:
    """Returns the patches with stride F: those with an active pixel, and that of the background.

    The row of a patch with several active pixels is that of the last one.
    """
    met = patches(x.row[..., None], filter_size, filter_size)
    row = met.max(axis=-1)
    rows_met = first_of_each_row(met, row, x.active)
    N = len(rows_met)
    # A product with zeros and ones: its gradient is deterministic on a GPU, unlike indexing's.
    select = jax.nn.one_hot(rows_met.reshape(-1), N, dtype=x.values.dtype)
    return DistinctRows((select @ x.values).reshape(N, -1), row)


class DistinctPatches(NamedTuple):
    """P images as the distinct patches of each layer. A leading axis S is that of seeds.

    Attributes:
        pixels: the distinct pixels [N_0, C].
        rows: for each layer k, its distinct patches [N_k, F]: for each tap, the index of a distinct
            pixel (k = 1) or patch of layer k - 1.
        positions: for each pixel of the last layer, the index of its patch [P, L_K].
    """

    pixels: Float[Array | np.ndarray, "*S N C"]
    rows: tuple[Int[Array | np.ndarray, "*S N F"], ...]
    positions: Int[Array | np.ndarray, "*S P L"]


def distinct(
    images: Float[np.ndarray, "P L C"], filter_size: int, strides: tuple[int, ...]
) -> DistinctPatches:
    """Finds the distinct patches of each layer, on the host."""
    P, L, C = images.shape
    pixels, row = np.unique(images.reshape(-1, C), axis=0, return_inverse=True)
    row = row.reshape(P, L)
    rows = []
    for stride in strides:
        seen = np.asarray(patches(jnp.asarray(row[..., None]), filter_size, stride))
        found, row = np.unique(seen.reshape(-1, filter_size), axis=0, return_inverse=True)
        rows.append(found.astype(np.int32))
        row = row.astype(np.int32).reshape(seen.shape[:2])
    return DistinctPatches(pixels, tuple(rows), row)


def stacked(of_seeds: Sequence[DistinctPatches]) -> DistinctPatches:
    """Stacks the images of several seeds, padded with zeros to the most patches of a seed."""

    def stack(*arrays: np.ndarray) -> np.ndarray:
        longest = max(len(a) for a in arrays)
        return np.stack([np.pad(a, [(0, longest - len(a)), (0, 0)]) for a in arrays])

    return jax.tree.map(stack, *of_seeds)
