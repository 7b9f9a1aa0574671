"""Small random diffeomorphisms of maximal entropy (Fig. 1, left; Petrini et al. 2021).

A displacement field is a sum of the c² lowest modes of the unit square that vanish at its border,
with Gaussian coefficients: with r = √(i² + j²),

    u(x, y) = Σ_ij C_ij sin(π i x) sin(π j y) / r   over i, j >= 1 with r < c + 1/2.

An n×n image moves by dx = √T · n · u, in pixels, along x (columns), and by an independent dy along
y (rows). The cut-off c sets how smooth the field is, the temperature T how large.
"""

import functools
import math
import warnings
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.scipy.ndimage import map_coordinates
from jaxtyping import Array, Float, Key

from relstab_jax.errors import InputError

INTERPOLATIONS = ("linear", "nearest", "gaussian")
PARTS = ("translation", "rotation", "stretching", "shear", "remainder")
_GAUSSIAN_WIDTH = 0.4715  # pixels, of the "gaussian" interpolation

# Pixels along an axis of images that a TPU warps by products, which take size⁴ multiplications: at
# 32 and 64 pixels they move a third of the bytes of gathers, by XLA's count.
_LARGEST_PRODUCTS = 64

Field = tuple[Float[Array, "size size"], Float[Array, "size size"]]  # (dx, dy), in pixels


def scalar_field(coefficients: Float[Array, "c c"], size: int) -> Float[Array, "size size"]:
    """Evaluates u at every pixel, rows along y, for coefficients C_ij, i along x and j along y.

    Args:
        coefficients: C, whose shape is the cut-off; standard normal for a random field.
        size: n, pixels along each axis; the outermost lie on the border, where u vanishes.
    """
    modes = np.arange(1, len(coefficients) + 1)
    r = np.hypot(modes[:, None], modes)
    amplitudes = np.where(r < len(modes) + 0.5, 1 / r, 0)
    sines = np.sin(np.pi * np.outer(np.linspace(0, 1, size), modes))
    amplitudes, sines = (jnp.asarray(a, coefficients.dtype) for a in (amplitudes, sines))
    return jnp.einsum("ij,xi,yj->yx", coefficients * amplitudes, sines, sines)


def displacement(
    key: Key[Array, ""], size: int, cut: int, temperature: Float[Array, ""] | float
) -> Field:
    """Draws a random displacement field (dx, dy), in pixels.

    Args:
        key: of this field.
        size: n, pixels along each axis.
        cut: c, the cut-off.
        temperature: T; `typical_temperature` gives the one for a displacement in pixels.
    """
    coefficients = jax.random.normal(key, (2 * cut**2,)).reshape(2, cut, cut)
    u, v = (jnp.sqrt(temperature) * size * scalar_field(c, size) for c in coefficients)
    return u, v


def linear(jacobian: Float[Array, "2 2"], size: int) -> Field:
    """Returns the displacement field τ(r) = J r, r = (x, y) from the centre of the image.

    Args:
        jacobian: J, rows (dx, dy), columns (x, y).
        size: n, pixels along each axis.
    """
    at = jnp.arange(size, dtype=jacobian.dtype) - (size - 1) / 2
    (xx, xy), (yx, yy) = jacobian
    return xx * at[None] + xy * at[:, None], yx * at[None] + yy * at[:, None]


def parts(dx: Float[Array, "size size"], dy: Float[Array, "size size"]) -> dict[str, Field]:
    """Splits a displacement field into its affine parts and a remainder (footnote 1).

    The affine field t + J r that is nearest to it, by least squares over all pixels, has four
    parts: the constant t, a translation, and of J the antisymmetric part, a rotation, the trace, a
    stretching in all directions, and the traceless symmetric part, a shear. The remainder is all
    that bends. (The footnote has the field around one pixel, where the remainder is small.)

    The five add up to the field, and are orthogonal: their mean squares over the pixels add up to
    that of the field.

    Args:
        dx: displacement along the columns, at least 2×2 pixels.
        dy: displacement along the rows.

    Returns:
        {part: (dx, dy)}, in the order of `PARTS`, in the units of the field.
    """
    size = len(dx)
    at = jnp.arange(size, dtype=dx.dtype) - (size - 1) / 2
    field = jnp.stack([dx, dy])
    slopes = [(field * r[None]).sum(axis=(1, 2)) for r in (at[None], at[:, None])]
    J = jnp.stack(slopes, axis=1) / (size * jnp.sum(at**2))
    stretching = jnp.trace(J) / 2 * jnp.eye(2, dtype=J.dtype)
    jacobians = (J - J.T) / 2, stretching, (J + J.T) / 2 - stretching
    translation = jnp.full_like(dx, dx.mean()), jnp.full_like(dy, dy.mean())
    affine = [translation, *(linear(jacobian, size) for jacobian in jacobians)]
    affine_dx, affine_dy = (sum(d) for d in zip(*affine, strict=True))
    return dict(zip(PARTS, [*affine, (dx - affine_dx, dy - affine_dy)], strict=True))


def warp(
    image: Float[Array, "size size C"],
    dx: Float[Array, "size size"],
    dy: Float[Array, "size size"],
    interpolation: str = "linear",
) -> Float[Array, "size size C"]:
    """Deforms an image: pixel (y, x) takes the value of the source at (y - dy, x - dx).

    Positions outside the image are clamped to its border. All channels move together.

    Args:
        image: rows, columns, channels.
        dx: displacement along the columns, in pixels.
        dy: displacement along the rows, in pixels.
        interpolation: "linear" (bilinear), "nearest", or "gaussian", the mean over all pixels with
            weights exp(-distance² / (2 · 0.4715²)).

    Raises:
        InputError: for any other interpolation.
    """
    if interpolation not in INTERPOLATIONS:
        known = ", ".join(INTERPOLATIONS)
        raise InputError(f"interpolation={interpolation!r} is not known: use one of {known}")
    size = len(image)
    pixels = jnp.arange(size, dtype=dx.dtype)
    y = (pixels[:, None] - dy).clip(0, size - 1)
    x = (pixels[None] - dx).clip(0, size - 1)
    if interpolation == "gaussian":
        return by_products(image, y, x, _gaussian)
    if interpolation == "nearest":
        return _by_gathers(image, y, x, order=0)
    if size > _LARGEST_PRODUCTS:
        return _by_gathers(image, y, x, order=1)
    return lax.platform_dependent(
        *(image, y, x),
        tpu=functools.partial(by_products, weight=hat),
        default=functools.partial(_by_gathers, order=1),
    )


def _by_gathers(image: Array, y: Array, x: Array, order: int) -> Array:
    of_channel = functools.partial(map_coordinates, coordinates=[y, x], order=order, mode="nearest")
    return jax.vmap(of_channel, in_axes=-1, out_axes=-1)(image)


def by_products(
    image: Float[Array, "size size C"],
    y: Float[Array, "size size"],
    x: Float[Array, "size size"],
    weight: Callable[[Float[Array, "size size size"]], Float[Array, "size size size"]],
) -> Float[Array, "size size C"]:
    """Samples an image at points as the sum over all pixels with weights, by matrix products.

    Args:
        image: rows, columns, channels.
        y: rows of the points.
        x: columns of the points.
        weight: along an axis, of the distances to all pixels, which are the last axis.
    """
    pixels = jnp.arange(len(image), dtype=y.dtype)
    weights_y, weights_x = (weight(at[..., None] - pixels[None, None]) for at in (y, x))
    return jnp.einsum("yxr,yxc,rcC->yxC", weights_y, weights_x, image, precision="highest")


def hat(distance: Float[Array, "*d"]) -> Float[Array, "*d"]:
    """Returns the weights of bilinear interpolation, max(0, 1 - |distance|)."""
    return jnp.maximum(0, 1 - jnp.abs(distance))


def _gaussian(distance: Float[Array, "*d size"]) -> Float[Array, "*d size"]:
    return jax.nn.softmax(-(distance**2) / (2 * _GAUSSIAN_WIDTH**2))


def typical_temperature(delta: float, cut: int, size: int) -> float:
    """Returns the T = 4 δ² / (π n² ln c) of a typical displacement of δ pixels at the centre."""
    return 4 * delta**2 / (math.pi * size**2 * math.log(cut))


def typical_displacement(temperature: float, cut: int, size: int) -> float:
    """Returns δ = n √(π T ln c) / 2, in pixels."""
    return size * math.sqrt(math.pi * temperature * math.log(cut)) / 2


def temperature_range(cut: int, size: int) -> tuple[float, float]:
    """Returns the range of T that yields diffeomorphisms.

    T_min = 1 / (π n² ln c) is a displacement of half a pixel. At T_max = 4 / (π³ c² ln c)
    displacements of neighbouring pixels differ by their distance, so the image starts to fold.
    """
    lowest = 1 / (math.pi * size**2 * math.log(cut))
    return lowest, 4 / (math.pi**3 * cut**2 * math.log(cut))


def checked_temperature(delta: float, cut: int, size: int) -> float:
    """Returns `typical_temperature`. Warns if `delta` is outside the valid range.

    Args:
        delta: δ, the typical displacement in pixels.
        cut: c, the cut-off.
        size: n, pixels along each axis.

    Raises:
        InputError: for a cut-off below 2 or beyond n/2, or a δ that is not positive.
    """
    if not 2 <= cut <= size / 2:
        raise InputError(f"cut={cut} must lie between 2 and {size // 2}, half the image size")
    if not 0 < delta < math.inf:
        raise InputError(f"delta={delta} pixels must be positive")
    temperature = typical_temperature(delta, cut, size)
    lowest, highest = temperature_range(cut, size)
    advice = f"for size={size} and cut={cut} keep delta between 0.5 and " + (
        f"{typical_displacement(highest, cut, size):.3g} pixels"
    )
    if temperature > highest:
        warnings.warn(
            f"delta={delta} (T={temperature:.3g}) exceeds T_max={highest:.3g}: deformed images "
            f"fold over themselves and are no diffeomorphisms; {advice}",
            stacklevel=3,
        )
    elif temperature < lowest:
        warnings.warn(
            f"delta={delta} (T={temperature:.3g}) is below T_min={lowest:.3g}: pixels move by less "
            f"than half a pixel, and D measures the interpolation; {advice}",
            stacklevel=3,
        )
    return temperature
