import numpy as np
import pytest

from relstab_jax.theory import rectified_gaussian


def integrated(h, k, rho):
    """E[ReLU(h + u) ReLU(k + v)] on a fine grid of independent normals u and w."""
    u = np.linspace(-9, 9, 3601)
    u = u + (u[1] - u[0]) / 2
    density = np.exp(-(u**2) / 2) / np.sqrt(2 * np.pi) * (u[1] - u[0])
    v = rho * u[:, None] + np.sqrt(1 - rho**2) * u
    return density @ (np.maximum(h + u, 0)[:, None] * np.maximum(k + v, 0)) @ density


@pytest.mark.parametrize(
    ("h", "k", "rho"),
    [(0.0, 0.0, 0.5), (1.6, 0.0, 0.66), (-1.0, 0.5, 0.9), (3.0, -2.0, 0.99), (-0.4, -0.4, 1.0)],
)
def test_product_is_the_integral(h, k, rho):
    found = rectified_gaussian.product(np.array([h]), np.array([k]), np.array([rho]))
    assert found == pytest.approx(integrated(h, k, rho), rel=3e-5)


def test_product_of_centred_variables_is_the_arc_cosine_kernel():
    rho = np.array([0.0, 0.25, 0.9, 0.999, 1.0])
    zero = np.zeros_like(rho)
    kernel = (np.sqrt(1 - rho**2) + rho * (np.pi - np.arccos(rho))) / (2 * np.pi)
    np.testing.assert_allclose(rectified_gaussian.product(zero, zero, rho), kernel, rtol=1e-14)


def test_far_above_the_threshold_nothing_is_rectified():
    h, k = np.array([30.0]), np.array([25.0])
    assert rectified_gaussian.mean(h) == pytest.approx(30.0, rel=1e-14)
    product = rectified_gaussian.product(h, k, np.array([0.3]))
    assert product == pytest.approx(30 * 25 + 0.3, rel=1e-14)


def test_moments_of_one_variable():
    h = np.array([-2.0, -0.3, 0.0, 1.5])
    u = np.linspace(-12, 12, 400_001)
    density = np.exp(-(u**2) / 2) / np.sqrt(2 * np.pi) * (u[1] - u[0])
    behind = np.maximum(h[:, None] + u, 0)
    np.testing.assert_allclose(rectified_gaussian.mean(h), behind @ density, rtol=1e-7)
    second = rectified_gaussian.product(h, h, np.ones(4))
    np.testing.assert_allclose(second, behind**2 @ density, rtol=1e-7)
