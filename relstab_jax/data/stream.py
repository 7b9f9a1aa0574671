"""Photographs of a set that does not fit in memory, decoded in parallel on access."""

import math
import os
import threading
from collections.abc import Iterator

import grain
import jax
import jax.numpy as jnp
import numpy as np
import PIL.Image
from jaxtyping import Array, Int, Key, UInt8

from relstab_jax.data.images import decoded, prepared
from relstab_jax.data.photographs import central_square
from relstab_jax.errors import InputError
from relstab_jax.messages import log

# Ranges of random crops, as in torchvision.
AREA = 0.08, 1.0  # as a fraction of the photograph's area
ASPECT = 3 / 4, 4 / 3  # width over height


class Stream:
    """The numbered photographs of a prepared set, cut to size when they are read.

    A photograph that cannot be decoded is logged, and replaced by the next one that can.

    Args:
        name: name of the set in TFDS, such as "imagenet2012".
        split: a split in TFDS's notation, such as "train+validation[:500]".
        data_dir: the folder of TFDS's sets; None for TFDS's default.
        size: n, pixels along each axis of the returned RGB images.
        augment: whether to crop and flip at random where keys are given.

    Raises:
        InputError: as `images.prepared` does.
    """

    def __init__(self, name: str, split: str, data_dir: str | None, size: int, augment: bool):
        self._source = prepared(name, split, data_dir)
        self._name, self._size, self._augment = name, size, augment
        self._damaged: set[int] = set()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._source)

    @property
    def damaged(self) -> int:
        """Number of photographs that could not be decoded so far."""
        return len(self._damaged)

    def __getitem__(self, numbers: Int[np.ndarray, " P"]) -> UInt8[np.ndarray, "P n n 3"]:
        """Returns the central squares of the photographs with these numbers."""
        return np.concatenate([images for images, _ in self.batches(numbers[:, None])])

    def batches(
        self, numbers: Int[np.ndarray, "N ..."], keys: Key[Array, "..."] | None = None
    ) -> Iterator[tuple[UInt8[np.ndarray, "... n n 3"], Int[np.ndarray, "..."]]]:
        """Yields N batches of photographs and labels, read ahead by several threads.

        Args:
            numbers: numbers of the photographs in each batch.
            keys: random keys, broadcast to the shape of a batch. A photograph's crop and flip
                depend only on its key and its number. None for central squares.

        Raises:
            InputError: if no photograph of the set can be decoded.
        """
        shape = numbers.shape[1:]
        size = math.prod(shape)
        entropy = None
        if keys is not None and self._augment:
            entropy = np.asarray(jax.random.key_data(jnp.broadcast_to(keys, shape)))
            entropy = entropy.reshape(size, -1)

        def read(index: int, number: int) -> tuple[np.ndarray, int]:
            photograph, label = self._decoded(number)
            if entropy is None:
                return central_square(photograph, self._size), label
            random = np.random.default_rng([*entropy[index % size], number])
            return random_resized_crop(random, photograph, self._size), label

        threads = os.cpu_count() or 1
        ahead = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=2 * max(size, threads))
        dataset = (
            grain.MapDataset.source(numbers.ravel().tolist())
            .map_with_index(read)
            .to_iter_dataset(ahead)
        )
        for images, labels in dataset.batch(size):
            yield images.reshape(*shape, *images.shape[1:]), labels.reshape(shape)

    def _decoded(self, number: int) -> tuple[PIL.Image.Image, int]:
        for other in range(number, number + len(self)):
            n = other % len(self)
            example = self._source[n]
            try:
                return decoded(example), int(example["label"])
            except (OSError, SyntaxError, ValueError) as error:  # Pillow's errors
                self._report(n, error)
        raise InputError(f"no photograph of {self._name} can be decoded")

    def _report(self, number: int, error: Exception) -> None:
        with self._lock:
            if number in self._damaged:
                return
            self._damaged.add(number)
            count = len(self._damaged)
        log.warning(
            "photograph %d of %s cannot be decoded (%s), so the next one replaces it: %d so far",
            number,
            self._name,
            error,
            count,
        )


def random_resized_crop(
    random: np.random.Generator, photograph: PIL.Image.Image, size: int
) -> UInt8[np.ndarray, "n n 3"]:
    """Crops a random part of a photograph, resizes it, and mirrors it with probability 1/2.

    Draws area and aspect ratio like torchvision's `RandomResizedCrop`. If ten draws do not fit into
    the photograph, takes its central part with the nearest allowed aspect ratio.

    Args:
        random: NumPy's generator, which is advanced.
        photograph: of any size, in RGB.
        size: n, pixels along each axis of the result.
    """
    width, height = photograph.size
    for _ in range(10):
        area = random.uniform(*AREA) * width * height
        aspect = np.exp(random.uniform(*np.log(ASPECT)))
        w, h = round((area * aspect) ** 0.5), round((area / aspect) ** 0.5)
        if 0 < w <= width and 0 < h <= height:
            left, top = random.integers(width - w + 1), random.integers(height - h + 1)
            break
    else:
        aspect = np.clip(width / height, *ASPECT)
        w, h = min(width, round(height * aspect)), min(height, round(width / aspect))
        left, top = (width - w) // 2, (height - h) // 2
    box = int(left), int(top), int(left) + w, int(top) + h
    pixels = photograph.resize((size, size), PIL.Image.Resampling.BILINEAR, box, reducing_gap=2.0)
    if random.random() < 0.5:
        pixels = pixels.transpose(PIL.Image.Transpose.FLIP_LEFT_RIGHT)
    return np.asarray(pixels)
