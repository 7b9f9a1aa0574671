import numpy as np
import pytest

from relstab_jax.errors import InputError
from relstab_jax.theory import diffusion, homogeneous


@pytest.mark.parametrize("filter_size", [2, 3, 4, 5])
def test_receptive_field_spreads_like_a_random_walk(filter_size):
    k = np.arange(1, 6)
    field = diffusion.receptive_field(size=64, filter_size=filter_size, stride=1, depth=5)
    np.testing.assert_allclose(field.std, np.sqrt(k * (filter_size**2 - 1) / 12), rtol=1e-12)
    np.testing.assert_array_equal(field.support, 1 + k * (filter_size - 1))


@pytest.mark.parametrize(("size", "filter_size", "depth"), [(128, 2, 7), (81, 3, 4), (64, 4, 3)])
def test_receptive_field_of_strided_layers_is_a_patch(size, filter_size, depth):
    support = filter_size ** np.arange(1, depth + 1)
    field = diffusion.receptive_field(
        size=size, filter_size=filter_size, stride=filter_size, depth=depth
    )
    np.testing.assert_array_equal(field.support, support)
    np.testing.assert_allclose(field.std, np.sqrt((support**2 - 1) / 12), rtol=1e-12)


def test_receptive_field_fills_the_ring():
    field = diffusion.receptive_field(size=16, filter_size=3, stride=1, depth=200)
    assert field.support[-1] == 16
    assert field.std[-1] == pytest.approx(np.sqrt((16**2 - 1) / 12), rel=0.01)


def test_receptive_field_needs_a_network():
    with pytest.raises(InputError, match="stride=2"):
        diffusion.receptive_field(size=16, filter_size=3, stride=2, depth=1)


def test_scaling_laws_say_where_they_hold():
    laws = diffusion.scaling_laws(size=32, xi=11, filter_size=3, stride=1, depth=14)
    assert (laws.D, laws.G, laws.R) == (-2, 1, -3)
    np.testing.assert_allclose(laws.A, np.sqrt(np.arange(1, 15)))
    np.testing.assert_array_equal(np.flatnonzero(laws.holds) + 1, np.arange(3, 13))
    laws = diffusion.scaling_laws(size=128, xi=32, filter_size=2, stride=2, depth=7)
    assert (laws.D, laws.G, laws.R) == (-1, 1, -2)
    np.testing.assert_allclose(laws.A, 2.0 ** np.arange(1, 8))
    np.testing.assert_array_equal(laws.holds, [True] * 4 + [False] * 3)


def test_exact_sensitivities_tend_to_the_laws():
    """Local slopes of a large image come near -2 and 1 with depth."""
    exact = homogeneous.sensitivities(1, size=256, xi=60, gap=4, filter_size=3, stride=1, depth=40)
    log_A = np.log(np.arange(1, 41)) / 2
    slope_D, slope_G = (np.diff(np.log(v)) / np.diff(log_A) for v in (exact.D, exact.G))
    assert -2.05 < slope_D[-1] < -1.85
    assert 0.85 < slope_G[-1] < 1.1
    assert slope_G[-1] > slope_G[10] > slope_G[2]


def test_coefficients_of_proposition_a1():
    assert diffusion.diffusion(3) == pytest.approx((1 / 3, 0.0))
    assert diffusion.diffusion(4) == pytest.approx((15 / 24, -0.5))
    assert diffusion.diffusion_in_paper(3) == pytest.approx((0.2222, 0.0), abs=5e-5)
    assert diffusion.diffusion_in_paper(4) == pytest.approx((0.75, -0.375))


@pytest.mark.parametrize("filter_size", [2, 3, 4, 5, 8])
def test_pooling_tends_to_the_right_gaussian_and_not_to_the_printed_one(filter_size):
    right, printed = (
        diffusion.gaussian_error(of(filter_size), filter_size=filter_size, depth=32)
        for of in (diffusion.diffusion, diffusion.diffusion_in_paper)
    )
    assert right[-1] < 0.004
    assert right[-1] == pytest.approx(right[15] / 2, rel=0.1)
    assert printed[-1] > 5 * right[-1]
    assert printed[-1] > printed[15] * 0.95
