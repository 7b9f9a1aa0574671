"""Images to measure on, from wherever they are, in the form that a network takes."""

import collections
import io
import os
import pathlib
import re
import zipfile
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import PIL.Image
import PIL.ImageOps
from jaxtyping import Float, Int, Shaped
from tqdm import tqdm

from relstab_jax.data.images import prepared
from relstab_jax.errors import InputError, reading, some

SUFFIXES = (
    *(".png", ".jpg", ".jpeg", ".jfif", ".webp", ".avif", ".bmp", ".gif"),
    *(".tif", ".tiff", ".jp2", ".ppm", ".pgm", ".pbm"),
)
_LEFT_BY_SYSTEMS = ("__MACOSX", "Thumbs.db", "desktop.ini")  # beside hidden files
_CHANNELS = (1, 3, 4)  # of pixels that are given: grey; red, green, blue; and opacity
_MODES = {1: "L", 3: "RGB"}  # by the channels that a network takes
_LUMINANCE = np.array((0.299, 0.587, 0.114), np.float32)  # of red, green, blue, as Pillow has it
_SHOWN = 0.875  # of the shorter side, as torchvision evaluates its networks
_FARTHEST = 20.0  # standard deviations: numbers beyond are not taken as normalised

Pixels = Shaped[np.ndarray, "H W"] | Shaped[np.ndarray, "H W c"]
Read = Callable[[int], Pixels]


class Photographs:
    """P images, decoded and cut when they are asked for: `len`, `shape` and items by number.

    Args:
        read: number -> pixels [H, W] or [H, W, c], as `fitted` takes them; or numbers [n, n, C],
            where they are normalised already.
        chosen: the numbers of the P images.
        size: n, pixels along each axis.
        channels: C, 1 or 3.
        mean: of the pixels between 0 and 1, for each channel.
        std: their standard deviation.
        normalised: whether `read` gives normalised numbers.
        note: where the images are from and what is assumed about them.
    """

    def __init__(
        self,
        read: Read,
        chosen: Int[np.ndarray, " P"],
        size: int,
        channels: int,
        mean: Sequence[float],
        std: Sequence[float],
        normalised: bool,
        note: str,
    ):
        self._read, self._chosen, self._normalised = read, chosen, normalised
        self._mean, self._std = np.array(mean, np.float32), np.array(std, np.float32)
        self.shape = (len(chosen), size, size, channels)
        self.note = note

    def __len__(self) -> int:
        return len(self._chosen)

    def __getitem__(self, number: int) -> Float[np.ndarray, "n n C"]:
        image = self._read(int(self._chosen[number]))
        _, size, _, channels = self.shape
        if not self._normalised:
            return (fitted(image, size, channels) - self._mean) / self._std
        if image.shape != self.shape[1:]:
            raise InputError(
                f"image {number} of normalised numbers has shape {image.shape}, and the network "
                f"takes {self.shape[1:]}: only pixels, such as of type uint8, are cut to size"
            )
        return image

    def check(self) -> None:
        """Reads all images, one after the other, and keeps none.

        Raises:
            InputError: for the first that cannot be decoded, or is not what a network takes.
        """
        for number in tqdm(range(len(self)), "Checking the images", unit="image", disable=None):
            self[number]


def decode(image: PIL.Image.Image) -> Pixels:
    """Returns the pixels of an opened image, of a type whose range they are in.

    They are uint8 [H, W, 3]; or, where a file has more than 8 bits of grey, uint16 [H, W] or float
    [H, W], between 0 and 1.

    Raises:
        ValueError: for pixels whose range is not known, or more images than one in a file.
    """
    if image.format != "MPO" and getattr(image, "n_frames", 1) > 1:  # whose others are previews
        raise ValueError(f"it holds {getattr(image, 'n_frames', 1)} images")
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
    """Reads an image file, upright as its EXIF orientation says, and decodes it.

    Raises:
        InputError: where that cannot be done.
    """
    with (
        reading(file, "an image", "save it anew, with 8 bits, or take it out"),
        PIL.Image.open(file) as image,
    ):
        PIL.ImageOps.exif_transpose(image, in_place=True)
        return decode(image)


def cut(image: PIL.Image.Image, size: int) -> np.ndarray:
    """Returns the central square, [size, size] or [size, size, C]: 7/8 of the shorter side.

    An image that has the size already stays as it is.
    """
    if image.size != (size, size):
        scale = size / _SHOWN / min(image.size)
        width, height = (max(size, round(scale * side)) for side in image.size)
        left, top = (width - size) // 2, (height - size) // 2
        image = image.resize((width, height), PIL.Image.Resampling.BILINEAR)
        image = image.crop((left, top, left + size, top + size))
    return np.asarray(image)


def fitted(pixels: Pixels, size: int, channels: int) -> Float[np.ndarray, "n n C"]:
    """Returns pixels as a network takes them: between 0 and 1, cut to `size`, in 1 or 3 channels.

    Args:
        pixels: uint8, uint16 or bool, which are divided by the largest value of their type, or
            float, between 0 and 1: [H, W], or [H, W, c] with c = 1 (grey), 3 (red, green, blue)
            or 4, whose opacity is ignored.
        size: n, pixels along each axis.
        channels: C, 1 or 3.
    """
    if pixels.ndim == 3 and pixels.shape[-1] == 1:
        pixels = pixels[..., 0]
    if pixels.dtype == np.uint8:
        image = PIL.Image.fromarray(pixels).convert(_MODES[channels])
        return cut(image, size).reshape(size, size, channels) / np.float32(255)
    highest = np.iinfo(pixels.dtype).max if pixels.dtype.kind == "u" else 1
    scaled = pixels.astype(np.float32) / np.float32(highest)
    if scaled.ndim == 3:
        scaled = scaled[..., :3]
        scaled = scaled @ _LUMINANCE if channels == 1 else scaled
    planes = [scaled] if scaled.ndim == 2 else list(np.moveaxis(scaled, -1, 0))
    planes = [cut(PIL.Image.fromarray(plane), size) for plane in planes]
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
        source: a folder of image files, of any depth, in the order of their names; an .npz or .npy
            file, as of `_array`; or the name of a prepared TFDS set.
        number: P, of images.
        size: pixels along each axis, to which larger and smaller images are cut.
        channels: 1 or 3.
        mean: of the pixels between 0 and 1, for each channel.
        std: their standard deviation.
        split: of a TFDS set, or of an .npz file that has several.
        data_dir: the folder of TFDS's sets.

    Raises:
        InputError: where there are none, or fewer than asked for, or their range is not known.
    """
    if channels not in _MODES:
        raise InputError(f"channels={channels}: images have 1 or 3")
    path = pathlib.Path(source).expanduser()
    if source and path.is_dir():
        found = _folder(path)
    elif path.suffix in (".npz", ".npy"):
        found = _array(path, split)
    elif path.is_file():
        raise InputError(
            f"images={source!r} is one file: give the folder that it is in, an .npz or .npy file, "
            "or the name of a TFDS set"
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
    return Photographs(found.read, chosen, size, channels, mean, std, found.normalised, note)


class _Found(NamedTuple):
    """Images that were found: how many, how one is read, and what is assumed about them."""

    number: int
    read: Read
    assumed: str
    normalised: bool = False


def _folder(path: pathlib.Path) -> _Found:
    files, others = [], collections.Counter()
    for file in _files(str(path), frozenset()):
        suffix = os.path.splitext(file)[1].lower()
        if suffix in SUFFIXES:
            files.append(file)
        else:
            others[suffix or os.path.basename(file)] += 1
    if not files:
        raise InputError(f"{path} holds no image file ({', '.join(SUFFIXES)})")
    left_out = f"; other files left out: {others.total()} ({some(others)})" if others else ""
    return _Found(
        len(files), lambda n: read(files[n]), f"pixels in the range of their type{left_out}"
    )


def _files(folder: str, above: frozenset[str]) -> Iterator[str]:
    """Gives out the files in a folder and below it, in the order of their names.

    Links are followed, but for those to one of the folders `above`, which they are in. Hidden files
    and what operating systems leave behind are skipped.
    """
    above |= {os.path.realpath(folder)}
    with reading(folder, "a folder of images", "take it out"), os.scandir(folder) as entries:
        inside = sorted((entry.name, entry.is_dir()) for entry in entries)
    for name, is_folder in inside:
        path = os.path.join(folder, name)
        if name.startswith(".") or name in _LEFT_BY_SYSTEMS:
            continue
        if not is_folder:
            yield path
        elif os.path.realpath(path) not in above:
            yield from _files(path, above)


def _array(path: pathlib.Path, split: str) -> _Found:
    """Finds images in an .npy file, or in an .npz file.

    The array is [P, H, W] or [P, H, W, C], or [P, C, H, W] where C tells. In an .npz it is named
    images, or <split>_images (as in MedMNIST) or x_<split>, or is the only one. Its numbers are
    uint8, uint16 or bool, pixels in the range of their type; or float, pixels where they lie
    between 0 and 1, and else normalised already.
    """
    names = ("images", f"{split}_images", f"x_{split}")
    advice = "give another, as np.savez or np.save writes it"
    with reading(path, "an .npz or .npy file", advice), path.open("rb") as file:
        magic = np.lib.format.MAGIC_PREFIX
        if file.read(len(magic)) == magic:
            images = np.load(path, mmap_mode="r")
        elif not zipfile.is_zipfile(file):
            raise ValueError("it is neither")
        else:
            file.seek(0)
            with np.load(file) as arrays:
                named = [name for name in names if name in arrays.files]
                if not named and len(arrays.files) == 1:
                    named = arrays.files
                if not named:
                    raise InputError(
                        f"{path} holds {some(arrays.files) or 'no array'}, and none named "
                        f"{' or '.join(names)}: name the array of images so"
                    )
                images = arrays[named[0]]
                if not isinstance(images, np.ndarray):  # what else a zip file may hold
                    raise ValueError(f"{named[0]} is no array")
    given = f"{path} holds {images.dtype} {images.shape}"
    if images.ndim == 4 and images.shape[3] not in _CHANNELS and images.shape[1] in _CHANNELS:
        images = images.transpose(0, 2, 3, 1)
    if (
        images.ndim not in (3, 4)
        or (images.ndim == 4) != (images.shape[-1] in _CHANNELS)
        or 0 in images.shape
    ):
        raise InputError(
            f"{given}; images are [P, H, W], or [P, H, W, C] with C = 1, 3 or 4: bring the array "
            "into this form"
        )
    if images.ndim == 3:
        images = images[..., None]
    if images.dtype.newbyteorder("=") in (np.uint8, np.uint16, np.bool_):
        assumed = f"{images.dtype} pixels in the range of their type"
        return _Found(len(images), images.__getitem__, assumed)
    if images.dtype.kind != "f":
        raise InputError(
            f"{given}; pixels are uint8, uint16 or bool, and other numbers float: convert them"
        )
    lows, highs = zip(*((image.min(), image.max()) for image in images), strict=True)
    low, high = np.min(lows), np.max(highs)
    if not np.isfinite([low, high]).all():
        bad = int(np.isfinite(np.add(lows, highs)).argmin())
        raise InputError(f"{path}: image {bad} has values that are not finite; take it out")
    if max(-low, high) > _FARTHEST:
        raise InputError(
            f"{path} holds float numbers from {low:g} to {high:g}, which are neither pixels from 0 "
            "to 1 nor normalised: save pixels from 0 to 255 as uint8"
        )
    normalised = low < 0 or high > 1
    assumed = "taken as normalised already" if normalised else "taken as pixels"
    assumed = f"numbers from {low:.3g} to {high:.3g}, {assumed}"
    return _Found(len(images), images.__getitem__, assumed, bool(normalised))


def _tfds_set(name: str, split: str, data_dir: str | None) -> _Found:
    try:
        examples = prepared(name, split, data_dir)
    except InputError as error:
        raise InputError(f"images={name!r} is no folder, and {error}") from error

    def read(number: int) -> Pixels:
        with (
            reading(f"image {number} of {name}", "an image", "prepare the set anew"),
            PIL.Image.open(io.BytesIO(examples[number]["image"])) as image,
        ):
            return decode(image)

    return _Found(len(examples), read, f"{split}, pixels in the range of their type")
