import pathlib

import numpy as np
import PIL.Image
import pytest

from relstab_jax.data import images, photographs
from relstab_jax.errors import InputError

FIXTURE = pathlib.Path(__file__).parent / "tfds"
NORMAL = {"mean": (0.5, 0.25, 0.0), "std": (0.5, 0.5, 0.1)}


def find(source, number, size=32, **options):
    return photographs.find(
        str(source), number, **{"size": size, "channels": 3, **NORMAL} | options
    )


@pytest.fixture(scope="module")
def pixels():
    x, _ = images.load("cifar10", "test", str(FIXTURE))
    return x


def test_of_a_tfds_set_evenly_spaced(pixels):
    found = find("cifar10", 3, data_dir=str(FIXTURE))
    assert (len(found), found.shape) == (3, (3, 32, 32, 3))
    expected = (pixels[[0, 24, 49]] / 255 - np.array(NORMAL["mean"])) / np.array(NORMAL["std"])
    np.testing.assert_allclose([found[n] for n in range(3)], expected, atol=1e-5)


def test_of_a_folder_in_the_order_of_names(pixels, tmp_path):
    (tmp_path / "deeper").mkdir()
    for n, name in enumerate(("b.png", "deeper/c.png", "a.png")):
        PIL.Image.fromarray(pixels[n]).save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("not an image")
    found = find(tmp_path, 3, mean=(0, 0, 0), std=(1, 1, 1))
    for n, expected in enumerate((2, 0, 1)):
        np.testing.assert_allclose(found[n], pixels[expected] / 255, atol=1e-6)


@pytest.mark.parametrize("highest", [255, 65535, 1.0])
def test_colours_of_any_type_become_the_channels_of_the_network(highest, pixels, tmp_path):
    given = {255: pixels, 65535: pixels * np.uint16(257), 1.0: pixels / 255}[highest]
    opacity = np.zeros_like(given[..., :1])
    luminance = pixels / 255 @ np.array([0.299, 0.587, 0.114])
    for x in (given, np.concatenate([given, opacity], axis=-1)):
        np.save(tmp_path / "x.npy", x)
        colours = find(tmp_path / "x.npy", 50, mean=(0, 0, 0), std=(1, 1, 1))
        np.testing.assert_allclose(colours[7], pixels[7] / 255, atol=1e-6)
        grey = find(tmp_path / "x.npy", 50, channels=1, mean=(0,), std=(1,))
        assert grey.shape == (50, 32, 32, 1)
        np.testing.assert_allclose(grey[3][..., 0], luminance[3], atol=1 / 255)


@pytest.mark.parametrize(("width", "height"), [(320, 200), (200, 320), (20, 50)])
def test_photographs_are_cut_to_the_centre(width, height):
    """A ramp along each axis: 7/8 of the shorter side around the middle is left."""
    red, green = np.meshgrid(np.linspace(0, 1, width), np.linspace(0, 1, height))
    ramps = np.stack([red, green, 0 * red], axis=-1)
    image = PIL.Image.fromarray((255 * ramps).round().astype(np.uint8))
    shown = photographs.central_square(image, 64) / 255
    assert shown.shape == (64, 64, 3)
    part = 0.875 * min(width, height) / np.array([width, height])
    for channel, axis in ((0, 1), (1, 0)):
        profile = shown[..., channel].mean(axis=1 - axis)
        low, high = 0.5 + part[channel] * np.array([-0.5, 0.5])
        np.testing.assert_allclose(profile[[2, -3]], (low, high), atol=0.06)
        assert abs(profile[31:33].mean() - 0.5) < 0.01


def test_numbers_of_another_size_are_refused(tmp_path):
    np.savez(tmp_path / "x.npz", np.full((4, 28, 28, 1), -1.0))
    with pytest.raises(InputError, match=r"\(28, 28, 1\), but the network takes \(32, 32, 3\)"):
        find(tmp_path / "x.npz", 4)[0]
