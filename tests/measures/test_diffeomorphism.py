import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from relstab_jax.errors import InputError
from relstab_jax.measures import diffeomorphism

CASES = [f"n{n}_cut{c}_{i}" for n, c in ((28, 3), (32, 3), (32, 5), (64, 10)) for i in (0, 1)]


def of_case(case):
    n, cut, _ = case.split("_")
    return int(n[1:]), int(cut[3:])


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("case", CASES)
def test_displacement_equals_the_authors(case, golden):
    size, _ = of_case(case)
    amplitude = np.sqrt(golden[f"diffeo_{case}_T"]) * size
    for component, d in (("cu", "dx"), ("cv", "dy")):
        u = diffeomorphism.scalar_field(jnp.asarray(golden[f"diffeo_{case}_{component}"]), size)
        np.testing.assert_allclose(amplitude * u, golden[f"diffeo_{case}_{d}"], atol=1e-12)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("interpolation", diffeomorphism.INTERPOLATIONS)
@pytest.mark.parametrize("case", CASES)
def test_warp_equals_the_authors(case, interpolation, golden):
    if f"diffeo_{case}_{interpolation}" not in golden:
        pytest.skip("the golden file has no such case")
    image, dx, dy = (jnp.asarray(golden[f"diffeo_{case}_{a}"]) for a in ("image", "dx", "dy"))
    warped = jax.jit(diffeomorphism.warp, static_argnums=3)(
        image.transpose(1, 2, 0), dx, dy, interpolation
    )
    expected = golden[f"diffeo_{case}_{interpolation}"].transpose(1, 2, 0)
    np.testing.assert_allclose(warped, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("delta", [0.7, 20])  # beyond the border, too
def test_products_and_gathers_give_the_same_image(delta):
    image = jax.random.normal(jax.random.key(0), (32, 32, 3))
    T = diffeomorphism.typical_temperature(delta, 3, 32)
    dx, dy = diffeomorphism.displacement(jax.random.key(1), 32, 3, T)
    warped = diffeomorphism.warp(image, dx, dy)
    pixels = jnp.arange(32.0)
    y, x = (pixels[:, None] - dy).clip(0, 31), (pixels[None] - dx).clip(0, 31)
    product = diffeomorphism.by_products(image, y, x, diffeomorphism.hat)
    np.testing.assert_allclose(product, warped, atol=1e-6)


@pytest.mark.parametrize("case", CASES)
def test_temperatures_equal_the_authors(case, golden):
    size, cut = of_case(case)
    lowest, highest = diffeomorphism.temperature_range(cut, size)
    np.testing.assert_allclose((lowest, highest), golden[f"trange_n{size}_cut{cut}"], rtol=1e-12)
    T = float(golden[f"diffeo_{case}_T"])
    delta = float(golden[f"tdisp_n{size}_cut{cut}"])
    np.testing.assert_allclose(diffeomorphism.typical_displacement(T, cut, size), delta, rtol=1e-12)
    np.testing.assert_allclose(diffeomorphism.typical_temperature(delta, cut, size), T, rtol=1e-12)
    # At both ends of the range: half a pixel, and n / (π c) pixels.
    ends = [diffeomorphism.typical_displacement(T, cut, size) for T in (lowest, highest)]
    np.testing.assert_allclose(ends, (0.5, size / (math.pi * cut)), rtol=1e-12)


def test_random_displacements_have_the_typical_size_at_the_centre():
    size, cut, delta = 33, 4, 1.5
    T = diffeomorphism.typical_temperature(delta, cut, size)
    keys = jax.random.split(jax.random.key(0), 4000)
    dx, dy = jax.vmap(lambda key: diffeomorphism.displacement(key, size, cut, T))(keys)
    for d in (dx, dy):
        borders = np.concatenate([d[:, 0], d[:, -1], d[:, :, 0], d[:, :, -1]], axis=1)
        np.testing.assert_allclose(borders, 0, atol=1e-4)
    # δ² = π n² T ln(c) / 4 is the large-c form of the sum over the odd modes.
    i, j = np.meshgrid(np.arange(1, cut + 1), np.arange(1, cut + 1))
    inside = (i**2 + j**2 < (cut + 0.5) ** 2) & (i % 2 == 1) & (j % 2 == 1)
    variance = T * size**2 * (1 / (i**2 + j**2))[inside].sum()
    for d in (dx, dy):
        np.testing.assert_allclose(np.var(d[:, 16, 16]), variance, rtol=0.1)
    assert abs(np.corrcoef(dx[:, 16, 16], dy[:, 16, 16])[0, 1]) < 0.06


def test_a_shift_moves_the_image_along_the_right_axis():
    image = jnp.arange(25.0).reshape(5, 5, 1)
    one, zero = jnp.ones((5, 5)), jnp.zeros((5, 5))
    right = diffeomorphism.warp(image, one, zero)
    np.testing.assert_array_equal(right[:, 1:], image[:, :-1])
    np.testing.assert_array_equal(right[:, 0], image[:, 0])
    down = diffeomorphism.warp(image, zero, one, "nearest")
    np.testing.assert_array_equal(down[1:], image[:-1])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"cut": 1}, "cut=1 must lie between 2 and 16, half the image size"),
        ({"cut": 17}, "cut=17 must lie between 2 and 16"),
        ({"delta": 0}, "delta=0 pixels must be positive"),
        ({"delta": float("nan")}, "delta=nan pixels must be positive"),
    ],
)
def test_what_is_no_diffeomorphism_is_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        diffeomorphism.checked_temperature(**{"delta": 1, "cut": 3, "size": 32} | arguments)


@pytest.mark.parametrize(
    ("delta", "message"),
    [(5, r"fold over themselves .* keep delta between 0.5 and 3.4 pixels"), (0.1, "interpolation")],
)
def test_a_temperature_out_of_range_is_warned_of(delta, message):
    with pytest.warns(UserWarning, match=message):
        diffeomorphism.checked_temperature(delta, 3, 32)


def test_unknown_interpolation():
    with pytest.raises(InputError, match="'cubic' is not known: use one of linear, nearest"):
        diffeomorphism.warp(jnp.ones((4, 4, 1)), jnp.zeros((4, 4)), jnp.zeros((4, 4)), "cubic")
