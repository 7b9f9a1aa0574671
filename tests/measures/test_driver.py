"""`measure` against Eq. 1 in plain NumPy, and what must not change its results."""

import dataclasses
import functools
import os
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.lib.stride_tricks import sliding_window_view

from relstab_jax import models
from relstab_jax.data import images as image_sets
from relstab_jax.errors import InputError
from relstab_jax.measures.driver import measure
from relstab_jax.measures.noise import EqualVariance
from relstab_jax.measures.perturbations import Diffeomorphism
from tests.compilations import compilations

FIXTURE = pathlib.Path(__file__).parents[1] / "data" / "tfds"
KEY = jax.random.key(7)


@pytest.fixture(scope="module")
def photographs():
    """Real images: 50 of CIFAR-10; or 500, with RELSTAB_TFDS as the folder of the whole set."""
    folder = os.environ.get("RELSTAB_TFDS")
    split = "test[:500]" if folder else "test"
    x, _ = image_sets.load("cifar10", split, folder or str(FIXTURE))
    mean, std = (np.array(a) for a in (image_sets.CIFAR10_MEAN, image_sets.CIFAR10_STD))
    return (x / 255 - mean) / std


def numpy_copies(images, key, transforms, delta=1.0, cut=3):
    """Deformed and noisy copies; only the Gaussian numbers are JAX's."""
    n = images.shape[1]
    grid = np.arange(n)
    T = 4 * delta**2 / (np.pi * n**2 * np.log(cut))
    deformed, noisy = (np.zeros((len(images), transforms, *images.shape[1:])) for _ in range(2))
    for p, image in enumerate(images):
        for t in range(transforms):
            key_t = jax.random.fold_in(jax.random.fold_in(key, p), t)
            key_field, key_noise = jax.random.split(key_t)
            C = np.asarray(jax.random.normal(key_field, (2, cut, cut)))
            field = np.zeros((2, n, n))
            for i in range(1, cut + 1):
                for j in range(1, cut + 1):
                    if (r := np.hypot(i, j)) < cut + 0.5:
                        sine_x, sine_y = (np.sin(np.pi * m * grid / (n - 1)) for m in (i, j))
                        field += C[:, i - 1, j - 1, None, None] / r * np.outer(sine_y, sine_x)
            dx, dy = np.sqrt(T) * n * field
            y = np.clip(grid[:, None] - dy, 0, n - 1)
            x = np.clip(grid - dx, 0, n - 1)
            top, left = (np.minimum(np.floor(a).astype(int), n - 2) for a in (y, x))
            for rows, weight_y in ((top, top + 1 - y), (top + 1, y - top)):
                for columns, weight_x in ((left, left + 1 - x), (left + 1, x - left)):
                    deformed[p, t] += (weight_y * weight_x)[..., None] * image[rows, columns]
            eta = np.asarray(jax.random.normal(key_noise, image.shape))
            norm = np.linalg.norm(deformed[p, t] - image)
            noisy[p, t] = image + eta * (norm / np.linalg.norm(eta))
    return deformed, noisy


def numpy_vgg11(variables, x):
    """The eight convolutions of VGG11, with ReLU, and max-pools after some of them."""
    found = []
    for k, (layer, w) in enumerate(models.kernels(variables).items()):
        padded = np.pad(x, [(0, 0), (1, 1), (1, 1), (0, 0)])
        windows = sliding_window_view(padded, (3, 3), axis=(1, 2))
        x = np.tensordot(windows, np.asarray(w), axes=([4, 5, 3], [0, 1, 2]))
        x = np.maximum(x + np.asarray(variables["params"][layer]["bias"]), 0)
        found.append(x)
        if k in (0, 1, 3, 5, 7):
            P, n, _, C = x.shape
            x = x.reshape(P, n // 2, 2, n // 2, 2, C).max(axis=(2, 4))
    return found


def all_pairs(f):
    """‖f_i - f_j‖² of all pairs."""
    f = f.reshape(len(f), -1)
    return np.array([[np.sum((a - b) ** 2) for b in f] for a in f])


def numpy_lenet(variables, x):
    """Two 5×5 convolutions with ReLU and max-pools, and two dense layers."""
    found = []
    for layer, params in list(variables["params"].items())[:-1]:
        w, b = (np.asarray(params[name]) for name in ("kernel", "bias"))
        if w.ndim == 4:
            x = np.tensordot(sliding_window_view(x, (5, 5), axis=(1, 2)), w, ([4, 5, 3], [0, 1, 2]))
            found.append(np.maximum(x + b, 0))
            P, n, _, C = x.shape
            x = found[-1].reshape(P, n // 2, 2, n // 2, 2, C).max(axis=(2, 4))
        else:
            if layer == "fc1":
                x = x.transpose(0, 3, 1, 2).reshape(len(x), -1)
            x = np.maximum(x @ w + b, 0)
            found.append(x)
    return found


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(
    ("name", "in_numpy", "layers"),
    [
        ("LeNet", numpy_lenet, 4),
        pytest.param("VGG11", numpy_vgg11, 8, marks=pytest.mark.slow),
    ],
)
def test_every_layer_of_a_random_network_equals_numpy(name, in_numpy, layers, photographs):
    model = models.create(name, num_classes=10, image_size=32, channels=3)
    variables = model.init(jax.random.key(0))
    features = functools.partial(model.features, variables)
    photographs = photographs[:12]
    found = measure(features, photographs, KEY, batch_size=7)
    f, f_deformed, f_noisy = (
        in_numpy(variables, x)
        for x in (photographs, *(c[:, 0] for c in numpy_copies(photographs, KEY, 1)))
    )
    assert len(found) == len(f) == layers
    for k, s in enumerate(found.values()):
        N = all_pairs(f[k]).mean()
        D, G = (
            np.sum((copies[k] - f[k]).reshape(len(f[k]), -1) ** 2, axis=1).mean() / N
            for copies in (f_deformed, f_noisy)
        )
        np.testing.assert_allclose((s.D, s.G, s.R), (D, G, D / G), rtol=1e-9)


def wiggly(x):
    """Representations of several shapes, cheap to compute."""
    return {
        "map": jnp.tanh(x[..., :2] * 2),
        "dense": x.reshape(len(x), -1)[:, ::7] ** 2,
        "scalar": jnp.sin(x.sum(axis=(1, 2, 3))),
    }


@functools.cache
def drawn(P=21, size=12, C=3):
    return np.random.default_rng(0).normal(1, 1, (P, size, size, C)).astype(np.float32)


@pytest.mark.usefixtures("float64")
def test_neither_batch_nor_devices_change_the_results(monkeypatch):
    found = [measure(wiggly, drawn(), KEY, batch_size=b) for b in (2, 21)]
    one_device = jax.local_devices()[:1]
    monkeypatch.setattr(jax, "local_devices", lambda: one_device)
    found += [measure(wiggly, drawn(), KEY, batch_size=b) for b in (None,)]
    assert list(found[0]) == ["map", "dense", "scalar"]
    for layer in found[0]:
        for other in found[1:]:
            np.testing.assert_allclose(other[layer], found[0][layer], rtol=1e-9)


@pytest.mark.slow
@pytest.mark.usefixtures("float64")
def test_standard_errors_are_those_of_the_bootstrap():
    x = drawn(P=200).astype(float)
    found = measure(wiggly, x, KEY, copies=2)
    deformed, noisy = numpy_copies(x, KEY, 2)
    generator = np.random.default_rng(1)
    for layer, s in found.items():
        f = np.asarray(wiggly(x)[layer]).reshape(len(x), -1)
        moved = [
            np.mean(
                [
                    np.sum((np.asarray(wiggly(c[:, t])[layer]).reshape(len(x), -1) - f) ** 2, 1)
                    for t in (0, 1)
                ],
                axis=0,
            )
            for c in (deformed, noisy)
        ]
        np.testing.assert_allclose(s.D, moved[0].mean() / all_pairs(f).mean(), rtol=1e-9)
        resampled = []
        for _ in range(1000):
            chosen = generator.integers(len(x), size=len(x))
            N = 2 * np.mean(np.sum((f[chosen] - f[chosen].mean(0)) ** 2, 1))
            a, b = (m[chosen].mean() for m in moved)
            resampled.append((a / N, b / N, a / b))
        bootstrap = np.std(resampled, axis=0)
        np.testing.assert_allclose((s.D_error, s.G_error, s.R_error), bootstrap, rtol=0.12)


def test_a_stack_of_networks_takes_one_compilation_and_equals_each_alone():
    scales = {"w": jnp.array([0.5, 1.0, 3.0])}

    def features(network, x):
        return {"f": jnp.tanh(network["w"] * x)}

    with compilations() as compiled:
        for _ in range(2):
            together = measure(features, drawn(), KEY, networks=scales)
    assert compiled.count("step") == 1
    assert together["f"].D.shape == (3,)
    for n, w in enumerate((0.5, 1.0, 3.0)):
        alone = measure(lambda x, w=w: {"f": jnp.tanh(w * x)}, drawn(), KEY)
        np.testing.assert_allclose([a[n] for a in together["f"]], alone["f"], rtol=1e-4)


def jitter(key, x):
    return x + 0.3 * jax.random.normal(key, x.shape)


def by_definition(f, copies, noisy):
    """D, G, R (Eq. 1) of representations [P, ...] and of their copies [t, P, ...]."""
    f, copies, noisy = (np.asarray(a).reshape(*a.shape[: a.ndim - f.ndim + 1], -1)
                        for a in (f, copies, noisy))  # fmt: skip
    N = all_pairs(f).mean()
    D, G = (np.sum((c - f) ** 2, axis=-1).mean() / N for c in (copies, noisy))
    return D, G, D / G


def drawn_copies(x, key, t):
    """Copies by `jitter`, with the standard normal numbers of their noise [t, P, ...]."""
    keys = [
        [jax.random.split(jax.random.fold_in(jax.random.fold_in(key, p), n)) for p in range(len(x))]
        for n in range(t)
    ]
    copies = [[jitter(k[0], image) for k, image in zip(row, x, strict=True)] for row in keys]
    normal = [[jax.random.normal(k[1], x.shape[1:]) for k in row] for row in keys]
    return np.array(copies), np.array(normal)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("rectified", [True, False])
def test_noise_with_the_variance_of_any_perturbation_whatever_the_batch(rectified):
    x = np.random.default_rng(0).normal(5, 1, (11, 6))
    copies, normal = drawn_copies(x, KEY, 2)
    eta = ((copies - x) ** 2).mean() ** 0.5 * normal
    noisy = x + (np.maximum(eta, 0) if rectified else eta)
    expected = by_definition(x**2, copies**2, noisy**2)
    for batch_size in (1, None):
        s = measure(lambda x: x**2, x, KEY, perturbation=jitter, noise=EqualVariance(rectified),
                    copies=2, batch_size=batch_size)["output"]  # fmt: skip
        np.testing.assert_allclose(s[:3], expected, rtol=1e-9)


@pytest.mark.usefixtures("float64")
def test_networks_with_images_of_their_own_equal_each_alone():
    x = (
        np.random.default_rng(0).normal(0, 1, (3, 11, 4, 4, 1))
        * np.array([1, 2, 3])[:, None, None, None, None]
    )
    keys = jax.random.split(KEY, 3)
    networks = {"w": jnp.array([0.5, 1.0, 3.0])}
    options = {"noise": EqualVariance(), "perturbation": jitter, "copies": 2}

    def features(network, x):
        return {"f": jnp.tanh(network["w"] * x)}

    together = measure(features, x, keys, networks=networks, paired=True, batch_size=1, **options)
    for s in range(3):
        one = jax.tree.map(lambda w, s=s: w[s : s + 1], networks)
        alone = measure(features, x[s], keys[s], networks=one, **options)
        np.testing.assert_allclose([a[s] for a in together["f"]], np.ravel(alone["f"]), rtol=1e-9)


@dataclasses.dataclass(frozen=True)
class Scaled:
    factor: float

    def __call__(self, key, x):
        return self.factor * x


@dataclasses.dataclass(frozen=True)
class Shifted(Scaled):
    def __call__(self, key, x):
        return x + self.factor


def test_perturbations_with_equal_settings_are_not_confused():
    found = [measure(lambda x: x, drawn(), KEY, perturbation=kind(2.0))["output"].D
             for kind in (Scaled, Shifted)]  # fmt: skip
    x = drawn()
    N = all_pairs(x).mean()
    expected = np.sum(x**2) / len(x) / N, 4 * x[0].size / N
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_images_are_read_batch_by_batch(tmp_path):
    np.save(tmp_path / "images.npy", drawn())
    mapped = np.load(tmp_path / "images.npy", mmap_mode="r")
    expected = measure(wiggly, drawn(), KEY, batch_size=1)
    found = measure(wiggly, mapped, KEY, batch_size=1)
    np.testing.assert_array_equal(found["map"], expected["map"])


def test_a_constant_layer_is_undefined_and_touches_no_other():
    found = measure(
        lambda x: {"constant": 0 * x + 3, "bfloat16": x.astype(jnp.bfloat16)}, drawn(), KEY
    )
    assert np.isnan(found["constant"]).all()
    assert np.isfinite(found["bfloat16"]).all()
    assert found["bfloat16"].D.dtype == jnp.float32


def test_identity_has_equal_D_and_G():
    """For f(x) = x, the noise of the norm of the deformation makes R = 1, image by image."""
    s = measure(lambda x: {"x": x}, drawn(), KEY)["x"]
    np.testing.assert_allclose((s.R, s.D), (1, s.G), rtol=1e-5)
    assert s.R_error < 1e-5


@pytest.mark.parametrize(
    ("images", "options", "message"),
    [
        (np.zeros((4, 8, 9, 3)), {}, r"image has shape \(8, 9, 3\): .* \[size, size, channels\]"),
        (np.zeros((4, 8, 8)), {}, r"image has shape \(8, 8\): .* \[size, size, channels\]"),
        (np.zeros((1, 8, 8, 1)), {}, r"need at least 2 images .* got shape \(1, 8, 8, 1\)"),
        (np.where(np.arange(6) == 4, np.nan, 0.0)[:, None, None, None] * np.ones((8, 8, 1)), {},
         r"images\[4\] has values that are not finite"),
        (np.zeros((4, 8, 8, 1)), {"perturbation": Diffeomorphism(cut=5)},
         "cut=5 must lie between 2 and 4"),
        (np.zeros((4, 8, 8, 1)), {"batch_size": 0}, "batch_size=0 must be at least 1"),
        (np.zeros((4, 8, 8, 1)), {"copies": 0}, "copies=0 must be at least 1"),
        (np.zeros((4, 8, 8, 1)), {"perturbation": Diffeomorphism(0.5, interpolation="cubic")},
         "'cubic' is not known"),
        (np.zeros((4, 8, 8, 1)), {"perturbation": lambda key, x: x[:-1]},
         r"makes an image of shape \(7, 8, 1\) of one of shape \(8, 8, 1\)"),
        (np.zeros((4, 8, 8, 1)), {"paired": True}, r"shape \(4, 8, 8, 1\) for 0 networks"),
        (np.zeros((4, 8, 8, 1)), {"paired": True, "networks": np.zeros(3)},
         r"shape \(4, 8, 8, 1\) for 3 networks"),
        (np.zeros((3, 1, 8, 1)), {"paired": True, "networks": np.zeros(3)},
         r"need at least 2 images .* got shape \(1, 8, 1\)"),
    ],
)  # fmt: skip
def test_bad_input_is_refused(images, options, message):
    with pytest.raises(InputError, match=message):
        measure(wiggly, images, KEY, **options)


def test_representations_must_keep_the_images_apart():
    with pytest.raises(InputError, match=r"'mean' of one image has shape \(12, 12, 3\)"):
        measure(lambda x: {"mean": x.mean(axis=0)}, drawn(), KEY)


@pytest.mark.parametrize("P", [2, 3, 16, 50])
@pytest.mark.parametrize("batch_size", [1, None])
def test_representations_that_mix_the_images_of_a_batch_are_refused(P, batch_size):
    def centred(x):
        return {"alone": x**2, "mixed": x - x.mean(axis=0, keepdims=True)}

    x = np.random.default_rng(0).normal(1, 1, (P, 6))
    with pytest.raises(InputError, match="'mixed' of an image depends on the images beside it"):
        measure(centred, x, KEY, perturbation=jitter, batch_size=batch_size)


def test_copies_fold_where_the_displacement_is_too_large():
    with pytest.warns(UserWarning, match="fold over themselves"):
        measure(lambda x: {"x": x}, drawn(), KEY, perturbation=Diffeomorphism(delta=4))


MEMORY = """
import resource, sys
import jax, jax.numpy as jnp, numpy as np
from relstab_jax.measures.driver import measure

class Images:
    shape = (int(sys.argv[1]), 32, 32, 1)
    def __len__(self):
        return self.shape[0]
    def __getitem__(self, i):
        return np.random.default_rng(i).normal(size=self.shape[1:])

measure(lambda x: {"1 MB": jnp.tile(x, 256)}, Images(), jax.random.key(0), batch_size=8)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3)
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_images():
    few, many = (
        float(
            subprocess.run(
                [sys.executable, "-c", MEMORY, P], check=True, capture_output=True
            ).stdout
        )
        for P in ("40", "400")
    )
    assert many - few < 100, "megabytes; 360 images have 1 GB of representations, copies included"
