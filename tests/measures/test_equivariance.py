"""The equivariance error of maps against what must vanish, and against NumPy and SciPy."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

import relstab_jax as rs
from relstab_jax.errors import InputError
from relstab_jax.measures.perturbations import Deformation

IMAGES = np.random.default_rng(0).normal(size=(5, 12, 12, 2)).astype(np.float32)
FILTERS = np.random.default_rng(1).normal(size=(2, 3, 3, 2, 2)).astype(np.float32)


@dataclasses.dataclass(frozen=True)
class Roll:
    """A shift by whole pixels of images without a border."""

    pixels: int

    def __call__(self, key, image):
        return jnp.roll(image, self.pixels * jax.random.randint(key, (), 1, 3), axis=0)

    def of_map(self, key, f, size):
        assert size == len(f)
        return self(key, f)


def circular(x):
    """Two circular convolutions, the mean over space of the second, and its maps of stride 3."""
    f = {}
    for n, w in enumerate(FILTERS):
        padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="wrap")
        dims = ("NHWC", "HWIO", "NHWC")
        x = jax.nn.relu(
            jax.lax.conv_general_dilated(padded, w, (1, 1), "VALID", dimension_numbers=dims)
        )
        f[f"conv{n}"] = x
    return f | {"mean": x.mean(axis=(1, 2))}


def test_circular_convolutions_are_equivariant_to_shifts_and_not_invariant():
    found = rs.measure(circular, IMAGES, 0, perturbation=Roll(1), copies=3, equivariance=True)
    assert found.E.values[:2].tolist() == [0, 0] == found.E_error.values[:2].tolist()
    assert (found.D[:2] > 0.1).all()
    assert np.isnan(found.E.sel(layer="mean"))
    assert found.D.sel(layer="mean") < 1e-10
    assert "E" not in rs.measure(circular, IMAGES, 0, perturbation=Roll(1))


@dataclasses.dataclass(frozen=True)
class Shift(Deformation):
    def field(self, key, size):
        del key
        return jnp.full((size, size), 3.0), jnp.full((size, size), -1.0)


@pytest.mark.parametrize("channel_axis", [-1, 1])
def test_maps_are_deformed_at_their_own_resolution(channel_axis):
    def network(x):
        f = {"full": x**2, "half": jnp.tanh(x[:, ::2, ::2])}
        return {name: jnp.moveaxis(y, -1, channel_axis) for name, y in f.items()}

    def deformed(f, scale):  # [P, l, l, C]
        shift = (0, -1 * scale, 3 * scale, 0)
        return ndimage.shift(f.astype(float), shift, order=1, mode="nearest")

    given = rs.Network(lambda _, x: network(x), (), "network", channel_axis=channel_axis)
    found = rs.measure(given, IMAGES, 0, perturbation=Shift(), equivariance=True)
    moved = deformed(IMAGES, 1)
    expected = []
    for f, g, scale in (
        (IMAGES**2, moved**2, 1),
        (*(np.tanh(x[:, ::2, ::2]) for x in (IMAGES, moved)), 0.5),
    ):
        N = np.mean([((a - b) ** 2).sum() for a in f for b in f])
        expected.append(np.mean(((g - deformed(f, scale)) ** 2).sum(axis=(1, 2, 3))) / N)
    np.testing.assert_allclose(found.E, expected, rtol=1e-4, atol=1e-9)
    assert expected[0] < 1e-9 < 0.01 < expected[1]


def test_a_perturbation_of_images_alone_is_refused():
    def roll(key, image):
        del key
        return jnp.roll(image, 1, axis=0)

    with pytest.raises(InputError, match=r"a perturbations\.Deformation: give roll a method"):
        rs.measure(circular, IMAGES, 0, perturbation=roll, equivariance=True)
