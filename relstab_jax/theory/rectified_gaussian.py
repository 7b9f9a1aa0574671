"""Moments of jointly Gaussian variables after a ReLU."""

import numpy as np
from jaxtyping import Float
from scipy.special import ndtr

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(64)


def mean(h: Float[np.ndarray, "*s"]) -> Float[np.ndarray, "*s"]:
    """Returns E[ReLU(h + u)] = h Φ(h) + φ(h) for a standard normal u."""
    return h * ndtr(h) + np.exp(-(h**2) / 2) / np.sqrt(2 * np.pi)


def product(
    h: Float[np.ndarray, "*#s"], k: Float[np.ndarray, "*#s"], rho: Float[np.ndarray, "*#s"]
) -> Float[np.ndarray, "*s"]:
    """Returns E[ReLU(h + u) ReLU(k + v)] for standard normal u, v of correlation rho in [0, 1].

    By Price's theorem the derivatives of this moment m in rho are m' = P(u > -h, v > -k) and
    m'' = the density of (u, v) at (-h, -k). With the independent case at rho = 0 and rho = sin t,

        m(rho) = m(h) m(k) + rho Φ(h) Φ(k) + ∫_0^rho (rho - r) m''(r) dr,
        m''(sin t) d(sin t) = exp(-(h² + k² - 2 h k sin t) / (2 cos² t)) dt / 2π,

    with a smooth integrand for Gauss-Legendre quadrature. At h = k = 0 the moment is the arc-cosine
    kernel of order one (Cho and Saul 2009).
    """
    end = np.arcsin(rho)[..., None] / 2
    t = end * (1 + _NODES)
    h_, k_ = h[..., None], k[..., None]
    # The exponent, written without the cancellation of its numerator where t nears π/2.
    exponent = (h_ - k_) ** 2 / (2 * np.cos(t) ** 2) + h_ * k_ / (1 + np.sin(t))
    integrand = (np.sin(2 * end) - np.sin(t)) * np.exp(-exponent) / (2 * np.pi)
    integral = (end * _WEIGHTS * integrand).sum(axis=-1)
    return mean(h) * mean(k) + rho * ndtr(h) * ndtr(k) + integral
