import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from relstab_jax import models
from relstab_jax.models import features, layers
from tests.compiled import create


@pytest.mark.parametrize("pool", [features.max_of_slices, features.max_of_windows])
@pytest.mark.parametrize(("size", "stride", "padding"), [(2, 2, 0), (3, 2, 0), (3, 2, 1)])
def test_max_pool(size, stride, padding, pool, float64):
    """Values and gradients, pixel by pixel."""
    x = np.random.default_rng(0).standard_normal((2, 9, 8, 3))
    over = {"size": size, "stride": stride, "padding": padding}
    y, pull = jax.vjp(lambda x: pool(x, **over), jnp.asarray(x))
    (dx,) = pull(y)  # of half the sum of squares

    padded = np.full((2, 9 + 2 * padding, 8 + 2 * padding, 3), -np.inf)
    inside = padded[:, padding : padding + 9, padding : padding + 8]
    inside[:] = x
    expected = np.zeros_like(padded)
    for p, i, j, c in np.ndindex(y.shape):
        window = padded[p, i * stride : i * stride + size, j * stride : j * stride + size, c]
        assert y[p, i, j, c] == window.max()
        row, column = np.unravel_index(window.argmax(), window.shape)
        expected[p, i * stride + row, j * stride + column, c] += window.max()
    rows, columns = ((n + 2 * padding - size) // stride + 1 for n in (9, 8))
    assert y.shape == (2, rows, columns, 3)
    crop = slice(padding, padding + 9), slice(padding, padding + 8)
    np.testing.assert_allclose(dx, expected[:, crop[0], crop[1]], rtol=1e-12)


def test_batch_norm_takes_the_statistics_of_a_batch():
    model = create("VGG11bn", num_classes=3, image_size=32, channels=3)
    variables = model.init(jax.random.key(0))
    images = 2 + 3 * jax.random.normal(jax.random.key(1), (16, 32, 32, 3))
    given = models.with_statistics_of(model, variables, images)
    jax.tree.map(np.testing.assert_array_equal, given["params"], variables["params"])
    before, after = (model.features(v, images, pre_activations=True) for v in (variables, given))
    normalised = [layer for layer in after if layer.endswith(":pre") and after[layer].ndim == 4]
    assert len(normalised) == 8
    bound = 1e-3
    for layer in normalised:
        x = np.asarray(after[layer], np.float64)
        n = x.size / x.shape[-1]
        bound += 2 / n  # every layer divides by an unbiased variance, as running ones are
        np.testing.assert_allclose(x.mean((0, 1, 2)), 0, atol=bound)
        np.testing.assert_allclose(x.var((0, 1, 2)), 1, atol=bound)
    assert np.var(before[normalised[-1]]) < 0.1
    plain = create("LeNet", num_classes=3, image_size=32, channels=3)
    variables = plain.init(jax.random.key(0))
    assert models.with_statistics_of(plain, variables, images) is variables


def test_nothing_is_dropped_for_the_statistics_of_a_batch():
    class Dropped(nn.Module):
        @nn.compact
        def __call__(self, x, train=False, axis_name=None):
            x = layers.Dropout(0.5, train, axis_name)(x)
            x = layers.BatchNorm(train, axis_name, name="norm")(x)
            return features.output(self, "fc", layers.flatten(x), 2)

    model = models.as_model(Dropped(), image_size=4, channels=3)
    images = np.random.default_rng(0).normal(2, 3, (8, 4, 4, 3)).astype(np.float32)
    given = models.with_statistics_of(model, model.init(jax.random.key(0)), images)
    found = given["batch_stats"]["norm"]
    np.testing.assert_allclose(found["mean"], images.mean((0, 1, 2)), rtol=1e-4)
    np.testing.assert_allclose(found["var"], images.var((0, 1, 2), ddof=1), rtol=1e-4)
