import jax
import jax.numpy as jnp
import numpy as np
import pytest

from relstab_jax.measures import filters


def laplacian(F):
    """The Laplacian of the F×F grid with free boundaries, from its definition."""
    matrix = np.zeros((F * F, F * F))
    for i in range(F):
        for j in range(F):
            for di, dj in ((0, 1), (1, 0), (0, -1), (-1, 0)):
                if 0 <= i + di < F and 0 <= j + dj < F:
                    matrix[i * F + j, i * F + j] += 1
                    matrix[i * F + j, (i + di) * F + j + dj] -= 1
    return matrix


@pytest.mark.parametrize("F", [1, 2, 3, 5, 7, 11])
def test_modes_are_an_orthonormal_eigenbasis(F):
    eigenvalues, modes = filters.laplacian_modes(F)
    flat = modes.reshape(F * F, F * F)
    np.testing.assert_allclose(flat @ flat.T, np.eye(F * F), atol=1e-12)
    np.testing.assert_allclose(flat @ laplacian(F), eigenvalues[:, None] * flat, atol=1e-12)
    assert (np.diff(eigenvalues) > -1e-12).all()


def test_the_basis_of_degenerate_eigenspaces_is_fixed():
    eigenvalues, modes = filters.laplacian_modes(3)
    np.testing.assert_allclose(eigenvalues, [0, 1, 1, 2, 3, 3, 4, 4, 6], atol=1e-12)
    ramp = np.array([1, 0, -1]) / np.sqrt(6)
    np.testing.assert_allclose(modes[1], np.tile(ramp, (3, 1)), atol=1e-12)
    np.testing.assert_allclose(modes[2], np.tile(ramp, (3, 1)).T, atol=1e-12)


@pytest.mark.parametrize("F", [3, 5, 7])
def test_power_in_each_eigenspace_matches_the_golden(F, golden, float64):
    eigenvalues, _ = filters.laplacian_modes(F)
    w = jnp.asarray(golden[f"lap{F}_w"])  # one filter after the other
    gamma = np.asarray(filters.spectrum(jnp.moveaxis(w, 0, -1)[:, :, None, :]))
    stops = np.cumsum(golden[f"lap{F}_mult"])
    np.testing.assert_allclose(eigenvalues[stops - 1], golden[f"lap{F}_eigenvalues"], atol=1e-8)
    power = [part.sum() for part in np.split(gamma, stops[:-1])]
    np.testing.assert_allclose(power, golden[f"lap{F}_power"], rtol=1e-10)


def test_spectrum_averages_over_filters():
    _, modes = filters.laplacian_modes(3)
    kernel = np.zeros((3, 3, 2, 3))
    kernel[:, :, 0, 1] = 6 * modes[4]
    np.testing.assert_allclose(filters.spectrum(jnp.asarray(kernel)), 6 * np.eye(9)[4], atol=1e-5)


def test_frequency_content_is_one_for_white_and_zero_for_constant_filters():
    white = jax.random.normal(jax.random.key(0), (3, 3, 300, 300))
    assert filters.frequency_content(white) == pytest.approx(1, abs=0.01)
    assert filters.frequency_content(jnp.full((3, 3, 4, 5), 0.3)) == pytest.approx(0, abs=1e-6)
    checkerboard = jnp.asarray(filters.laplacian_modes(3)[1][8])[:, :, None, None]
    assert filters.frequency_content(checkerboard) == pytest.approx(9 * 6 / 24, rel=1e-5)
