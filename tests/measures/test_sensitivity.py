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


def example(P=23, t=3, offset=0.0):
    generator = np.random.default_rng(0)
    x = generator.normal(5 + offset, 1, (P, 6))
    deformed = x[:, None] + generator.normal(0, 0.3, (P, t, 6))
    noisy = x[:, None] + generator.normal(0, 0.5, (P, t, 6))
    return jnp.asarray(x), jnp.asarray(deformed), jnp.asarray(noisy)


def features(x):
    wide = jnp.tanh(x @ jnp.linspace(-1, 1, 24, dtype=x.dtype).reshape(6, 4))
    return {"wide": wide.reshape(-1, 2, 2), "deep": [wide.sum(axis=1) ** 2, x]}


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(
    "batch_size", [4, 100, *(pytest.param(size, marks=pytest.mark.slow) for size in (1, 23))]
)
def test_streamed_equals_the_definition_whatever_the_batch(batch_size):
    x, deformed, noisy = example()
    found = jax.jit(lambda *inputs: sensitivity.streamed(features, *inputs, batch_size=batch_size))(
        x, deformed, noisy
    )
    t = deformed.shape[1]
    f = features(x)
    copies = [(features(deformed[:, c]), features(noisy[:, c])) for c in range(t)]
    for get in (lambda f: f["wide"], lambda f: f["deep"][0], lambda f: f["deep"][1]):
        per_copy = [by_definition(get(f), get(d), get(n)) for d, n in copies]
        D, G, _ = np.mean(per_copy, axis=0)
        np.testing.assert_allclose(get(found), (D, G, D / G), rtol=1e-10)


def test_float32_survives_a_mean_far_larger_than_the_spread():
    x, deformed, noisy = example(P=40, t=1, offset=1000)
    found = sensitivity.streamed(lambda x: x, x, deformed, noisy, batch_size=7)
    exact = (np.asarray(a, np.float64) for a in (x, deformed[:, 0], noisy[:, 0]))
    expected = by_definition(*exact)
    np.testing.assert_allclose(found, expected, rtol=1e-3)


def test_constant_representation_is_undefined_and_touches_no_other():
    x, deformed, noisy = example()
    found = sensitivity.streamed(
        lambda x: {
            "constant": 0 * x + 3,
            "rounding": 1e6 + 0 * x + x * 1e-3,
            "zero": 0 * x,
            "x": x,
        },
        x,
        deformed,
        noisy,
        batch_size=5,
    )
    for name in ("constant", "rounding", "zero"):
        assert np.isnan(found[name]).all(), name
    assert np.isfinite(found["x"]).all()


def test_no_noise_leaves_only_R_undefined():
    x, deformed, _ = example()
    found = sensitivity.sensitivities(x, deformed[:, 0], x)
    assert found.D > 0
    assert found.G == 0
    assert np.isnan(found.R)


def test_stacks_of_networks_go_through_vmap():
    x, deformed, noisy = example()
    scales = jnp.array([1.0, 2.0, 5.0])

    def measure(scale):
        return sensitivity.streamed(
            lambda x: jnp.tanh(scale * (x - 5)), x, deformed, noisy, batch_size=8
        )

    together = jax.jit(jax.vmap(measure))(scales)
    for i, scale in enumerate(scales):
        np.testing.assert_allclose([a[i] for a in together], measure(scale), rtol=1e-5)
