import jax
import jax.numpy as jnp
import numpy as np
import pytest

from relstab_jax.models import layers


def test_batch_norm_uses_and_remembers_the_batch():
    x = 2 + 3 * jax.random.normal(jax.random.key(0), (4, 3, 3, 5))
    variables = {
        "params": {"scale": jnp.arange(1.0, 6), "bias": jnp.arange(5.0)},
        "batch_stats": {"mean": jnp.full(5, 0.5), "var": jnp.full(5, 2.0)},
    }
    y, updated = layers.BatchNorm(train=True).apply(variables, x, mutable=["batch_stats"])
    values = np.asarray(x).reshape(-1, 5)
    whitened = (values - values.mean(0)) / np.sqrt(values.var(0) + 1e-5)
    np.testing.assert_allclose(
        np.reshape(y, (-1, 5)), whitened * np.arange(1, 6) + np.arange(5), rtol=1e-4, atol=1e-5
    )
    remembered = updated["batch_stats"]
    np.testing.assert_allclose(remembered["mean"], 0.45 + 0.1 * values.mean(0), rtol=1e-5)
    np.testing.assert_allclose(remembered["var"], 1.8 + 0.1 * values.var(0, ddof=1), rtol=1e-5)
    evaluated = layers.BatchNorm(train=False).apply(variables, x)
    expected = (values - 0.5) / np.sqrt(2 + 1e-5) * np.arange(1, 6) + np.arange(5)
    np.testing.assert_allclose(np.reshape(evaluated, (-1, 5)), expected, rtol=1e-4, atol=1e-5)


def test_batch_norm_does_not_depend_on_the_devices(float64):
    """Nor do its gradients, where devices have different means."""
    random = np.random.default_rng(0)
    x = jnp.asarray(random.normal(3, 2, (8, 2, 2, 5)) + np.arange(8)[:, None, None, None])
    weights = jnp.asarray(random.standard_normal(x.shape))
    norm = layers.BatchNorm(train=True)
    variables = norm.init(jax.random.key(0), x)

    def applied(x, axis_name=None):
        norm = layers.BatchNorm(True, axis_name)
        return norm.apply(variables, x, mutable=["batch_stats"])

    def of_whole(x):
        y, updated = applied(x)
        return (weights * y).sum(), updated

    (_, expected), gradient = jax.value_and_grad(of_whole, has_aux=True)(x)
    for devices in (2, 8):

        def of_part(x, weights):
            y, updated = applied(x, "batch")
            return jax.lax.psum((weights * y).sum(), "batch"), updated

        parts = [a.reshape(devices, -1, *a.shape[1:]) for a in (x, weights)]
        (_, updated), found = jax.pmap(
            jax.value_and_grad(of_part, has_aux=True), axis_name="batch"
        )(*parts)
        # Each device has the gradient of the sum that all of them add up.
        np.testing.assert_allclose(found.reshape(x.shape) / devices, gradient, atol=1e-12)
        for name, statistic in expected["batch_stats"].items():
            for of_device in updated["batch_stats"][name]:
                np.testing.assert_allclose(of_device, statistic, rtol=1e-12)


def test_batch_norm_of_a_constant_channel_far_from_its_running_mean_is_finite():
    x = jnp.broadcast_to(jnp.linspace(1e3, 2e3, 64), (8, 2, 2, 64))
    variables = layers.BatchNorm(train=True).init(jax.random.key(0), x)

    def applied(x):
        norm = layers.BatchNorm(True, "batch")
        return norm.apply(variables, x, mutable=["batch_stats"])

    y, updated = jax.pmap(applied, axis_name="batch")(x.reshape(8, 1, 2, 2, 64))
    assert np.isfinite(y).all()
    assert np.min(updated["batch_stats"]["var"]) >= 0


@pytest.mark.parametrize("whole_examples", [False, True])
def test_dropout_does_not_depend_on_the_devices(whole_examples):
    x = jnp.ones((8, 5, 3))

    def dropped(x, axis_name):
        layer = layers.Dropout(0.3, True, axis_name, whole_examples)
        return layer.apply({}, x, rngs={"dropout": jax.random.key(0)})

    whole = dropped(x, None)
    for devices in (2, 8):
        parts = jax.pmap(lambda x: dropped(x, "batch"), axis_name="batch")(
            x.reshape(devices, -1, 5, 3)
        )
        np.testing.assert_array_equal(parts.reshape(x.shape), whole)
    np.testing.assert_allclose(np.unique(whole), [0, 1 / 0.7], rtol=1e-6)
    values = np.asarray(whole).reshape(8, -1)
    assert (values.min(1) == values.max(1)).all() == whole_examples


def test_adaptive_average_pool():
    x = jnp.arange(10.0).reshape(1, 10, 1, 1)
    pooled = layers.adaptive_average_pool(x, 4)  # windows 0-2, 2-4, 5-7, 7-9
    assert pooled.shape == (1, 4, 4, 1)
    np.testing.assert_allclose(pooled[0, :, 0, 0], [1, 3, 6, 8])
    np.testing.assert_allclose(layers.adaptive_average_pool(x[:, :7], 7)[0, :, 0, 0], range(7))
