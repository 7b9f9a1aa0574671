import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from relstab_jax.models import convolution


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
        ((6, 5, 7, 32), 3, 1, 1, False),
        ((6, 6, 8, 32), 3, 1, 0, False),
        ((3, 1, 2, 33), 3, 1, 1, False),
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
    monkeypatch.setattr(convolution, "_CHUNK_ELEMENTS", 2000)  # so that some take several chunks
    convolution.conv.clear_cache()
    random = np.random.default_rng(0)
    x = random.standard_normal(shape)
    C = shape[-1]
    kernel = random.standard_normal((F, F, 1, C) if depthwise else (F, F, C, 5))
    how = {"stride": stride, "padding": padding, "depthwise": depthwise}
    y = by_definition(x, kernel, **how)
    np.testing.assert_allclose(convolution.conv(jnp.asarray(x), jnp.asarray(kernel), **how), y)

    # It is linear in either argument, so that both derivatives follow from the values.
    weights = random.standard_normal(y.shape)

    def scalar(x, kernel):
        return (weights * convolution.conv(x, kernel, **how)).sum()

    dx, dkernel = jax.jit(jax.grad(scalar, (0, 1)))(jnp.asarray(x), jnp.asarray(kernel))
    for a, da in ((x, dx), (kernel, dkernel)):
        direction = random.standard_normal(a.shape)
        pair = (direction, kernel) if a is x else (x, direction)
        expected = (weights * by_definition(*pair, **how)).sum()
        assert (da * direction).sum() == pytest.approx(expected, rel=1e-10)
    convolution.conv.clear_cache()


@pytest.mark.parametrize(
    ("C", "F", "stride", "padding"),
    [
        *((2, 1, 1, 0), (2, 1, 2, 0), (2, 3, 1, 1), (2, 3, 2, 1), (2, 5, 1, 2), (2, 7, 2, 3)),
        (32, 3, 1, 1),
        pytest.param(2, 11, 4, 2, marks=pytest.mark.slow),
    ],
)
def test_gradients_of_a_stack_of_networks(C, F, stride, padding, float64):
    """Those of XLA's own convolution, under `vmap` over filters."""
    random = np.random.default_rng(0)
    x = jnp.asarray(random.standard_normal((4, 13, 12, C)))
    kernels = jnp.asarray(random.standard_normal((3, F, F, C, 5)))

    def plain(x, kernel):
        return jax.lax.conv_general_dilated(
            *(x, kernel, (stride, stride), [(padding, padding)] * 2),
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )

    def gradients(conv):
        gradient = jax.grad(lambda x, kernel: (conv(x, kernel) ** 3).sum(), (0, 1))
        return jax.jit(jax.vmap(gradient, in_axes=(None, 0)))(x, kernels)

    ours = gradients(lambda x, kernel: convolution.conv(x, kernel, stride=stride, padding=padding))
    for gradient, expected in zip(ours, gradients(plain), strict=True):
        np.testing.assert_allclose(gradient, expected, rtol=1e-9, atol=1e-9)


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

    ours = operations(lambda x, kernel: convolution.conv(x, kernel, padding=1, depthwise=depthwise))
    assert ours == operations(plain)
    assert ours["convolution"] == 3


def test_the_choice_between_devices_is_made_before_running():
    x, kernel = jnp.ones((4, 8, 8, 6)), jnp.ones((3, 3, 6, 6))
    step = jax.jit(jax.grad(lambda x, kernel: (convolution.conv(x, kernel) ** 2).sum(), (0, 1)))
    compiled = step.lower(x, kernel).compile().as_text()
    assert "conditional" not in compiled
    assert "convolution(" not in compiled
