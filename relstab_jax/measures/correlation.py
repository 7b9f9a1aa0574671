"""How test errors of networks go with their sensitivities (Figs. 1, 8 and 10)."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from relstab_jax.errors import InputError


class Correlation(NamedTuple):
    """ρ and its 95 % bootstrap interval."""

    rho: float
    low: float
    high: float


def correlation(
    error: Float[np.ndarray, " n"], sensitivity: Float[np.ndarray, " n"], seed: int = 0
) -> Correlation:
    """Returns ρ(ε, X) = Cov(log ε, log X) / √(Var log ε · Var log X) over trained networks.

    The interval is the percentile bootstrap's, over networks.

    Args:
        error: ε, test error of each network; positive.
        sensitivity: X, D, G or R of each network's predictor; positive.
        seed: of the bootstrap.

    Raises:
        InputError: for fewer than three networks, or values without a logarithm.
    """
    if len(error) < 3:
        raise InputError(f"{len(error)} networks are too few for a correlation: at least 3")
    if not (np.all(error > 0) and np.all(sensitivity > 0)):
        raise InputError("errors and sensitivities must be positive, as their logarithms are taken")
    logs = np.log(error), np.log(sensitivity)
    generator = np.random.default_rng(seed)
    drawn = generator.integers(len(error), size=(10_000, len(error)))
    x, y = (log[drawn] - log[drawn].mean(axis=1, keepdims=True) for log in logs)
    with np.errstate(invalid="ignore"):  # a draw of one network only
        rhos = (x * y).sum(axis=1) / np.sqrt((x**2).sum(axis=1) * (y**2).sum(axis=1))
    low, high = np.nanquantile(rhos, (0.025, 0.975))
    return Correlation(float(np.corrcoef(*logs)[0, 1]), float(low), float(high))
