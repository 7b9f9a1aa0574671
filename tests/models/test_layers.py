import itertools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from relstab_jax.models import layers


def by_definition(x, kernel, stride, padding, depthwise):
    """A convolution as loops over output pixels and filter pixels, in NumPy."""
    x = np.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    F = len(kernel)
    rows, columns = ((size - F) // stride + 1 for size in x.shape[1:3])
    y = np.zeros((len(x), rows, columns, kernel.shape[-1]))
    for i, j, f, g in itertools.product(range(rows), range(columns), range(F), range(F)):
        pixel = x[:, i * stride + f, j * stride + g]
        y[:, i, j] += pixel * kernel[f, g, 0] if depthwise else pixel @ kernel[f, g]
    return y


@pytest.mark.parametrize(
    ("shape", "F", "stride", "padding", "depthwise"),
    [
        ((6, 5, 7, 3), 3, 1, 1, False),
        ((6, 5, 8, 3), 3, 1, 1, False),
        ((6, 8, 8, 3), 3, 2, 1, False),
        ((5, 9, 8, 2), 5, 2, 2, False),
        ((2, 2, 2, 4), 3, 1, 1, False),
        pytest.param((1, 23, 23, 3), 11, 4, 2, False, marks=pytest.mark.slow),
        ((3, 6, 6, 4), 1, 2, 0, False),
        ((3, 7, 7, 2), 5, 1, 0, False),
        ((3, 5, 7, 4), 3, 1, 1, True),
        ((2, 9, 8, 3), 5, 2, 2, True),
    ],
)
def test_convolution(shape, F, stride, padding, depthwise, float64, monkeypatch):
    monkeypatch.setattr(layers, "_CHUNK_ELEMENTS", 2000)  # so that some take several chunks
    layers.conv.clear_cache()
    random = np.random.default_rng(0)
    x = random.standard_normal(shape)
    C = shape[-1]
    kernel = random.standard_normal((F, F, 1, C) if depthwise else (F, F, C, 5))
    how = {"stride": stride, "padding": padding, "depthwise": depthwise}
    y = by_definition(x, kernel, **how)
    np.testing.assert_allclose(layers.conv(jnp.asarray(x), jnp.asarray(kernel), **how), y)

    # It is linear in either argument, so that both derivatives follow from the values.
    weights = random.standard_normal(y.shape)

    def scalar(x, kernel):
        return (weights * layers.conv(x, kernel, **how)).sum()

    dx, dkernel = jax.jit(jax.grad(scalar, (0, 1)))(jnp.asarray(x), jnp.asarray(kernel))
    for a, da in ((x, dx), (kernel, dkernel)):
        direction = random.standard_normal(a.shape)
        pair = (direction, kernel) if a is x else (x, direction)
        expected = (weights * by_definition(*pair, **how)).sum()
        assert (da * direction).sum() == pytest.approx(expected, rel=1e-10)
    layers.conv.clear_cache()


@pytest.mark.parametrize(
    ("F", "stride", "padding"),
    [
        *((1, 1, 0), (1, 2, 0), (3, 1, 1), (3, 2, 1), (5, 1, 2), (7, 2, 3)),
        pytest.param(11, 4, 2, marks=pytest.mark.slow),
    ],
)
def test_gradients_of_a_stack_of_networks(F, stride, padding, float64):
    """Those of XLA's own convolution, under `vmap` over filters."""
    random = np.random.default_rng(0)
    x = jnp.asarray(random.standard_normal((4, 13, 12, 2)))
    kernels = jnp.asarray(random.standard_normal((3, F, F, 2, 5)))

    def plain(x, kernel):
        return jax.lax.conv_general_dilated(
            *(x, kernel, (stride, stride), [(padding, padding)] * 2),
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )

    def gradients(conv):
        gradient = jax.grad(lambda x, kernel: (conv(x, kernel) ** 3).sum(), (0, 1))
        return jax.jit(jax.vmap(gradient, in_axes=(None, 0)))(x, kernels)

    ours = gradients(lambda x, kernel: layers.conv(x, kernel, stride=stride, padding=padding))
    for gradient, expected in zip(ours, gradients(plain), strict=True):
        np.testing.assert_allclose(gradient, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("size", "stride", "padding"), [(2, 2, 0), (3, 2, 0), (3, 2, 1)])
def test_max_pool(size, stride, padding, float64):
    """Values and gradients are those of XLA's own windows."""

    class Pool(nn.Module):
        @nn.compact
        def __call__(self, x):
            return layers.max_pool(self, "pool", x, size, stride, padding)

    def plain(x):
        pads = (0, 0), (padding, padding), (padding, padding), (0, 0)
        windows, strides = (1, size, size, 1), (1, stride, stride, 1)
        return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, windows, strides, pads)

    x = jnp.asarray(np.random.default_rng(0).standard_normal((2, 9, 8, 3)))
    found, expected = (
        jax.jit(jax.value_and_grad(lambda x, f=f: (f(x) ** 3).sum()))(x)
        for f in (lambda x: Pool().apply({}, x), plain)
    )
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-12)
    np.testing.assert_allclose(found[1], expected[1], rtol=1e-12)


@pytest.mark.parametrize("depthwise", [False, True])
@pytest.mark.parametrize("platform", ["tpu", "cuda"])
def test_accelerators_get_the_plain_convolution(platform, depthwise):
    """The same code as lax's convolution alone, forward and backward."""
    x, kernel = jnp.ones((4, 8, 8, 6)), jnp.ones((3, 3, 1 if depthwise else 6, 6))

    def plain(x, kernel):
        return jax.lax.conv_general_dilated(
            *(x, kernel, (1, 1), [(1, 1), (1, 1)]),
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            feature_group_count=6 if depthwise else 1,
        )

    def operations(conv):
        step = jax.jit(jax.grad(lambda x, kernel: (conv(x, kernel) ** 2).sum(), (0, 1)))
        text = step.trace(x, kernel).lower(lowering_platforms=(platform,)).as_text()
        kinds = ("convolution", "while", "dot_general", "gather", "scatter", "concatenate")
        return {kind: text.count(f"stablehlo.{kind}") for kind in kinds}

    ours = operations(lambda x, kernel: layers.conv(x, kernel, padding=1, depthwise=depthwise))
    assert ours == operations(plain)
    assert ours["convolution"] == 3


def test_the_choice_between_devices_is_made_before_running():
    x, kernel = jnp.ones((4, 8, 8, 6)), jnp.ones((3, 3, 6, 6))
    step = jax.jit(jax.grad(lambda x, kernel: (layers.conv(x, kernel) ** 2).sum(), (0, 1)))
    compiled = step.lower(x, kernel).compile().as_text()
    assert "conditional" not in compiled
    assert "convolution(" not in compiled


def test_adaptive_average_pool():
    x = jnp.arange(10.0).reshape(1, 10, 1, 1)
    pooled = layers.adaptive_average_pool(x, 4)  # windows 0-2, 2-4, 5-7, 7-9
    assert pooled.shape == (1, 4, 4, 1)
    np.testing.assert_allclose(pooled[0, :, 0, 0], [1, 3, 6, 8])
    np.testing.assert_allclose(layers.adaptive_average_pool(x[:, :7], 7)[0, :, 0, 0], range(7))


def test_overlapping_max_pool_ignores_its_padding():
    x = -1 - jnp.arange(25.0).reshape(1, 5, 5, 1)
    module = layers.Dense(1)  # any: outside `features`, nothing is kept
    pooled = module.apply({}, x, method=lambda m, x: layers.max_pool(m, "pool", x, 3, 2, 1))
    np.testing.assert_array_equal(pooled[0, :, :, 0], [[-1, -2, -4], [-6, -7, -9], [-16, -17, -19]])


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
