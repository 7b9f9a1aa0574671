"""Sensitivity to perturbations D, to noise G, and their ratio R (Eq. 1), of arrays.

For a representation f of P examples x_i, their perturbed copies τx_i and noisy copies x_i + η_i,

    D = mean_i ‖f(τx_i) - f(x_i)‖² / N,   G = mean_i ‖f(x_i + η_i) - f(x_i)‖² / N,   R = D / G,

with N the mean of ‖f(x_i) - f(x_j)‖² over all P² pairs. N = 2 · mean_i ‖f(x_i) - mean f‖² exactly,
which takes O(P) work and accumulates over batches. Distances are taken to a reference c near the
mean and corrected at the end,

    mean_i ‖f(x_i) - mean f‖² = mean_i ‖f(x_i) - c‖² - ‖mean f - c‖²,

so that a mean far from zero loses no digits. `relstab_jax.measures.driver` measures networks.
"""

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Inexact, Num, Shaped


class Sensitivity(NamedTuple):
    """D, G and R of Eq. 1; NaN where a constant representation leaves them undefined."""

    D: Float[Array, "*stack"]
    G: Float[Array, "*stack"]
    R: Float[Array, "*stack"]


class Measurement(NamedTuple):
    """D, G and R of Eq. 1 and their standard errors over examples and their copies."""

    D: Float[Array, "*stack"]
    G: Float[Array, "*stack"]
    R: Float[Array, "*stack"]
    D_error: Float[Array, "*stack"]
    G_error: Float[Array, "*stack"]
    R_error: Float[Array, "*stack"]


class MapMeasurement(NamedTuple):
    """The fields of `Measurement`, and the equivariance error E of maps with its standard error."""

    D: Float[Array, "*stack"]
    G: Float[Array, "*stack"]
    R: Float[Array, "*stack"]
    D_error: Float[Array, "*stack"]
    G_error: Float[Array, "*stack"]
    R_error: Float[Array, "*stack"]
    E: Float[Array, "*stack"]
    E_error: Float[Array, "*stack"]


class Distances(NamedTuple):
    """What Eq. 1 needs to know about one representation of P examples.

    Attributes:
        reference: c [*d].
        offset: sum over examples of f - c [*d].
        spread: ‖f - c‖² of each example.
        perturbed: mean over the copies of each example of ‖f(τx) - f(x)‖².
        noisy: mean over the copies of each example of ‖f(x + η) - f(x)‖².
        deviation: mean over the copies of each example of ‖f(τx) - τf(x)‖², if it is measured.
    """

    reference: Inexact[Array, "*d"]
    offset: Inexact[Array, "*d"]
    spread: Float[Array, " P"]
    perturbed: Float[Array, " P"]
    noisy: Float[Array, " P"]
    deviation: Float[Array, " P"] | None = None


def full_precision(dtype: Any) -> np.dtype:
    """Returns the type in which representations are compared: float32, or `dtype` if wider."""
    wide = jnp.issubdtype(dtype, jnp.inexact) and jnp.finfo(dtype).bits >= 32
    return np.dtype(dtype if wide else np.float32)


def in_full(f: Shaped[Array, "*d"]) -> Inexact[Array, "*d"]:
    """Casts a representation to `full_precision` of its type."""
    return f.astype(full_precision(f.dtype))


def squared_norms(f: Inexact[Array, "P *d"]) -> Float[Array, " P"]:
    """Returns ‖f‖² of each example, real or complex."""
    squares = jnp.square(f.real) + jnp.square(f.imag) if jnp.iscomplexobj(f) else jnp.square(f)
    return jnp.sum(squares, axis=tuple(range(1, f.ndim)))


def normalisation(distances: Distances) -> Float[Array, ""]:
    """Returns N, or NaN where the representations differ by no more than rounding."""
    mean_offset = distances.offset / len(distances.spread)
    half_N = distances.spread.mean() - squared_norms(mean_offset[None])[0]
    magnitude = squared_norms((distances.reference + mean_offset)[None])[0]
    rounding = 32 * jnp.finfo(half_N.dtype).eps
    return jnp.where(half_N <= rounding**2 * magnitude, jnp.nan, 2 * half_N)


def from_distances(distances: Distances) -> Sensitivity:
    """Returns D, G and R, each a scalar."""
    N = normalisation(distances)
    D, G = distances.perturbed.mean() / N, distances.noisy.mean() / N
    return Sensitivity(D, G, D / jnp.where(G > 0, G, jnp.nan))


def standard_errors(distances: Distances) -> Sensitivity:
    """Returns the standard errors of D, G and R over examples, copies included.

    Each of the three is a ratio of means over examples, a / b, whose variance is to first order
    that of the mean of (a_i - (a / b) b_i) / b. In N an example counts by twice its distance to c.
    """
    N = normalisation(distances)
    perturbed, noisy = distances.perturbed, distances.noisy
    G = jnp.where(noisy.mean() > 0, noisy.mean(), jnp.nan) + 0 * N
    twice = 2 * distances.spread
    return Sensitivity(
        _error(perturbed, twice, N), _error(noisy, twice, N), _error(perturbed, noisy, G)
    )


def measurement(distances: Distances) -> Measurement | MapMeasurement:
    """Returns D, G and R, and E if it is measured, with their standard errors.

    E = mean_i ‖f(τx_i) - τf(x_i)‖² / N, where τf(x) is the map f(x) deformed as the image was. An
    equivariant layer has E = 0, whatever its D.
    """
    known = Measurement(*from_distances(distances), *standard_errors(distances))
    deviation = distances.deviation
    if deviation is None:
        return known
    N = normalisation(distances)
    error = _error(deviation, 2 * distances.spread, N)
    return MapMeasurement(*known, E=deviation.mean() / N, E_error=error)


def _error(a: Float[Array, " P"], b: Float[Array, " P"], mean_b: Float[Array, ""]) -> Array:
    return jnp.std(a - a.mean() / mean_b * b, ddof=1) / mean_b / len(a) ** 0.5


def sensitivities(
    f: Num[Array, "P *d"], f_deformed: Num[Array, "P *d"], f_noisy: Num[Array, "P *d"]
) -> Sensitivity:
    """Computes D, G and R (Eq. 1), each a scalar, from one representation of P examples.

    Args:
        f: representation of the examples, real or complex.
        f_deformed: representation of their perturbed copies.
        f_noisy: representation of their noisy copies.

    >>> import jax.numpy as jnp
    >>> f = jnp.array([0.0, 2.0])  # N = 2
    >>> D, G, R = sensitivities(f, f + 1, f - 2)
    >>> float(D), float(G), float(R)
    (0.5, 2.0, 0.25)
    """
    f, f_deformed, f_noisy = (in_full(jnp.asarray(x)) for x in (f, f_deformed, f_noisy))
    mean = f.mean(axis=0)
    return from_distances(
        Distances(
            mean,
            jnp.zeros_like(mean),
            squared_norms(f - mean[None]),
            squared_norms(f_deformed - f),
            squared_norms(f_noisy - f),
        )
    )
