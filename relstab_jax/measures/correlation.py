"""Correlation of test errors with sensitivities over trained networks (Figs. 1, 8 and 10)."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Shaped

from relstab_jax.errors import InputError

_DRAWS = 10_000


class Correlation(NamedTuple):
    """ρ and its 95 % bootstrap interval, NaN where it is undefined."""

    rho: float
    low: float
    high: float


def correlation(
    error: Float[np.ndarray, " n"],
    sensitivity: Float[np.ndarray, " n"],
    architectures: Sequence[str] | Shaped[np.ndarray, " n"] | None = None,
    seed: int = 0,
) -> Correlation:
    """Computes ρ(ε, X) = Cov(log ε, log X) / √(Var log ε · Var log X) over trained networks.

    The interval is a percentile bootstrap in two stages, since seeds of one architecture resemble
    each other: architectures are drawn with replacement and, for each, as many of its seeds as
    there are (Davison and Hinkley, *Bootstrap Methods and their Application*, Section 3.8). It
    needs at least three architectures.

    Args:
        error: ε, test error of each network; positive.
        sensitivity: X, D, G or R of each network's predictor; positive.
        architectures: the name of each network's architecture; all different if not given.
        seed: of the bootstrap.

    Raises:
        InputError: for fewer than three networks, or values without a logarithm.
    """
    n = len(error)
    if n < 3:
        raise InputError(f"need at least 3 networks for a correlation, got {n}")
    if not (np.all(error > 0) and np.all(sensitivity > 0)):
        raise InputError("errors and sensitivities must be positive, as their logarithms are taken")
    x, y = np.log(error), np.log(sensitivity)
    rho = float(np.corrcoef(x, y)[0, 1])
    names = np.arange(n) if architectures is None else np.asarray(architectures)
    different = np.unique(names)
    A = len(different)
    if A < 3:
        return Correlation(rho, np.nan, np.nan)
    generator = np.random.default_rng(seed)
    times = generator.multinomial(A, np.full(A, 1 / A), size=_DRAWS)  # each is drawn
    weights = np.zeros((_DRAWS, n))
    for a, name in enumerate(different):
        members = np.flatnonzero(names == name)
        m = len(members)
        weights[:, members] = generator.multinomial(times[:, a] * m, np.full(m, 1 / m))
    weights = weights[(weights > 0).sum(axis=1) > 1]  # one network has no correlation
    weights /= weights.sum(axis=1, keepdims=True)
    x, y = (z - weights @ z[:, None] for z in (x, y))
    with np.errstate(invalid="ignore"):  # networks that are alike
        rhos = (weights * x * y).sum(axis=1) / np.sqrt(
            (weights * x**2).sum(axis=1) * (weights * y**2).sum(axis=1)
        )
    low, high = np.nanquantile(rhos, (0.025, 0.975))
    return Correlation(rho, float(low), float(high))
