"""Pooling as diffusion: receptive fields, scaling laws and Proposition A.1 (Section 4, App. A)."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from relstab_jax.theory import homogeneous


class ReceptiveField(NamedTuple):
    """Effective receptive field of the neurons of each layer, in input pixels.

    Attributes:
        std: standard deviation of a neuron's weights on the input.
        support: number of input pixels with non-zero weight.
    """

    std: Float[np.ndarray, " depth"]
    support: Int[np.ndarray, " depth"]


def receptive_field(*, size: int, filter_size: int, stride: int, depth: int) -> ReceptiveField:
    """Computes the effective receptive field A_k of a homogeneous network of any finite size.

    The weight of input pixel i is the response to the single-pixel input δ_i. At stride 1 the
    standard deviation of the weights is the A_k of Section 4.1, √(k (F² - 1) / 12) until it fills
    the ring; at stride F a neuron sees a patch of F^k pixels, the A_k of Section 4.2.

    Args:
        size: L.
        filter_size: F.
        stride: 1 or F.
        depth: K.

    Raises:
        InputError: if the network is not defined.
    """
    phi = homogeneous.representations(
        np.eye(size), filter_size=filter_size, stride=stride, depth=depth
    )
    std, support = [], []
    spacing, first, last = 1, 0, 0  # pixels between neurons; what neuron 0 sees, off the ring
    for f in phi:
        first -= (filter_size - 1) // 2 * spacing
        last += filter_size // 2 * spacing
        spacing = size // f.shape[1]
        weights = f[:, 0]
        offset = (np.arange(size) - (first + last) / 2 + size / 2) % size - size / 2
        std.append(np.sqrt(weights @ (offset - weights @ offset) ** 2))
        support.append(np.count_nonzero(weights))
    return ReceptiveField(np.array(std), np.array(support))


class ScalingLaws(NamedTuple):
    """The asymptotic laws D ~ A^D, G ~ A^G and R ~ A^R.

    Attributes:
        A: receptive field size of each layer up to a factor, √k or F^k.
        D: exponent of the sensitivity to diffeomorphisms (Eqs. 5, 8).
        G: exponent of the sensitivity to rectified noise (Eqs. 7, 9).
        R: exponent of their ratio.
        holds: whether the conditions of the laws are met at each layer.
    """

    A: Float[np.ndarray, " depth"]
    D: int
    G: int
    R: int
    holds: Bool[np.ndarray, " depth"]


def scaling_laws(
    *,
    size: int,
    xi: int,
    filter_size: int,
    stride: int,
    depth: int,
    strided_layers: int | None = None,
) -> ScalingLaws:
    """Returns the laws of Eqs. 5, 7, 8 and 9, and the layers at which they hold.

    At stride 1 they need a large depth, 1 ≪ k, and a receptive field far smaller than the
    image, F √k ≪ L, where ≪ is taken as a factor of 3. At stride F they need patches within those
    of the task, F^k < ξ: once a patch has reached ξ no move that keeps the label leaves it, and
    D = 0.

    Args:
        size: L.
        xi: ξ.
        filter_size: F.
        stride: 1 or F.
        depth: K.
        strided_layers: how many of the first layers have the stride; all by default. Behind them
            the receptive field grows by diffusion, from the size they gave it.
    """
    k = np.arange(1, depth + 1)
    strided = depth if strided_layers is None else strided_layers
    if stride == 1 or strided <= 1:
        A = stride**strided * np.sqrt(k)
        return ScalingLaws(A, D=-2, G=1, R=-3, holds=(k >= 3) & (3 * filter_size * A <= size))
    A = float(stride) ** k.clip(max=strided) * np.sqrt((k - strided + 1).clip(min=1))
    return ScalingLaws(A, D=-1, G=1, R=-2, holds=(xi > A) & (k <= strided))


class Diffusion(NamedTuple):
    """After k layers a Gaussian of mean drift · k and variance 2 · coefficient · k, in pixels."""

    coefficient: float
    drift: float


def diffusion(filter_size: int) -> Diffusion:
    """Returns the limit of M^k at stride 1: coefficient (F² - 1)/24, drift 0 or, even F, -1/2.

    These are half the variance and the mean of a jump to one of the F sites -⌊F/2⌋ .. ⌈F/2⌉ - 1.
    """
    return Diffusion((filter_size**2 - 1) / 24, -0.5 if filter_size % 2 == 0 else 0.0)


def diffusion_in_paper(filter_size: int) -> Diffusion:
    """Returns D(1), or D(2) and v(2), as printed in Proposition A.1, which M^k does not follow."""
    F = filter_size
    if F % 2:
        return Diffusion((F - 1) ** 3 / (12 * F), 0.0)
    return Diffusion((F**3 - 3 * F**2 + 6 * F - 4) / (12 * F), (1 - F) / (2 * F))


def gaussian_error(
    gaussian: Diffusion, *, filter_size: int, depth: int
) -> Float[np.ndarray, " depth"]:
    """Returns the total variation distance of M^k δ_i and a Gaussian, k = 1 .. K, at stride 1.

    The ring is larger than the support of M^k δ_i. 0 means equality, 1 no overlap.

    Args:
        gaussian: the Gaussian, in the coordinate a - i.
        filter_size: F, at least 2.
        depth: K.
    """
    reach = depth * filter_size
    offset = np.arange(-reach, reach + 1)
    pixel = (offset == 0).astype(float)
    M = homogeneous.representations(pixel, filter_size=filter_size, stride=1, depth=depth)
    k = np.arange(1, depth + 1)[:, None]
    variance = 2 * gaussian.coefficient * k
    density = np.exp(-((offset - gaussian.drift * k) ** 2) / (2 * variance))
    density /= np.sqrt(2 * np.pi * variance)
    return np.abs(np.stack(M) - density).sum(axis=1) / 2
