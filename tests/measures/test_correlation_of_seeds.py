"""The interval of ρ where several seeds of each architecture are trained."""

import numpy as np
import pytest
from scipy import stats

from relstab_jax.measures.correlation import correlation


def networks(architectures, seeds, of_seeds, rho=0.6, generator=None):
    """log X, log ε and names: normal over architectures; seeds deviate by `of_seeds` from them."""
    generator = generator or np.random.default_rng(1)
    x = generator.normal(size=architectures)
    y = rho * x + (1 - rho**2) ** 0.5 * generator.normal(size=architectures)
    x, y = (
        np.repeat(z, seeds) + of_seeds * generator.normal(size=architectures * seeds)
        for z in (x, y)
    )
    return x, y, [f"net{a}" for a in np.repeat(np.arange(architectures), seeds)]


def test_seeds_that_are_alike_do_not_narrow_the_interval():
    """It is Fisher's for the architectures alone, wherever their seeds are."""
    x, y, names = networks(40, 5, of_seeds=0.0)
    found = correlation(np.exp(y), np.exp(x), names)
    fisher = stats.pearsonr(x[::5], y[::5])
    assert found.rho == pytest.approx(fisher.statistic)
    low, high = fisher.confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.08)
    alone = correlation(np.exp(y[::5]), np.exp(x[::5]))
    assert (found.low, found.high) == pytest.approx((alone.low, alone.high), abs=0.02)
    taken_as_independent = correlation(np.exp(y), np.exp(x))
    width = taken_as_independent.high - taken_as_independent.low
    assert width == pytest.approx((found.high - found.low) / 5**0.5, rel=0.25)


def test_the_order_and_the_names_of_networks_do_not_matter():
    x, y, names = networks(6, 3, of_seeds=0.3)
    order = np.random.default_rng(0).permutation(len(x))
    found = correlation(np.exp(y), np.exp(x), names)
    shuffled = correlation(np.exp(y[order]), np.exp(x[order]), np.array(names)[order])
    assert shuffled == pytest.approx(found, abs=0.02)


def test_intervals_cover_the_truth_as_often_as_they_say(monkeypatch):
    """Of 100 studies of 12 architectures and 4 seeds; percentile intervals are a little narrow."""
    monkeypatch.setattr("relstab_jax.measures.correlation._DRAWS", 1000)
    generator = np.random.default_rng(5)
    covered = alone = 0
    for study in range(100):
        x, y, names = networks(12, 4, of_seeds=0.2, rho=0.0, generator=generator)
        found = correlation(np.exp(y), np.exp(x), names, seed=study)
        covered += found.low < 0 < found.high
        found = correlation(np.exp(y), np.exp(x), seed=study)
        alone += found.low < 0 < found.high
    assert 84 <= covered <= 100
    assert alone < 80


def test_architectures_of_different_numbers_of_seeds():
    x, y, names = networks(8, 4, of_seeds=0.1)
    kept = np.r_[0, 4:7, 8:32]
    found = correlation(np.exp(y[kept]), np.exp(x[kept]), np.array(names)[kept])
    assert -1 <= found.low < found.rho < found.high <= 1


def test_two_architectures_say_nothing_about_others():
    x, y, names = networks(2, 4, of_seeds=0.3)
    found = correlation(np.exp(y), np.exp(x), names)
    assert found.rho == pytest.approx(np.corrcoef(x, y)[0, 1])
    assert np.isnan([found.low, found.high]).all()
