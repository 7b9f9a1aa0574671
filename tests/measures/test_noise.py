import jax
import jax.numpy as jnp
import numpy as np
import pytest

from relstab_jax.measures import noise


@pytest.mark.parametrize("rectified", [True, False])
def test_moments_are_those_of_a_gaussian_through_a_relu(rectified):
    sigma, n = 1.7, 400_000
    eta = np.asarray(
        noise.gaussian(jax.random.key(0), jnp.zeros(n), jnp.float32(sigma**2), rectified)
    )
    mean = sigma / np.sqrt(2 * np.pi) if rectified else 0
    variance = sigma**2 * ((1 / 2 - 1 / (2 * np.pi)) if rectified else 1)
    assert abs(eta.mean() - mean) < 5 * np.sqrt(variance / n)
    assert abs(eta.var() / variance - 1) < 0.02
    assert (eta.min() >= 0) == rectified


def test_isotropic_noise_has_the_norm_and_no_preferred_direction():
    image = jnp.zeros((4, 4, 3))
    keys = jax.random.split(jax.random.key(1), 20_000)
    eta = np.asarray(jax.vmap(lambda key: noise.isotropic(key, image, jnp.float32(2.5)))(keys))
    eta = eta.reshape(len(keys), -1)
    np.testing.assert_allclose(np.linalg.norm(eta, axis=1), 2.5, rtol=1e-5)
    covariance = eta.T @ eta / len(keys)
    np.testing.assert_allclose(covariance, 2.5**2 / 48 * np.eye(48), atol=6 * 2.5**2 / 48 / 141)
