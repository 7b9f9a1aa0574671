import json
import pathlib
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from relstab_jax.data import images
from relstab_jax.errors import InputError

FIXTURE = pathlib.Path(__file__).parent / "tfds"  # the first five images of each class of CIFAR-10
VERSION = "cifar10/3.0.2"


@pytest.fixture
def copy(tmp_path):
    shutil.copytree(FIXTURE, tmp_path, dirs_exist_ok=True)
    return tmp_path


def test_cifar10_is_read():
    x, labels = images.load("cifar10", "train", str(FIXTURE))
    assert (x.shape, x.dtype) == ((50, 32, 32, 3), np.uint8)
    assert np.bincount(labels).tolist() == [5] * 10
    # Photographs, with the right channels in the right places: near CIFAR-10's own statistics.
    np.testing.assert_allclose(x.mean((0, 1, 2)) / 255, images.CIFAR10_MEAN, atol=0.05)
    first = images.prepared("cifar10", "test[:3]", str(FIXTURE))
    assert len(first) == 3
    test, _ = images.load("cifar10", "test", str(FIXTURE))
    np.testing.assert_array_equal(images.decoded(first[2]), test[2])


def test_normalised_pixels():
    x = np.array([[[[0, 255, 51]]]], np.uint8)
    found = images.normalise(x, (0.5, 0.25, 0.2), (0.25, 0.5, 1.0))
    np.testing.assert_allclose(found, [[[[-2.0, 1.5, 0.0]]]], atol=1e-7)
    assert found.dtype == np.float32


def test_crops_are_windows_of_the_framed_image():
    image = np.arange(1, 51, dtype=np.uint8).reshape(5, 5, 2)
    framed = np.pad(image, ((2, 2), (2, 2), (0, 0)))
    windows = {framed[i : i + 5, j : j + 5].tobytes(): (i, j) for i in range(5) for j in range(5)}
    keys = jax.random.split(jax.random.key(0), 400)
    found = jax.vmap(lambda key: images.padded_crop(key, jnp.asarray(image), 2))(keys)
    assert {windows[crop.tobytes()] for crop in np.asarray(found)} == set(windows.values())


def test_half_of_the_images_are_flipped():
    image = np.arange(18, dtype=np.uint8).reshape(3, 3, 2)
    keys = jax.random.split(jax.random.key(0), 400)
    found = np.asarray(jax.vmap(lambda key: images.random_flip(key, jnp.asarray(image)))(keys))
    flipped = (found == image[:, ::-1]).all((1, 2, 3))
    assert (flipped | (found == image).all((1, 2, 3))).all()
    assert abs(flipped.mean() - 0.5) < 4 * 0.5 / 400**0.5


def test_noise_has_norm_eta():
    image = np.random.default_rng(0).standard_normal((32, 32, 3)).astype(np.float32)
    found = images.with_noise(jax.random.key(0), jnp.asarray(image), 10.0) - image
    np.testing.assert_allclose(np.linalg.norm(found), 10, rtol=0.05)
    np.testing.assert_allclose(found.mean(), 0, atol=4 * 10 / 3072)


def missing(folder):
    shutil.rmtree(folder / "cifar10")


def unfinished(folder):
    (folder / VERSION).rename(folder / "cifar10" / "incomplete.XY_3.0.2")


def without_a_file(folder):
    (folder / VERSION / "cifar10-train.array_record-00000-of-00001").unlink()


def cut_short(folder):
    path = folder / VERSION / "cifar10-train.array_record-00000-of-00001"
    path.write_bytes(path.read_bytes()[:100_000])


def tfrecord(folder):
    path = folder / VERSION / "dataset_info.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"fileFormat": "tfrecord"}))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (missing, "holds no prepared cifar10: prepare it with `tfds build cifar10 "),
        (unfinished, "holds no prepared cifar10: prepare it with `tfds build cifar10 "),
        (without_a_file, "is half prepared or damaged .*: prepare it again with `tfds build"),
        (cut_short, "is half prepared or damaged .*: prepare it again with `tfds build"),
        (tfrecord, "is in a format without random access: prepare it again"),
    ],
)
def test_unreadable_data_is_one_sentence(copy, damage, message):
    damage(copy)
    with pytest.raises(InputError, match=message) as error:
        images.load("cifar10", "train", str(copy))
    assert f"--file_format=array_record --data_dir={copy}" in str(error.value)


def test_an_unknown_split_is_one_sentence():
    with pytest.raises(InputError, match="split='dev' of cifar10 is not known"):
        images.load("cifar10", "dev", str(FIXTURE))
