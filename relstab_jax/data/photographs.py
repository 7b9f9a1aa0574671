"""Images to measure on, from wherever they are, in the form that a network takes."""

import pathlib
from collections.abc import Callable, Sequence

import numpy as np
import PIL.Image
from jaxtyping import Float, Int

from relstab_jax.data.images import decoded, prepared
from relstab_jax.errors import InputError

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".ppm", ".pgm")
_MODES = {1: "L", 3: "RGB"}
_SHOWN = 0.875  # of the shorter side, as torchvision evaluates its networks


class Photographs:
    """P images, decoded and cut when they are asked for: `len`, `shape` and items by number.

    Args:
        read: number -> image, uint8 [H, W] or [H, W, C'], or float [H, W, C], which is normalised.
        chosen: the numbers of the P images.
        size: n, pixels along each axis.
        channels: C, 1 or 3.
        mean: of the pixels between 0 and 1, for each channel.
        std: their standard deviation.
    """

    def __init__(
        self,
        read: Callable[[int], np.ndarray],
        chosen: Int[np.ndarray, " P"],
        size: int,
        channels: int,
        mean: Sequence[float],
        std: Sequence[float],
    ):
        self._read, self._chosen = read, chosen
        self._mean, self._std = np.array(mean, np.float32), np.array(std, np.float32)
        self.shape = (len(chosen), size, size, channels)

    def __len__(self) -> int:
        return len(self._chosen)

    def __getitem__(self, number: int) -> Float[np.ndarray, "n n C"]:
        image = self._read(int(self._chosen[number]))
        expected = self.shape[1:]
        if image.dtype != np.uint8:
            if image.shape != expected:
                raise InputError(
                    f"image {number} of numbers has shape {image.shape}, and the network takes "
                    f"{expected}: only pixels of type uint8 are cut to size"
                )
            return image
        pixels = cut(PIL.Image.fromarray(image.squeeze()).convert(_MODES[expected[2]]), expected[0])
        return (pixels.reshape(expected) / np.float32(255) - self._mean) / self._std


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
        source: a folder of image files, of any depth, in the order of their names; an .npz file
            with one array [P, H, W] or [P, H, W, C], or with one named "images": pixels of type
            uint8, or numbers that are normalised already; or the name of a prepared TFDS set.
        number: P, of images.
        size: pixels along each axis, to which larger and smaller images are cut.
        channels: 1 or 3.
        mean: of the pixels between 0 and 1, for each channel.
        std: their standard deviation.
        split: of a TFDS set.
        data_dir: the folder of TFDS's sets.

    Raises:
        InputError: where there are none, or fewer than asked for.
    """
    if channels not in _MODES:
        raise InputError(f"channels={channels}: images have 1 or 3")
    path = pathlib.Path(source).expanduser()
    if path.suffix == ".npz":
        read, found = _array(path)
    elif path.is_dir():
        read, found = _folder(path)
    elif len(path.parts) > 1:
        raise InputError(f"images={source!r}: there is no such folder, and no such .npz file")
    else:
        examples = prepared(source, split, data_dir)
        read, found = lambda n: np.asarray(decoded(examples[n])), len(examples)
    if not 2 <= number <= found:
        raise InputError(
            f"P={number} images must be at least 2 and at most the {found} of {source}"
        )
    chosen = np.linspace(0, found - 1, number).astype(int)
    return Photographs(read, chosen, size, channels, mean, std)


def _folder(path: pathlib.Path) -> tuple[Callable[[int], np.ndarray], int]:
    files = sorted(file for file in path.rglob("*") if file.suffix.lower() in SUFFIXES)
    if not files:
        raise InputError(f"{path} holds no image file ({', '.join(SUFFIXES)})")

    def read(number: int) -> np.ndarray:
        try:
            with PIL.Image.open(files[number]) as image:
                return np.asarray(image.convert("RGB"))
        except OSError as error:
            raise InputError(f"{files[number]} cannot be read as an image: {error}") from error

    return read, len(files)


def _array(path: pathlib.Path) -> tuple[Callable[[int], np.ndarray], int]:
    try:
        with np.load(path) as file:
            name = "images" if "images" in file else file.files[0]
            if name != "images" and len(file.files) > 1:
                raise InputError(f"{path} holds {', '.join(file.files)}, and none named images")
            images = file[name]
    except FileNotFoundError:
        raise InputError(f"images={str(path)!r}: there is no such file") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read as an .npz file: {error}") from error
    if images.ndim not in (3, 4) or (images.dtype != np.uint8 and images.dtype.kind != "f"):
        raise InputError(
            f"{path} holds {images.dtype} {images.shape}; images are uint8 or float, [P, H, W] or "
            "[P, H, W, C]"
        )
    if images.ndim == 3:
        images = images[..., None]
    return lambda n: images[n], len(images)
