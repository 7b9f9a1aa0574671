"""Perturbations of images: functions (key, image) -> image, equal where they do the same.

A perturbation of your own is any function of this form. As a frozen dataclass of its settings with
`__call__` it is compiled once for all equal settings.
"""

from dataclasses import dataclass

from jaxtyping import Array, Float, Key

from relstab_jax.errors import InputError
from relstab_jax.measures import diffeomorphism


@dataclass(frozen=True)
class Diffeomorphism:
    """A random smooth deformation of maximal entropy (Section 2, Fig. 1 left).

    Attributes:
        delta: δ, the typical displacement at the centre of the image, in pixels.
        cut: c, the number of modes along each axis.
        interpolation: of the deformed image: "linear", "nearest" or "gaussian".
    """

    delta: float = 1.0
    cut: int = 3
    interpolation: str = "linear"

    def __call__(
        self, key: Key[Array, ""], image: Float[Array, "*size_size_C"]
    ) -> Float[Array, "*size_size_C"]:
        """Deforms an image [size, size, C].

        Raises:
            InputError: where the image is not square, or as `diffeomorphism.checked_temperature`
                and `diffeomorphism.warp` do.
        """
        if image.ndim != 3 or image.shape[0] != image.shape[1]:
            raise InputError(
                f"an image has shape {image.shape}: a diffeomorphism needs [size, size, channels]"
            )
        temperature = diffeomorphism.checked_temperature(self.delta, self.cut, len(image))
        dx, dy = diffeomorphism.displacement(key, len(image), self.cut, temperature)
        return diffeomorphism.warp(image, dx, dy, self.interpolation)
