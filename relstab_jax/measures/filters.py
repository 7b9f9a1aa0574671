"""Spatial frequency spectra of the filters of a convolution (Eq. 3, Figs. 4, 12-14)."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float


def laplacian_modes(F: int) -> tuple[Float[np.ndarray, " F2"], Float[np.ndarray, "F2 F F"]]:
    """Returns the eigenvalues, ascending, and orthonormal eigenvectors of the F×F grid's Laplacian.

    The grid has free boundaries: the diagonal of the Laplacian is the number of neighbours of each
    pixel, up to four, and each neighbour contributes -1 off it. Its eigenvectors are products of
    cosines, Ψ_ab(i, j) ∝ cos(π a (i + 1/2) / F) · cos(π b (j + 1/2) / F), a along rows and b along
    columns, with eigenvalues λ_ab = 4 - 2 cos(π a / F) - 2 cos(π b / F).

    Eigenvalues are degenerate (F = 3: 0, 1, 1, 2, 3, 3, 4, 4, 6). Within an eigenspace the basis
    is these products in the order of (a, b): single projections depend on this choice, their sum
    over the eigenspace does not.

    Args:
        F: size of the grid.
    """
    order = np.arange(F)
    cosines = np.cos(np.pi * order[:, None] * (order + 0.5) / F)
    cosines /= np.linalg.norm(cosines, axis=1, keepdims=True)
    one_axis = 2 - 2 * np.cos(np.pi * order / F)
    eigenvalues = np.add.outer(one_axis, one_axis).ravel()
    modes = np.einsum("ai,bj->abij", cosines, cosines).reshape(F * F, F, F)
    # Rounded, equal eigenvalues are equal, and the stable sort keeps the order of (a, b).
    ascending = np.argsort(eigenvalues.round(9), kind="stable")
    return eigenvalues[ascending], modes[ascending]


def spectrum(kernel: Float[Array, "F F C_in C_out"]) -> Float[Array, " F2"]:
    """Returns γ_l, the mean over all filters of (Ψ_l · w)², by ascending eigenvalue: Eq. 3."""
    _, modes = laplacian_modes(kernel.shape[0])
    projections = jnp.einsum("lij,ijcd->lcd", jnp.asarray(modes, kernel.dtype), kernel)
    return (projections**2).mean(axis=(1, 2))


def frequency_content(kernel: Float[Array, "F F C_in C_out"]) -> Float[Array, ""]:
    """Returns F² Σ_l λ_l γ_l / (Σ_l λ_l · mean ‖w‖²): 1 for white filters, 0 for constant ones.

    This is the aggregate measure of Fig. 12. The modes are complete, so mean ‖w‖² = Σ_l γ_l. The
    result is NaN if all filters are zero.
    """
    eigenvalues, _ = laplacian_modes(kernel.shape[0])
    power = spectrum(kernel)
    eigenvalues = jnp.asarray(eigenvalues / eigenvalues.mean(), power.dtype)
    return eigenvalues @ power / power.sum()
