"""Perturbations against plain NumPy and SciPy, alone and in `measure`."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from relstab_jax import perturbations
from relstab_jax.errors import InputError
from relstab_jax.measures import diffeomorphism
from relstab_jax.measures.driver import measure
from relstab_jax.measures.perturbations import (
    Diffeomorphism,
    ElasticField,
    GaussianNoise,
    Rotation,
    Scaling,
    Shear,
    Translation,
)
from tests.compilations import compilations

KEYS = jax.random.split(jax.random.key(3), 200)
ALL = [Translation(1.5), Translation(2, along_axes=True), Rotation(10), Scaling(1.1), Shear(8),
       ElasticField(6, 2), GaussianNoise(0.3), Diffeomorphism(1, 2, part="rotation")]  # fmt: skip


def drawn(P=6, size=12, C=2):
    return np.random.default_rng(0).normal(size=(P, size, size, C))


def fields(deformation, size=9):
    return np.stack(jax.vmap(lambda key: jnp.stack(deformation.field(key, size)))(KEYS))


def by_scipy(image, source, shift=(0, 0)):
    """The image whose pixel r, (x, y) from the centre, is the old one's at `source` r - shift."""
    centre = (len(image) - 1) / 2
    matrix = np.asarray(source)[::-1, ::-1]  # of (y, x)
    offset = centre - matrix @ [centre, centre] - np.array(shift)[::-1]
    return np.stack([ndimage.affine_transform(channel, matrix, offset, order=1, mode="nearest")
                     for channel in np.moveaxis(image, -1, 0)], axis=-1)  # fmt: skip


def turn(degrees):
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.array([[cos, -sin], [sin, cos]])


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(
    ("deformation", "sources"),
    [
        (Rotation(20), [turn(20), turn(-20)]),
        (Scaling(1.3), [np.eye(2) / 1.3, np.eye(2) * 1.3]),
    ],
)
def test_maps_go_either_way_and_equal_scipy(deformation, sources):
    image = drawn()[0]
    expected = [by_scipy(image, source) for source in sources]
    made = np.asarray(jax.vmap(deformation, (0, None))(KEYS, jnp.asarray(image)))
    way = [int(np.abs(one - expected[1]).max() < np.abs(one - expected[0]).max()) for one in made]
    np.testing.assert_allclose(made, np.stack(expected)[way], atol=1e-12)
    assert abs(np.mean(way) - 0.5) < 0.12


@pytest.mark.usefixtures("float64")
def test_a_shear_keeps_areas_and_changes_right_angles_by_its_degrees():
    x = np.arange(9) - 4.0
    f = fields(Shear(12))
    sources = np.eye(2) - np.stack([f[:, :, 4, 5], f[:, :, 5, 4]], axis=-1)  # at x = 1, at y = 1
    np.testing.assert_allclose(sources, sources.swapaxes(1, 2), atol=1e-12)  # no rotation
    np.testing.assert_allclose(np.linalg.det(sources), 1, atol=1e-12)
    of = np.stack(np.meshgrid(x, x))  # x, y
    np.testing.assert_allclose(f, of - np.einsum("kij,jyx->kiyx", sources, of), atol=1e-12)
    angles = np.radians(np.arange(0, 180))
    one = np.stack([np.cos(angles), np.sin(angles)])
    other = np.stack([-np.sin(angles), np.cos(angles)])
    for source in sources[:20]:
        a, b = source @ one, source @ other
        cos = (a * b).sum(axis=0) / np.linalg.norm(a, axis=0) / np.linalg.norm(b, axis=0)
        assert np.degrees(np.arcsin(np.abs(cos).max())) == pytest.approx(12, abs=0.02)
    axes = np.array([np.linalg.eigh(source)[1][:, 0] for source in sources])
    assert np.abs((axes**2).mean(axis=0) - 0.5).max() < 0.1  # any axis
    image = drawn()[0]
    made = Shear(12)(KEYS[0], jnp.asarray(image))
    np.testing.assert_allclose(made, by_scipy(image, sources[0]), atol=1e-12)


@pytest.mark.usefixtures("float64")
def test_a_translation_has_its_length_in_any_direction_and_equals_scipy():
    dx, dy = fields(Translation(1.7))[:, :, 0, 0].T
    assert (np.ptp(fields(Translation(1.7)), axis=(2, 3)) == 0).all()
    np.testing.assert_allclose(np.hypot(dx, dy), 1.7, rtol=1e-12)
    assert max(abs(dx.mean()), abs(dy.mean()), abs((dx * dy).mean())) < 0.3
    image = drawn()[0]
    made = Translation(1.7)(KEYS[0], jnp.asarray(image))
    expected = ndimage.shift(image, (dy[0], dx[0], 0), order=1, mode="nearest")
    np.testing.assert_allclose(made, expected, atol=1e-12)


def test_a_translation_along_axes_rolls_what_lies_inside():
    image = np.pad(drawn(size=8)[0], [(2, 2), (2, 2), (0, 0)])
    rolled = {(s, a): np.roll(image, s, axis=a) for s in (2, -2) for a in (0, 1)}
    made = jax.vmap(Translation(2, along_axes=True), (0, None))(KEYS, jnp.asarray(image))
    found = [
        [way for way, x in rolled.items() if np.array_equal(x.astype(np.float32), one)]
        for one in made
    ]
    assert all(len(ways) == 1 for ways in found)
    counts = [found.count([way]) for way in rolled]
    assert min(counts) > 30


def test_a_right_angle_is_rot90():
    image = drawn(size=7)[0].astype(np.float32)
    made = np.asarray(jax.vmap(Rotation(90), (0, None))(KEYS[:20], jnp.asarray(image)))
    turned = [np.rot90(image, k) for k in (1, -1)]
    error = np.array([[np.abs(one - other).max() for other in turned] for one in made])
    assert (error.min(axis=1) < 1e-5).all()
    assert (error < 1e-5).any(axis=0).all()


@pytest.mark.usefixtures("float64")
def test_an_elastic_field_is_smoothed_uniform_noise():
    uniform = np.asarray(jax.random.uniform(KEYS[0], (2, 11, 11), minval=-1))
    expected = [40 * ndimage.gaussian_filter(u, 2.5) for u in uniform]
    np.testing.assert_allclose(ElasticField(40, 2.5).field(KEYS[0], 11), expected, atol=1e-12)
    centre = fields(ElasticField(40, 2.5), 33)[:, :, 12:21:4, 12:21:4]
    np.testing.assert_allclose(centre.std(), 40 / (2.5 * np.sqrt(12 * np.pi)), rtol=0.05)


def test_gaussian_noise_has_its_standard_deviation():
    image = drawn()[0].astype(np.float32)
    made = jax.vmap(GaussianNoise(0.3), (0, None))(KEYS, jnp.asarray(image))
    change = np.asarray(made) - image
    np.testing.assert_allclose(change.std(axis=0).mean(), 0.3, rtol=0.01)
    assert np.abs(change.mean(axis=0)).max() < 0.1


@pytest.mark.parametrize("perturbation", ALL, ids=repr)
def test_equal_keys_give_equal_copies_by_one_compiled_program(perturbation):
    x = drawn()

    def f(images):
        return {"input": images, "mean": images.mean(axis=(1, 2))}

    first = measure(f, x, KEYS[0], perturbation=perturbation, copies=2, batch_size=2)
    again = type(perturbation)(**vars(perturbation))
    with compilations() as compiled:
        found = measure(f, x, KEYS[0], perturbation=again, copies=2, batch_size=2)
        np.testing.assert_array_equal(np.array(first["mean"]), np.array(found["mean"]))
    assert not compiled
    whole = measure(f, x, KEYS[0], perturbation=perturbation, copies=2)
    np.testing.assert_allclose(np.array(whole["mean"]), np.array(first["mean"]), rtol=1e-4)
    assert whole["input"].D > 0
    np.testing.assert_allclose(whole["input"].R, 1, rtol=1e-4)
    copies = [jax.jit(perturbation)(key, jnp.asarray(x[0])) for key in (*KEYS[:2], KEYS[0])]
    np.testing.assert_array_equal(copies[0], copies[2])
    assert not np.array_equal(copies[0], copies[1]) or isinstance(perturbation, Rotation | Scaling)


def test_what_sums_over_space_minds_no_translation_but_an_enlargement():
    x = np.pad(np.abs(drawn(size=8)), [(0, 0), (2, 2), (2, 2), (0, 0)])
    shifted, larger = (
        measure(lambda x: {"sum": x.sum(axis=(1, 2))}, x, KEYS[0], perturbation=p)["sum"]
        for p in (Translation(1.3), Scaling(1.2))
    )
    assert shifted.D < 1e-8 < 0.01 < larger.D


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Translation(0), "pixels=0 must be more than 0 and finite"),
        (lambda: Translation(math.nan), "pixels=nan must be more than 0"),
        (lambda: Rotation(360), "degrees=360 must be more than 0 and less than 360"),
        (lambda: Scaling(1), "factor=1 must be more than 1"),
        (lambda: Scaling(0.9), "factor=0.9 must be more than 1"),
        (lambda: Shear(90), "degrees=90 must be more than 0 and less than 90"),
        (lambda: ElasticField(-1, 2), "alpha=-1 must be"),
        (lambda: ElasticField(1, math.inf), "sigma=inf must be"),
        (lambda: GaussianNoise(0.0), "sigma=0.0 must be"),
        (lambda: Diffeomorphism(part="strain"), "part='strain' is not known: use one of whole, tr"),
        (lambda: Translation(9)(KEYS[0], jnp.ones((9, 9, 1))), "pixels=9 .* less than 9"),
        (lambda: Rotation(9)(KEYS[0], jnp.ones((9, 8, 1))), r"image has shape \(9, 8, 1\)"),
    ],
)
def test_what_is_no_perturbation_is_refused(make, message):
    with pytest.raises(InputError, match=message):
        make()


@pytest.mark.usefixtures("float64")
def test_parts_are_those_of_the_nearest_affine_field():
    size = 8
    at = np.arange(size) - 3.5
    x, y = (a.ravel() for a in np.meshgrid(at, at))
    one, zero = np.ones(size**2), np.zeros(size**2)
    basis = {  # columns, as dx and then dy
        "translation": [np.r_[one, zero], np.r_[zero, one]],
        "rotation": [np.r_[-y, x]],
        "stretching": [np.r_[x, y]],
        "shear": [np.r_[x, -y], np.r_[y, x]],
    }
    field = np.random.default_rng(1).normal(size=(2, size, size))
    found = diffeomorphism.parts(*jnp.asarray(field))
    assert tuple(found) == diffeomorphism.PARTS
    columns = np.stack([c for of_part in basis.values() for c in of_part], axis=1)
    weights = iter(np.linalg.lstsq(columns, field.ravel())[0])
    for part, of_part in basis.items():
        expected = sum(next(weights) * c for c in of_part)
        np.testing.assert_allclose(np.ravel(found[part]), expected, atol=1e-12)
    vectors = np.stack([np.ravel(of_part) for of_part in found.values()])
    np.testing.assert_allclose(vectors.sum(axis=0), field.ravel(), atol=1e-12)
    products = vectors @ vectors.T
    np.testing.assert_allclose(products, np.diag(np.diag(products)), atol=1e-10)
    np.testing.assert_allclose(np.trace(products), (field**2).sum(), rtol=1e-12)
    for part, of_part in basis.items():  # an affine field is its part alone
        alone = diffeomorphism.parts(*jnp.asarray(of_part[-1].reshape(2, size, size)))
        for other, value in alone.items():
            expected = of_part[-1] if other == part else 0
            np.testing.assert_allclose(np.ravel(value), expected, atol=1e-12)


@pytest.mark.parametrize(
    ("deformation", "part"),
    [
        (Translation(1), "translation"),
        (Rotation(1), "rotation"),
        (Scaling(1.01), "stretching"),
        (Shear(1), "shear"),
    ],
)
def test_small_maps_are_the_parts_of_their_name(deformation, part):
    found = diffeomorphism.parts(*deformation.field(KEYS[0], 16))
    others = sum(np.square(f).sum() for other, f in found.items() if other != part)
    assert others < 1e-3 * np.square(found[part]).sum()


def test_parts_of_a_diffeomorphism_are_of_one_field():
    whole, *of_parts = (
        np.stack(Diffeomorphism(1, 3, part=part).field(KEYS[0], 16))
        for part in ("whole", *diffeomorphism.PARTS)
    )
    np.testing.assert_allclose(sum(of_parts), whole, atol=1e-5)
    assert min(np.square(f).mean() for f in of_parts) > 0


def test_shares_of_the_parts_in_random_fields_are_those_in_the_docstring():
    squares = [np.square(fields(Diffeomorphism(1, 3, part=part), 32)).mean()
               for part in ("whole", *diffeomorphism.PARTS)]  # fmt: skip
    shares = np.array(squares[1:]) / squares[0]
    np.testing.assert_allclose(shares, [0.28, 0.04, 0.04, 0.08, 0.56], rtol=0.2)
    np.testing.assert_allclose(np.sqrt(2 * squares[2]), 1 / 6, rtol=0.1)


def broken(key, image):
    """Not finite for one of the images, the brightest."""
    return jnp.where(image.max() > 4.5, jnp.nan, image + 1)


@pytest.mark.parametrize("batch_size", [1, 2])
def test_a_perturbation_that_is_not_finite_is_refused(batch_size):
    x = np.clip(drawn(P=40), -4, 4)
    x[33, 5, 5, 0] = 5
    with pytest.raises(InputError, match=r"of images\[33\] the perturbation gives values that are"):
        measure(lambda x: x, x, KEYS[0], perturbation=broken, batch_size=batch_size)


class Read:
    """Images that are read one at a time."""

    def __init__(self, images):
        self.images, self.shape = images, images.shape

    def __len__(self):
        return len(self.images)

    def __getitem__(self, number):
        return self.images[number]


def test_images_that_are_not_finite_when_they_are_read_are_refused():
    x = drawn(P=40)
    x[17, 0, 0, 0] = np.inf
    with pytest.raises(InputError, match=r"^images\[17\] has values that are not finite"):
        measure(lambda x: x, Read(x), KEYS[0], batch_size=1)


def test_a_perturbation_that_changes_nothing_is_warned_of():
    with pytest.warns(UserWarning, match="changes none of the images: D is 0, and R"):
        found = measure(lambda x: x, drawn(), KEYS[0], perturbation=lambda key, image: image)
    assert found["output"].D == found["output"].G == 0
    assert np.isnan(found["output"].R)


def test_all_perturbations_are_public():
    assert {type(p) for p in ALL} <= {getattr(perturbations, type(p).__name__) for p in ALL}
