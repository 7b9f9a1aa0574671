"""Noise for the sensitivity G."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key


def gaussian(
    key: Key[Array, ""],
    images: Float[Array, "..."],
    variance: Float[Array, ""],
    rectified: bool = True,
) -> Float[Array, "..."]:
    """Returns i.i.d. Gaussian noise of the given variance per pixel, in the shape of `images`.

    With `rectified`, the noise passes a ReLU before it is added to an image: a sum of rectified
    noises grows like the number of its terms, which Eqs. 6, 7 and 9 rest on (App. B.2).
    """
    noise = variance**0.5 * jax.random.normal(key, images.shape, images.dtype)
    return jax.nn.relu(noise) if rectified else noise


def isotropic(
    key: Key[Array, ""], image: Float[Array, "*x"], norm: Float[Array, ""]
) -> Float[Array, "*x"]:
    """Returns noise of a given norm and a direction drawn uniformly, in the shape of `image`.

    With the norm ‖τx - x‖ of a deformation this is the noise of G in Eq. 1.
    """
    direction = jax.random.normal(key, (image.size,), image.dtype)  # flat: XLA compiles that faster
    return (direction * (norm / jnp.linalg.norm(direction))).reshape(image.shape)
