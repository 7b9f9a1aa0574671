"""Sets that TensorFlow Datasets (TFDS) has prepared as array_record; operations on images."""

import io
import pathlib
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import PIL.Image
import tensorflow_datasets as tfds
from jax import lax
from jaxtyping import Array, Float, Int, Key, Shaped, UInt8
from tensorflow_datasets.core import constants

from relstab_jax.errors import InputError, reading, reason
from relstab_jax.messages import progress_bar

# Means and standard deviations of the training pixels, scaled to [0, 1], for red, green and blue:
# CIFAR-10's are those of App. B.1, ImageNet's those of torchvision.
CIFAR10_MEAN = (0.4914, 0.4822, 0.4465)
CIFAR10_STD = (0.2023, 0.1994, 0.2010)
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def prepared(name: str, split: str, data_dir: str | None) -> Sequence[dict[str, Any]]:
    """Returns the examples of a prepared set, which are read on access, in any order.

    Each is {"image": bytes of its file, "label": int, …}. Nothing is downloaded.

    Args:
        name: name of the set in TFDS, such as "cifar10" or "imagenet2012".
        split: a split in TFDS's notation, such as "train" or "test[:500]".
        data_dir: the folder of TFDS's sets; None for TFDS's default.

    Raises:
        InputError: if the set is missing, half prepared, or in a format without random access, or
            the split is unknown.
    """
    root = pathlib.Path(data_dir or constants.DATA_DIR).expanduser()
    build = f"tfds build {name} --file_format=array_record --data_dir={root}"
    again = f"prepare it again with `{build} --overwrite` (needs the extra `data`)"
    # An unfinished version is in a folder named incomplete.*
    versions = [info.parent for info in (root / name).glob("[0-9]*/dataset_info.json")]
    if not versions:
        raise InputError(
            f"data_dir holds no prepared {name}: prepare it with `{build}` (needs the extra "
            "`data`), or give the folder that holds it"
        )
    with reading(root / name, "a prepared set", again):
        folder = max(versions, key=lambda version: [int(n) for n in version.name.split(".")])
        builder = tfds.builder_from_directory(folder)
    try:
        decoders = {"image": tfds.decode.SkipDecoding()}
        source = builder.as_data_source(split, decoders=decoders)  # pyright: ignore[reportCallIssue]
        files = builder.info.splits[split].file_instructions
        for first in np.cumsum([0, *(file.take for file in files[:-1])]):
            source.data_source[int(first)]  # opens the file, which fails if it is truncated
    except NotImplementedError:
        raise InputError(f"{folder} is in a format without random access: {again}") from None
    except ValueError as error:
        raise InputError(f"split={split!r} of {name} is not known: {reason(error)}") from error
    except (RuntimeError, IndexError) as error:
        raise InputError(
            f"{name} {folder.name} is half prepared or damaged ({reason(error)}): {again}"
        ) from error
    return source


def decoded(example: dict[str, Any]) -> PIL.Image.Image:
    """Decodes the image of an example of a prepared set to RGB."""
    return PIL.Image.open(io.BytesIO(example["image"])).convert("RGB")


def load(
    name: str, split: str, data_dir: str | None
) -> tuple[UInt8[np.ndarray, "P H W C"], Int[np.ndarray, " P"]]:
    """Reads the images and labels of a set that fits in memory, in TFDS's order.

    Takes the arguments of `prepared`, and raises its errors.

    Raises:
        InputError: also if an image cannot be decoded.
    """
    source = prepared(name, split, data_dir)
    images, labels = [], []
    for n in progress_bar(range(len(source)), f"Reading {name} {split}"):
        with reading(f"image {n} of {name} {split}", "an image", "prepare the set again"):
            row = source[n]
            images.append(np.asarray(decoded(row)))
            labels.append(row["label"])
    return np.stack(images), np.array(labels)


def normalise(
    images: UInt8[Array | np.ndarray, "*P H W C"], mean: Sequence[float], std: Sequence[float]
) -> Float[Array, "*P H W C"]:
    """Returns (pixel / 255 - mean) / std in float32, with a mean and a std for each channel."""
    pixels = jnp.asarray(images, jnp.float32) / 255
    per_channel = (1,) * (pixels.ndim - 1) + (-1,)
    shift, scale = (jnp.array(x, jnp.float32).reshape(per_channel) for x in (mean, std))
    return (pixels - shift) / scale


def padded_crop(
    key: Key[Array, ""], image: UInt8[Array, "H W C"], padding: int
) -> UInt8[Array, "H W C"]:
    """Pads an image by `padding` black pixels, and crops a random window of its original size."""
    padded = jnp.pad(image, ((padding, padding), (padding, padding), (0, 0)))
    top, left = jax.random.randint(key, (2,), 0, 2 * padding + 1)
    return lax.dynamic_slice(padded, (top, left, 0), image.shape)


def random_flip(key: Key[Array, ""], image: Shaped[Array, "H W C"]) -> Shaped[Array, "H W C"]:
    """Mirrors an image left to right with probability 1/2."""
    return jnp.where(jax.random.bernoulli(key), image[:, ::-1], image)


def with_noise(
    key: Key[Array, ""], image: Float[Array, "H W C"], eta: float
) -> Float[Array, "H W C"]:
    """Adds white noise of norm η: standard deviation η / √(CHW) for each value (App. B.1)."""
    return image + eta / image.size**0.5 * jax.random.normal(key, image.shape)
