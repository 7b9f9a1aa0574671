"""Noise for the sensitivity G: functions (key, image, perturbed image, variance) -> noisy image."""

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key


@dataclass(frozen=True)
class EqualNorm:
    """Isotropic noise with the norm of the perturbation, image by image: ‖η‖ = ‖τx - x‖ (Eq. 1)."""

    needs_variance: ClassVar[bool] = False

    def __call__(
        self,
        key: Key[Array, ""],
        image: Float[Array, "*x"],
        perturbed: Float[Array, "*x"],
        variance: Float[Array, ""],
    ) -> Float[Array, "*x"]:
        """Adds the noise to an image."""
        return image + isotropic(key, image, jnp.linalg.norm((perturbed - image).ravel()))


@dataclass(frozen=True)
class EqualVariance:
    """I.i.d. Gaussian noise with the variance of the perturbation (App. B.2).

    The variance is the mean of (τx - x)² over examples, copies and pixels.

    Attributes:
        rectified: whether the noise passes a ReLU before it is added.
    """

    rectified: bool = True
    needs_variance: ClassVar[bool] = True

    def __call__(
        self,
        key: Key[Array, ""],
        image: Float[Array, "*x"],
        perturbed: Float[Array, "*x"],
        variance: Float[Array, ""],
    ) -> Float[Array, "*x"]:
        """Adds the noise to an image."""
        return image + gaussian(key, image, variance, self.rectified)


Noise = EqualNorm | EqualVariance


def gaussian(
    key: Key[Array, ""],
    images: Float[Array, "..."],
    variance: Float[Array, ""],
    rectified: bool = True,
) -> Float[Array, "..."]:
    """Draws i.i.d. Gaussian noise of the given variance per pixel, in the shape of `images`.

    Rectified noise passes a ReLU before it is added to an image: a sum of rectified noises grows
    like the number of its terms, on which Eqs. 6, 7 and 9 rest (App. B.2).
    """
    noise = variance**0.5 * jax.random.normal(key, images.shape, images.dtype)
    return jax.nn.relu(noise) if rectified else noise


def isotropic(
    key: Key[Array, ""], image: Float[Array, "*x"], norm: Float[Array, ""]
) -> Float[Array, "*x"]:
    """Draws noise of a given norm in a uniformly random direction, in the shape of `image`."""
    direction = jax.random.normal(key, (image.size,), image.dtype)  # flat: XLA compiles that faster
    return (direction * (norm / jnp.linalg.norm(direction))).reshape(image.shape)
