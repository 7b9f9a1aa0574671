import numpy as np
import pytest
from scipy import stats

from relstab_jax.errors import InputError
from relstab_jax.measures.correlation import correlation


def test_a_power_law_correlates_fully():
    D = np.geomspace(0.01, 1, 7)
    assert correlation(0.3 * D**0.5, D) == pytest.approx((1, 1, 1))
    assert correlation(0.3 * D**-2, D) == pytest.approx((-1, -1, -1))


def test_the_interval_is_about_that_of_fisher():
    generator = np.random.default_rng(3)
    x = generator.normal(size=200)
    y = 0.6 * x + 0.8 * generator.normal(size=200)
    found = correlation(np.exp(y), np.exp(x))
    expected = stats.pearsonr(x, y)
    assert found.rho == pytest.approx(expected.statistic)
    low, high = expected.confidence_interval(0.95)
    assert found.low == pytest.approx(low, abs=0.03)
    assert found.high == pytest.approx(high, abs=0.03)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        ([0.1, 0.2], "need at least 3 networks for a correlation, got 2"),
        ([0.0, 0.1, 0.2], "positive"),
    ],
)
def test_what_has_no_correlation_is_refused(error, message):
    with pytest.raises(InputError, match=message):
        correlation(np.array(error), np.ones(len(error)))
