"""Images from folders, arrays and TFDS sets, in the form that networks take."""

import collections
import io
import os
import pathlib
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import PIL.Image
import PIL.ImageOps
from jaxtyping import Float, Int, Shaped

from relstab_jax.data.images import prepared
from relstab_jax.errors import InputError, reading, some
from relstab_jax.messages import progress_bar

SUFFIXES = (
    ".png", ".jpg", ".jpeg", ".jfif", ".webp", ".avif", ".bmp", ".gif",
    ".tif", ".tiff", ".jp2", ".ppm", ".pgm", ".pbm",
)  # fmt: skip
_SYSTEM_FILES = ("__MACOSX", "Thumbs.db", "desktop.ini")  # skipped, as hidden files are
_CHANNELS = (1, 3, 4)  # of given pixels: grey; red, green, blue; and opacity
_MODES = {1: "L", 3: "RGB"}  # Pillow's mode, by the number of channels that a network takes
_LUMINANCE = np.array((0.299, 0.587, 0.114), np.float32)  # of red, green and blue, as in Pillow
_SQUARE = 0.875  # side of the central square over the shorter side of the image, as in torchvision
_LARGEST_NORMALISED = 20.0  # standard deviations

Pixels = Shaped[np.ndarray, "H W"] | Shaped[np.ndarray, "H W c"]


class Source(NamedTuple):
    """All images of a folder, an array or a TFDS set.

    Attributes:
        number: how many they are.
        read: number -> pixels [H, W] or [H, W, c], as `fitted` takes them; or normalised images
            [n, n, C].
        assumed: what is assumed about them, to be told to the user.
        normalised: whether `read` returns normalised images.
        label: number -> the label of an image; None where labels are not known.
        classes: number of classes of the labels.
    """

    number: int
    read: Callable[[int], Pixels]
    assumed: str
    normalised: bool = False
    label: Callable[[int], int] | None = None
    classes: int = 0


@dataclass(frozen=True, eq=False)
class Photographs:
    """A sequence of P images [n, n, C], read, resized and normalised on access.

    Attributes:
        source: what they are chosen from.
        chosen: numbers of the P images in the source.
        size: n, pixels along each axis.
        channels: C, 1 or 3.
        mean: mean of the pixels in [0, 1], for each channel.
        std: their standard deviation, for each channel.
        note: where the images are from and what is assumed about them.
    """

    source: Source
    chosen: Int[np.ndarray, " P"]
    size: int
    channels: int
    mean: Float[np.ndarray, " C"]
    std: Float[np.ndarray, " C"]
    note: str

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(P, n, n, C)."""
        return len(self.chosen), self.size, self.size, self.channels

    @property
    def classes(self) -> int:
        """Number of classes of the labels; 0 where labels are not known."""
        return self.source.classes

    @property
    def labels(self) -> Int[np.ndarray, " P"] | None:
        """The labels of the images, where they are known."""
        label = self.source.label
        return None if label is None else np.array([label(int(n)) for n in self.chosen])

    def __len__(self) -> int:
        return len(self.chosen)

    def __getitem__(self, number: int) -> Float[np.ndarray, "n n C"]:
        image = self.source.read(int(self.chosen[number]))
        if not self.source.normalised:
            return (fitted(image, self.size, self.channels) - self.mean) / self.std
        if image.shape != self.shape[1:]:
            raise InputError(
                f"image {number} is normalised and has shape {image.shape}, but the network takes "
                f"{self.shape[1:]}: give that shape, or pixels, which are resized"
            )
        return image

    def check(self) -> None:
        """Reads all images once.

        Raises:
            InputError: for the first one that cannot be decoded or does not fit the network.
        """
        for number in progress_bar(range(len(self)), "Checking the images", unit="image"):
            self[number]


def decode(image: PIL.Image.Image) -> Pixels:
    """Returns the pixels of an open image.

    Returns:
        uint8 [H, W, 3]; for greys of more than 8 bits, uint16 [H, W] or floats in [0, 1] [H, W].

    Raises:
        ValueError: for pixels of unknown range, or several images in one file.
    """
    images = getattr(image, "n_frames", 1)
    if images > 1 and image.format != "MPO":  # the other images of an MPO are previews
        raise ValueError(f"it holds {images} images")
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM")):
        return np.asarray(image).astype(np.uint16)
    if image.mode not in ("I", "F"):
        return np.asarray(image.convert("RGB"))
    pixels = np.asarray(image)
    low, high = pixels.min(), pixels.max()
    if image.mode == "I" or not (low >= 0 and high <= 1):
        raise ValueError(f"{pixels.dtype} pixels from {low:g} to {high:g}, whose range is unknown")
    return pixels


def read(file: str | os.PathLike[str]) -> Pixels:
    """Reads an image file, rotates it upright by its EXIF orientation, and decodes it.

    Raises:
        InputError: if it is missing or cannot be decoded.
    """
    with (
        reading(file, "an image", "save it again, with 8 bits, or remove it"),
        PIL.Image.open(file) as image,
    ):
        PIL.ImageOps.exif_transpose(image, in_place=True)
        return decode(image)


def central_square(image: PIL.Image.Image, size: int) -> np.ndarray:
    """Crops the central square, whose side is 7/8 of the shorter side, and resizes it.

    Leaves an image of size² pixels as it is.

    Returns:
        [size, size] or [size, size, C], of the type of the image.
    """
    if image.size != (size, size):
        scale = size / _SQUARE / min(image.size)
        width, height = (max(size, round(scale * side)) for side in image.size)
        left, top = (width - size) // 2, (height - size) // 2
        image = image.resize((width, height), PIL.Image.Resampling.BILINEAR)
        image = image.crop((left, top, left + size, top + size))
    return np.asarray(image)


def fitted(pixels: Pixels, size: int, channels: int) -> Float[np.ndarray, "n n C"]:
    """Returns the central square of an image, in [0, 1], in the channels that a network takes.

    Args:
        pixels: [H, W], or [H, W, c] with c = 1 (grey), 3 (red, green, blue) or 4 (and opacity,
            which is ignored); uint8, uint16 or bool, which are divided by the largest value of
            their type, or floats in [0, 1].
        size: n, pixels along each axis.
        channels: C, 1 or 3.
    """
    if pixels.ndim == 3 and pixels.shape[-1] == 1:
        pixels = pixels[..., 0]
    if pixels.dtype == np.uint8:
        image = PIL.Image.fromarray(pixels).convert(_MODES[channels])
        return central_square(image, size).reshape(size, size, channels) / np.float32(255)
    highest = np.iinfo(pixels.dtype).max if pixels.dtype.kind == "u" else 1
    scaled = pixels.astype(np.float32) / np.float32(highest)
    if scaled.ndim == 3:
        scaled = scaled[..., :3]
        scaled = scaled @ _LUMINANCE if channels == 1 else scaled
    planes = [scaled] if scaled.ndim == 2 else list(np.moveaxis(scaled, -1, 0))
    planes = [central_square(PIL.Image.fromarray(plane), size) for plane in planes]
    return np.stack(planes * (channels // len(planes)), axis=-1)


def find(
    source: str,
    number: int,
    *,
    size: int,
    channels: int,
    mean: Sequence[float],
    std: Sequence[float],
    split: str = "test",
    data_dir: str | None = None,
) -> Photographs:
    """Finds images, and chooses `number` of them, evenly spaced in their order.

    Args:
        source: a folder of image files, which may be in folders of its own, in the order of their
            names; an .npz or .npy file of images [P, H, W], [P, H, W, C] or [P, C, H, W]; or the
            name of a prepared TFDS set.
        number: P, number of images to choose.
        size: pixels along each axis, to which images are resized.
        channels: 1 or 3.
        mean: mean of the pixels in [0, 1], for each channel.
        std: their standard deviation, for each channel.
        split: split of a TFDS set, or of an .npz file that has several.
        data_dir: the folder of TFDS's sets; None for TFDS's default.

    Raises:
        InputError: if there are no images, fewer than `number`, or images of unknown range.
    """
    if channels not in _MODES:
        raise InputError(f"channels={channels} must be 1 or 3")
    path = pathlib.Path(source).expanduser()
    if source and path.is_dir():
        found = _folder(path)
    elif path.suffix in (".npz", ".npy"):
        found = _array(path, split)
    elif path.is_file():
        raise InputError(
            f"images={source!r} is a single file: give its folder, an .npz or .npy file, or the "
            "name of a TFDS set"
        )
    elif re.fullmatch(r"\w+", source):
        found = _tfds_set(source, split, data_dir)
    else:
        raise InputError(
            f"images={source!r}: there is no such folder; give a folder of image files, an .npz or "
            ".npy file, or the name of a TFDS set"
        )
    if not 2 <= number <= found.number:
        raise InputError(
            f"P={number} images must be at least 2 and at most the {found.number} of {source}"
        )
    chosen = np.linspace(0, found.number - 1, number).astype(int)
    note = f"{number} of the {found.number} images of {source}: {found.assumed}"
    statistics = np.array(mean, np.float32), np.array(std, np.float32)
    return Photographs(found, chosen, size, channels, *statistics, note)


def _folder(path: pathlib.Path) -> Source:
    files, others = [], collections.Counter()
    for file in _files(str(path), frozenset()):
        suffix = os.path.splitext(file)[1].lower()
        if suffix in SUFFIXES:
            files.append(file)
        else:
            others[suffix or os.path.basename(file)] += 1
    if not files:
        raise InputError(f"{path} holds no image file ({', '.join(SUFFIXES)})")
    assumed = "pixels in the range of their type"
    if others:
        assumed += f"; skipped {others.total()} other files ({some(others)})"
    return Source(len(files), lambda n: read(files[n]), assumed)


def _files(folder: str, above: frozenset[str]) -> Iterator[str]:
    """Yields the files in a folder and below it, in the order of their names.

    Follows links, except those to folders `above`, which would be endless. Skips hidden files and
    what operating systems leave behind.
    """
    above |= {os.path.realpath(folder)}
    with reading(folder, "a folder of images", "remove it"), os.scandir(folder) as entries:
        inside = sorted((entry.name, entry.is_dir()) for entry in entries)
    for name, is_folder in inside:
        path = os.path.join(folder, name)
        if name.startswith(".") or name in _SYSTEM_FILES:
            continue
        if not is_folder:
            yield path
        elif os.path.realpath(path) not in above:
            yield from _files(path, above)


def _array(path: pathlib.Path, split: str) -> Source:
    """Finds images in an .npy or .npz file.

    The array is [P, H, W], [P, H, W, C] or [P, C, H, W] with C = 1, 3 or 4. Its values are pixels
    in the range of their type (uint8, uint16 or bool) or in [0, 1] (float); other floats are taken
    as normalised images.
    """
    advice = "give one written by np.savez or np.save"
    with reading(path, "an .npz or .npy file", advice), path.open("rb") as file:
        if file.peek(2).startswith(b"PK"):  # as zip files do
            images = _of_archive(file, split)
        else:
            images = np.lib.format.open_memmap(path, mode="r")
    given = f"{path} holds {images.dtype} {images.shape}"
    if images.ndim == 4 and images.shape[3] not in _CHANNELS and images.shape[1] in _CHANNELS:
        images = images.transpose(0, 2, 3, 1)
    if (
        images.ndim not in (3, 4)
        or (images.ndim == 4) != (images.shape[-1] in _CHANNELS)
        or 0 in images.shape
    ):
        raise InputError(f"{given}: give an array [P, H, W], or [P, H, W, C] with C = 1, 3 or 4")
    if images.ndim == 3:
        images = images[..., None]
    if images.dtype.newbyteorder("=") in (np.uint8, np.uint16, np.bool_):
        assumed = f"{images.dtype} pixels in the range of their type"
        return Source(len(images), images.__getitem__, assumed)
    if images.dtype.kind != "f":
        raise InputError(f"{given}: convert them to uint8, uint16, bool or float")
    lows, highs = zip(*((image.min(), image.max()) for image in images), strict=True)
    low, high = np.min(lows), np.max(highs)
    if not np.isfinite([low, high]).all():
        bad = int(np.isfinite(np.add(lows, highs)).argmin())
        raise InputError(f"{path}: image {bad} has values that are not finite: remove it")
    if max(-low, high) > _LARGEST_NORMALISED:
        raise InputError(
            f"{path} holds floats from {low:g} to {high:g}, which are neither pixels in [0, 1] nor "
            "normalised: save pixels from 0 to 255 as uint8"
        )
    normalised = bool(low < 0 or high > 1)
    kind = "normalised already" if normalised else "pixels"
    assumed = f"numbers from {low:.3g} to {high:.3g}, taken as {kind}"
    return Source(len(images), images.__getitem__, assumed, normalised)


def _of_archive(file: BinaryIO, split: str) -> np.ndarray:
    """Reads the array of images of an open .npz file.

    It is named "images", "<split>_images" (as in MedMNIST) or "x_<split>" (as in Keras), or is the
    only one.

    Raises:
        InputError: if there is none.
        ValueError: if the archive holds something else under that name.
    """
    names = ("images", f"{split}_images", f"x_{split}")
    with np.load(file) as arrays:
        named = [name for name in names if name in arrays.files]
        if not named and len(arrays.files) == 1:
            named = arrays.files
        if not named:
            raise InputError(
                f"{file.name} holds {some(arrays.files) or 'no array'}, and none named "
                f"{' or '.join(names)}: give the array of images one of these names"
            )
        images = arrays[named[0]]
    if not isinstance(images, np.ndarray):
        raise ValueError(f"{named[0]} is no array")
    return images


def _tfds_set(name: str, split: str, data_dir: str | None) -> Source:
    try:
        examples: Any = prepared(name, split, data_dir)
    except InputError as error:
        raise InputError(f"images={name!r} is not a folder, and {error}") from error

    def read(number: int) -> Pixels:
        with (
            reading(f"image {number} of {name}", "an image", "prepare the set again"),
            PIL.Image.open(io.BytesIO(examples[number]["image"])) as image,
        ):
            return decode(image)

    found = Source(len(examples), read, f"{split}, pixels in the range of their type")
    label = dict(examples.dataset_info.features).get("label")
    if classes := getattr(label, "num_classes", 0):
        return found._replace(label=lambda n: int(examples[n]["label"]), classes=classes)
    return found
