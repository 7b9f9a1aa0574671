"""Perturbations of images: functions (key, image) -> image, equal where they do the same.

A perturbation of your own is any function of this form. As a frozen dataclass of its settings with
`__call__` it is compiled once for all equal settings; a `Deformation` needs its `field` alone.

Each draws its copies from the key, at one amount: which way is random, how far is not. All but
`GaussianNoise` are deformations, of square images. They move the content of an image about its
centre, ((size - 1) / 2, (size - 1) / 2), by the displacement field (dx, dy) [size, size] in pixels
of `diffeomorphism.warp`, bilinearly, with positions outside the image clamped to its border. x runs
along columns and y along rows, downwards.
"""

import abc
import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key
from scipy.ndimage import gaussian_filter1d

from relstab_jax.errors import InputError
from relstab_jax.measures import diffeomorphism
from relstab_jax.measures.diffeomorphism import Field

WHOLE = "whole"  # displacement field, among the parts that a `Diffeomorphism` may have
_DIRECTIONS = np.array([[1, 0], [0, 1], [-1, 0], [0, -1]])


class Deformation(abc.ABC):
    """A perturbation that moves pixels: what follows from a random displacement field.

    Attributes:
        interpolation: as for `diffeomorphism.warp`.
    """

    interpolation: str = "linear"

    @abc.abstractmethod
    def field(self, key: Key[Array, ""], size: int) -> Field:
        """Draws the displacement field (dx, dy), each [size, size], in pixels."""

    def __call__(
        self, key: Key[Array, ""], image: Float[Array, "*size_size_C"]
    ) -> Float[Array, "*size_size_C"]:
        """Deforms an image [size, size, C].

        Raises:
            InputError: where the image is not square, and as `field` and `diffeomorphism.warp` do.
        """
        if image.ndim != 3 or image.shape[0] != image.shape[1]:
            raise InputError(
                f"an image has shape {image.shape}: a deformation needs [size, size, channels]"
            )
        return diffeomorphism.warp(image, *self.field(key, len(image)), self.interpolation)

    def of_map(
        self, key: Key[Array, ""], f: Float[Array, "l l C"], size: int
    ) -> Float[Array, "l l C"]:
        """Deforms a map of a layer as `__call__` does the image, at the resolution of the map.

        The l pixels of the map are taken to span the image evenly, as with padded convolutions.

        Args:
            key: of the copy of the image.
            f: the map.
            size: pixels of the image along each axis.
        """
        scale = len(f) / size
        dx, dy = (jax.image.resize(d, f.shape[:2], "linear") for d in self.field(key, size))
        return diffeomorphism.warp(f, scale * dx, scale * dy, self.interpolation)


@dataclass(frozen=True)
class Diffeomorphism(Deformation):
    """A random smooth deformation of maximal entropy (Section 2, Fig. 1 left).

    Attributes:
        delta: δ, the typical displacement at the centre of the image, in pixels.
        cut: c, the number of modes along each axis.
        interpolation: of the deformed image: "linear", "nearest" or "gaussian".
        part: which part of the displacement field alone moves the image (footnote 1): "whole",
            "translation", "rotation", "stretching", "shear" or "remainder", as of
            `diffeomorphism.parts`. Equal keys give parts of one field, each as large as it is in
            it: at c = 3 they are 28, 4, 4, 8 and 56 % of its mean square, so that a rotation moves
            pixels by δ/6. Take δ = 5, or D measures their interpolation. The D's of the parts do
            not add up to that of the whole: there are cross terms between parts (at the border of
            the image the field vanishes, which its parts do not), and D grows more slowly than the
            square of displacements that are not small. Raises InputError for any other part.
    """

    delta: float = 1.0
    cut: int = 3
    interpolation: str = "linear"
    part: str = WHOLE

    def __post_init__(self):
        known = WHOLE, *diffeomorphism.PARTS
        if self.part not in known:
            raise InputError(f"part={self.part!r} is not known: use one of {', '.join(known)}")

    def field(self, key: Key[Array, ""], size: int) -> Field:
        """Draws the displacement field (dx, dy), each [size, size], in pixels.

        Raises:
            InputError: as `diffeomorphism.checked_temperature` does.
        """
        temperature = diffeomorphism.checked_temperature(self.delta, self.cut, size)
        whole = diffeomorphism.displacement(key, size, self.cut, temperature)
        return whole if self.part == WHOLE else diffeomorphism.parts(*whole)[self.part]


@dataclass(frozen=True)
class Translation(Deformation):
    """A shift by a given distance in a uniformly random direction.

    Attributes:
        pixels: the distance, more than 0 and less than the size of the image. Raises InputError for
            others.
        along_axes: whether only left, right, up and down are possible, with equal probability. By
            whole pixels nothing is interpolated then.

    >>> import jax
    >>> image = jax.numpy.eye(3)[..., None]
    >>> Translation(1, along_axes=True)(jax.random.key(0), image)[..., 0].tolist()  # down
    [[1.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]
    """

    pixels: float
    along_axes: bool = False

    def __post_init__(self):
        _check("pixels", self.pixels, 0, math.inf)

    def field(self, key: Key[Array, ""], size: int) -> Field:
        """Draws the displacement field (dx, dy), each [size, size], in pixels."""
        _check("pixels", self.pixels, 0, size)
        if self.along_axes:
            direction = jax.random.choice(key, jnp.asarray(_DIRECTIONS, jnp.result_type(float)))
        else:
            angle = jax.random.uniform(key, (), maxval=2 * math.pi)
            direction = jnp.stack([jnp.cos(angle), jnp.sin(angle)])
        dx, dy = self.pixels * direction
        return jnp.full((size, size), dx), jnp.full((size, size), dy)


@dataclass(frozen=True)
class Rotation(Deformation):
    """A rotation about the centre by a given angle, either way with equal probability.

    Attributes:
        degrees: the angle, more than 0 and less than 360. Raises InputError for others.
    """

    degrees: float

    def __post_init__(self):
        _check("degrees", self.degrees, 0, 360)

    def field(self, key: Key[Array, ""], size: int) -> Field:
        """Draws the displacement field (dx, dy), each [size, size], in pixels."""
        angle = _sign(key) * math.radians(self.degrees)
        return _of_map(_rotation(angle), size)


@dataclass(frozen=True)
class Scaling(Deformation):
    """An enlargement about the centre, or the opposite reduction, with equal probability.

    Attributes:
        factor: of all lengths, 1.05 for 5 % larger or 1/1.05 of the size; more than 1. Raises
            InputError for others.
    """

    factor: float

    def __post_init__(self):
        _check("factor", self.factor, 1, math.inf)

    def field(self, key: Key[Array, ""], size: int) -> Field:
        """Draws the displacement field (dx, dy), each [size, size], in pixels."""
        factor = self.factor ** _sign(key)
        return _of_map(factor * jnp.eye(2, dtype=factor.dtype), size)


@dataclass(frozen=True)
class Shear(Deformation):
    """A pure shear: longer along one axis, as much shorter across it; which axis is random.

    It is the traceless symmetric part of deformations (footnote 1). Where rows slide along each
    other, the simple shear of many libraries, the image is rotated too, by half the angle.

    Attributes:
        degrees: γ, the largest change of a right angle: lengths change by λ and 1/λ, where
            λ⁴ = (1 + sin γ) / (1 - sin γ). More than 0 and less than 90. Raises InputError for
            others.
    """

    degrees: float

    def __post_init__(self):
        _check("degrees", self.degrees, 0, 90)

    def field(self, key: Key[Array, ""], size: int) -> Field:
        """Draws the displacement field (dx, dy), each [size, size], in pixels."""
        axis = _rotation(jax.random.uniform(key, (), maxval=math.pi))
        sine = math.sin(math.radians(self.degrees))
        longer = ((1 + sine) / (1 - sine)) ** 0.25
        return _of_map(axis * jnp.asarray([[longer, 1 / longer]], axis.dtype) @ axis.T, size)


@dataclass(frozen=True)
class ElasticField(Deformation):
    """A random displacement of each pixel, smoothed by a Gaussian (Simard et al. 2003).

    dx and dy are α times uniform numbers in [-1, 1), one for each pixel, after a Gaussian filter
    that mirrors them at the border and ends at 4 σ, `scipy.ndimage.gaussian_filter`. Far from the
    border their standard deviation is α / (σ √(12 π)), for σ of a pixel or more. This is α and σ of
    albumentations' ElasticTransform with uniform noise. torchvision's counts α in half pixels: its
    alpha=50 is alpha=25 here.

    Attributes:
        alpha: α, in pixels, more than 0.
        sigma: σ, the standard deviation of the filter in pixels, more than 0. Raises InputError for
            others.
    """

    alpha: float
    sigma: float

    def __post_init__(self):
        _check("alpha", self.alpha, 0, math.inf)
        _check("sigma", self.sigma, 0, math.inf)

    def field(self, key: Key[Array, ""], size: int) -> Field:
        """Draws the displacement field (dx, dy), each [size, size], in pixels."""
        u, v = jax.random.uniform(key, (2, size, size), minval=-1)
        smooth = jnp.asarray(gaussian_filter1d(np.eye(size), self.sigma, axis=0), u.dtype)
        return self.alpha * smooth @ u @ smooth.T, self.alpha * smooth @ v @ smooth.T


@dataclass(frozen=True)
class GaussianNoise:
    """I.i.d. Gaussian noise added to every pixel and channel of an image of any shape.

    D is then a sensitivity to noise, as G is: of random norm, the same on average for all images.

    Attributes:
        sigma: its standard deviation, in the units of the image as the network sees it, normalised.
            More than 0. Raises InputError for others.
    """

    sigma: float

    def __post_init__(self):
        _check("sigma", self.sigma, 0, math.inf)

    def __call__(self, key: Key[Array, ""], image: Float[Array, "*x"]) -> Float[Array, "*x"]:
        """Adds the noise to an image."""
        return image + self.sigma * jax.random.normal(key, image.shape, image.dtype)


def _check(name: str, value: float, low: float, high: float) -> None:
    """Raises an InputError if a value does not lie between two others."""
    if not low < value < high:
        upper = f"less than {high}" if high < math.inf else "finite"
        raise InputError(f"{name}={value} must be more than {low} and {upper}")


def _sign(key: Key[Array, ""]) -> Float[Array, ""]:
    return jax.random.rademacher(key, (), jnp.result_type(float))


def _rotation(angle: Float[Array, ""]) -> Float[Array, "2 2"]:
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    return jnp.stack([jnp.stack([cos, -sin]), jnp.stack([sin, cos])])


def _of_map(source: Float[Array, "2 2"], size: int) -> Field:
    """Returns the field by which pixel r, from the centre, takes the value at `source` r."""
    return diffeomorphism.linear(jnp.eye(2, dtype=source.dtype) - source, size)
