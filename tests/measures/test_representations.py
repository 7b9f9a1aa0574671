"""`measure` takes whatever a network returns, and says in a sentence what it cannot take."""

from collections import OrderedDict
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from relstab_jax.errors import InputError
from relstab_jax.measures import driver, representations, sensitivity
from relstab_jax.measures.perturbations import Diffeomorphism

KEY = jax.random.key(7)
IMAGES = np.random.default_rng(0).standard_normal((5, 8, 8, 1), np.float32)


class Pair(NamedTuple):
    first: jax.Array
    second: jax.Array


def measure(features, images=IMAGES, **options):
    return driver.measure(features, images, KEY, perturbation=Diffeomorphism(0.5), **options)


def flat(x):
    return x.reshape(len(x), -1)


# Representations of any form.


@pytest.mark.parametrize(
    ("features", "names"),
    [
        (lambda x: x, ["output"]),
        (lambda x: (x, x**2), ["0", "1"]),
        (lambda x: [x, [x**2, flat(x)]], ["0", "1/0", "1/1"]),
        (lambda x: Pair(x, x**2), ["first", "second"]),
        (lambda x: {"b": x, "a": x**2}, ["b", "a"]),
        (lambda x: {"b": {"z": x, "y": x**2}, "a": (x,)}, ["b/z", "b/y", "a/0"]),
        (lambda x: (OrderedDict(z=x, y=x**2),), ["0/z", "0/y"]),
        (lambda x: {("all", 1): x, 3: x**2}, [("all", 1), 3]),
        (lambda x: {"x": x, "none": None}, ["x"]),
    ],
)
def test_any_pytree_is_named_by_its_paths(features, names):
    assert list(representations.shapes(features, None, IMAGES[:1])) == names


def test_one_array_and_nested_ones_have_the_numbers_of_a_dict():
    expected = measure(lambda x: {"f": x, "f2": x**2})
    alone, nested = measure(lambda x: x), measure(lambda x: (x, {"deep": [x**2]}))
    assert (list(alone), list(nested)) == (["output"], ["0", "1/deep/0"])
    for found, key in ((alone["output"], "f"), (nested["0"], "f"), (nested["1/deep/0"], "f2")):
        np.testing.assert_allclose(found[:3], expected[key][:3], rtol=1e-5)


def test_a_stack_of_networks_may_return_any_pytree_too():
    found = measure(lambda w, x: (w * x, {"y": x**2}), networks=jnp.array([1.0, 2.0]))
    assert list(found) == ["0", "1/y"]
    assert found["1/y"].D.shape == (2,)


@pytest.mark.parametrize(
    ("features", "message"),
    [
        (lambda x: {}, "features_fn returns no representation"),
        (lambda x: None, "features_fn returns no representation"),
        (lambda x: {"x": x, "name": "conv"}, "returns a str as 'name', and must return arrays"),
        (lambda x: {"a/b": x, "a": {"b": x}}, "two representations 'a/b'"),
        (lambda x: {"mean": x.mean()}, r"'mean' of one image has shape \(\)"),
    ],
)
def test_what_is_no_representation_is_refused(features, message):
    with pytest.raises(InputError, match=message):
        measure(features)


@pytest.mark.parametrize(
    ("images", "options", "message"),
    [
        (list(IMAGES), {}, "images are a list, and must be one array"),
        (IMAGES + 1j, {}, "images of type complex64 must be real numbers"),
        (IMAGES.astype(str), {}, "must be real numbers"),
        (IMAGES, {"batch_size": 1.5}, "batch_size=1.5 must be at least 1, and a whole number"),
        (IMAGES, {"batch_size": 0}, "batch_size=0 must be at least 1, and a whole number"),
        (IMAGES, {"copies": 0}, "copies=0 must be at least 1, and a whole number"),
    ],
)
def test_other_images_and_numbers_are_refused(images, options, message):
    with pytest.raises(InputError, match=message) as error:
        measure(lambda x: {"x": x}, images, **options)
    assert len(str(error.value)) < 300


# Numbers of any type.


def test_a_unitary_map_to_complex_numbers_changes_nothing():
    """Parseval: distances are those of the images."""
    images = jax.random.normal(KEY, (6, 8, 8))
    moved, noisy = jnp.roll(images, 1, axis=1), images + 0.3
    expected = sensitivity.sensitivities(images, moved, noisy)
    fourier = [jnp.fft.fft2(x, norm="ortho") for x in (images, moved, noisy)]
    found = sensitivity.sensitivities(*fourier)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert found.D.dtype == jnp.float32

    def both(x):
        return {"real": x, "complex": jnp.fft.fft2(x[..., 0], norm="ortho")}

    found = measure(both, copies=2, batch_size=2)
    np.testing.assert_allclose(found["complex"][:5], found["real"][:5], rtol=1e-5)


@pytest.mark.slow
def test_batches_of_a_complex_representation_in_one_call():
    images = jax.random.normal(KEY, (7, 4, 4))
    found = driver.measure(
        lambda x: jax.lax.complex(x, 2 * x), images, KEY, perturbation=lambda key, x: x + 0.1,
        batch_size=3,
    )["output"]  # fmt: skip
    at_once = sensitivity.sensitivities(images, images + 0.1, images + 0.1)
    np.testing.assert_allclose(found[:3], at_once, rtol=1e-5)


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16, jnp.int8])
def test_representations_of_few_bits_are_compared_in_float32(dtype):
    """Sums over 64 values round in half precision; what is given is exact in all types."""
    random = np.random.default_rng(1)
    f, g, h = (random.integers(-8, 9, (20, 64)) for _ in range(3))
    exact = sensitivity.sensitivities(*(jnp.asarray(x, jnp.float32) for x in (f, g, h)))
    found = sensitivity.sensitivities(*(jnp.asarray(x, dtype) for x in (f, g, h)))
    np.testing.assert_allclose(found, exact, rtol=1e-6)
