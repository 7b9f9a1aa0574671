import jax
import jax.numpy as jnp
import numpy as np
import pytest

from relstab_jax.measures import sensitivity


def by_definition(f, f_deformed, f_noisy):
    """Eq. 1 with all P² pairs."""
    f, f_deformed, f_noisy = (np.reshape(a, (len(a), -1)) for a in (f, f_deformed, f_noisy))
    N = np.mean([np.sum((a - b) ** 2) for a in f for b in f])
    D = np.mean(np.sum((f_deformed - f) ** 2, 1)) / N
    G = np.mean(np.sum((f_noisy - f) ** 2, 1)) / N
    return D, G, D / G


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("case", [0, 1, 2])
def test_estimator_equals_the_authors(case, golden):
    o, op = (jnp.asarray(golden[f"stab{case}_{name}"]) for name in ("o", "op"))
    found = sensitivity.sensitivities(o, op, op)
    expected = golden[f"stab{case}_num"] / golden[f"stab{case}_den"]
    np.testing.assert_allclose([found.D, found.G, found.R], [expected, expected, 1], rtol=1e-10)


def example(P=23, offset=0.0):
    generator = np.random.default_rng(0)
    x = generator.normal(5 + offset, 1, (P, 6))
    return [jnp.asarray(x + generator.normal(0, size, (P, 6))) for size in (0, 0.3, 0.5)]


def test_float32_survives_a_mean_far_larger_than_the_spread():
    x = example(P=40, offset=1000)
    expected = by_definition(*(np.asarray(a, np.float64) for a in x))
    np.testing.assert_allclose(sensitivity.sensitivities(*x), expected, rtol=1e-3)


def test_constant_representation_is_undefined():
    x = example()
    for constant in (lambda x: 0 * x + 3, lambda x: 1e6 + x * 1e-3, lambda x: 0 * x):
        assert np.isnan(sensitivity.sensitivities(*map(constant, x))).all()


def test_no_noise_leaves_only_R_undefined():
    x, deformed, _ = example()
    found = sensitivity.sensitivities(x, deformed, x)
    assert found.D > 0
    assert found.G == 0
    assert np.isnan(found.R)


def test_stacks_go_through_vmap():
    x = [jnp.stack([scale * a for scale in (1, 2, 5)]) for a in example()]
    together = jax.vmap(sensitivity.sensitivities)(*x)
    np.testing.assert_allclose(
        np.transpose(together), [sensitivity.sensitivities(*example())] * 3, rtol=1e-5
    )
