"""Files of images as people have them: each has the right pixels, or one sentence."""

import os
import pathlib
import re
import zipfile
import zlib

import numpy as np
import PIL.Image
import PIL.PngImagePlugin
import pytest

from relstab_jax.data import photographs
from relstab_jax.errors import InputError

SIZE = 8
RAMP = np.linspace(0, 1, SIZE * SIZE).reshape(SIZE, SIZE)  # between 0 and 1
BYTES = (RAMP * 255).round().astype(np.uint8)
COLOURS = np.stack([BYTES, BYTES.T, 255 - BYTES], axis=-1)


def find(source, number=2, channels=1, **options):
    found = photographs.find(
        str(source),
        number,
        **{"size": SIZE, "channels": channels, "mean": (0,) * channels, "std": (1,) * channels},
        **options,
    )
    found.check()
    return found


def save_two(folder, name, image, **options):
    """A folder with a plain image and another one: there have to be two."""
    PIL.Image.fromarray(BYTES).save(folder / "a.png")
    image.save(folder / name, **options)
    return find(folder)[1][..., 0]


def refused(source, message, **options):
    with pytest.raises(InputError, match=message) as error:
        find(source, **options)
    assert len(str(error.value)) < 300
    assert "\n" not in str(error.value)


# Ranges of pixels.


@pytest.mark.parametrize("name", ["b.png", "b.tif", "b.pgm"])
def test_16_bits_are_scaled_by_their_range(name, tmp_path):
    pixels = (RAMP * 65535).round().astype(np.uint16)
    shown = save_two(tmp_path, name, PIL.Image.fromarray(pixels))
    np.testing.assert_allclose(shown, RAMP, atol=1 / 65535)


def test_16_bits_are_cut_to_size_as_8_bits_are(tmp_path):
    large = np.kron(RAMP, np.ones((4, 4)))
    for name, image in (
        ("8.png", (large * 255).round().astype(np.uint8)),
        ("16.png", (large * 65535).round().astype(np.uint16)),
        ("32.tif", large.astype(np.float32)),
    ):
        PIL.Image.fromarray(image).save(tmp_path / name)
    of_16, of_32, of_8 = (find(tmp_path, 3)[n] for n in range(3))
    np.testing.assert_allclose(of_16, of_32, atol=1 / 65535)
    np.testing.assert_allclose(of_16, of_8, atol=1.5 / 255)


def test_float_pixels_are_between_0_and_1(tmp_path):
    shown = save_two(tmp_path, "b.tif", PIL.Image.fromarray(RAMP.astype(np.float32)))
    np.testing.assert_allclose(shown, RAMP, atol=1e-6)


@pytest.mark.parametrize("bad", [255 * RAMP, -RAMP, RAMP + np.nan])
def test_other_float_pixels_are_refused(bad, tmp_path):
    PIL.Image.fromarray(BYTES).save(tmp_path / "a.png")
    PIL.Image.fromarray(bad.astype(np.float32)).save(tmp_path / "b.tif")
    refused(tmp_path, r"b\.tif cannot be read as an image \(float32 pixels from")


def test_pixels_of_32_bits_have_no_range(tmp_path):
    PIL.Image.fromarray(BYTES).save(tmp_path / "a.png")
    PIL.Image.fromarray(BYTES.astype(np.int32)).save(tmp_path / "b.tif")
    refused(tmp_path, r"b\.tif cannot be read as an image \(int32 pixels from 0 to 255")


@pytest.mark.parametrize(("mode", "atol"), [("1", 0.51), ("P", 0.01), ("CMYK", 0.01), ("LA", 0.01)])
def test_pixels_of_other_modes(mode, atol, tmp_path):
    image = PIL.Image.fromarray(BYTES).convert(mode, dither=PIL.Image.Dither.NONE)
    shown = save_two(tmp_path, "b.tif" if mode == "CMYK" else "b.png", image)
    np.testing.assert_allclose(shown, RAMP, atol=atol)


@pytest.mark.parametrize(
    ("array", "expected", "normalised"),
    [
        (BYTES, RAMP, False),
        ((RAMP * 65535).round().astype(np.uint16), RAMP, False),
        ((RAMP * 65535).round().astype(">u2"), RAMP, False),
        (RAMP > 0.5, RAMP > 0.5, False),
        (RAMP, RAMP, False),
        (RAMP.astype(np.float16), RAMP, False),
        (4 * RAMP - 2, 4 * RAMP - 2, True),
    ],
)
def test_arrays_are_scaled_by_their_range(array, expected, normalised, tmp_path):
    for axes in (..., (..., None)):  # of greys, [P, H, W] does too
        np.save(tmp_path / "x.npy", np.stack([array, array])[axes])
        found = photographs.find(
            str(tmp_path / "x.npy"), 2, size=SIZE, channels=1, mean=(0.5,), std=(0.25,)
        )
        shown = found[1][..., 0] if normalised else found[1][..., 0] * 0.25 + 0.5
        np.testing.assert_allclose(shown, expected, atol=0.003)
        assert ("normalised already" in found.note) == normalised


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (RAMP * 255, "holds floats from 0 to 255, which are neither pixels"),
        (np.where(RAMP < 0.9, RAMP, np.nan), "image 0 has values that are not finite"),
        (BYTES.astype(np.int64), "convert them to uint8, uint16, bool or float"),
        (RAMP + 1j, "convert them to uint8, uint16, bool or float"),
        (RAMP.astype(str), "convert them to uint8, uint16, bool or float"),
        (np.array([[None]]), "cannot be read as an .npz or .npy file"),
    ],
)
def test_arrays_of_unknown_range_are_refused(array, message, tmp_path):
    np.savez(tmp_path / "x.npz", images=np.stack([array, array]))
    refused(tmp_path / "x.npz", message)


# Files that vanish.


def test_links_to_folders_are_followed_and_loops_end(tmp_path):
    elsewhere, folder = tmp_path / "elsewhere", tmp_path / "images"
    elsewhere.mkdir()
    (folder / "cats").mkdir(parents=True)
    PIL.Image.fromarray(BYTES).save(folder / "cats" / "a.png")
    PIL.Image.fromarray(255 - BYTES).save(elsewhere / "b.png")
    (folder / "dogs").symlink_to(elsewhere)
    (elsewhere / "back").symlink_to(folder)
    (folder / "cats" / "same").symlink_to(folder / "cats")
    found = find(folder)
    np.testing.assert_allclose(found[1], 1 - found[0], atol=1e-6)
    refused(folder, "at most the 2 of", number=3)


def test_a_link_to_nothing_is_named(tmp_path):
    PIL.Image.fromarray(BYTES).save(tmp_path / "a.png")
    (tmp_path / "b.png").symlink_to(tmp_path / "gone.png")
    refused(tmp_path, r"b\.png: there is no such file")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_an_unreadable_folder_is_named(tmp_path):
    PIL.Image.fromarray(BYTES).save(tmp_path / "a.png")
    PIL.Image.fromarray(BYTES).save(tmp_path / "b.png")
    (tmp_path / "secret").mkdir(mode=0o000)
    refused(tmp_path, r"secret may not be read: change its permissions")


def test_a_folder_that_cannot_be_listed_is_named(tmp_path):
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    refused(tmp_path, "cannot be read as a folder of images")


def test_what_systems_leave_behind_is_skipped_and_other_files_are_counted(tmp_path):
    for folder in ("__MACOSX", ".ipynb_checkpoints"):
        (tmp_path / folder).mkdir()
        PIL.Image.fromarray(BYTES).save(tmp_path / folder / "x.png")
    for name in ("._a.png", ".DS_Store", "Thumbs.db", "labels.csv", "c.heic"):
        (tmp_path / name).write_bytes(b"\0")
    for name in ("a.PNG", "b.jpeg"):
        PIL.Image.fromarray(BYTES).save(tmp_path / name)
    found = find(tmp_path)
    assert "2 of the 2 images" in found.note
    assert re.search(r"; skipped 2 other files \(\.(heic, \.csv|csv, \.heic)\)$", found.note)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_images_are_upright(orientation, tmp_path):
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    stored = {
        1: BYTES, 2: BYTES[:, ::-1], 3: BYTES[::-1, ::-1], 4: BYTES[::-1],
        5: BYTES.T, 6: np.rot90(BYTES), 7: BYTES[::-1, ::-1].T, 8: np.rot90(BYTES, -1),
    }[orientation]  # fmt: skip
    image = PIL.Image.fromarray(np.ascontiguousarray(stored))
    shown = save_two(tmp_path, "b.jpg", image, exif=exif, quality=100)
    np.testing.assert_allclose(shown, RAMP, atol=0.02)


def test_several_images_in_one_file_are_refused(tmp_path):
    image = PIL.Image.fromarray(BYTES)
    image.save(tmp_path / "a.png")
    image.save(tmp_path / "b.tif", save_all=True, append_images=[image, image])
    refused(tmp_path, r"b\.tif cannot be read as an image \(it holds 3 images\)")


# Broken and foreign files.


def png_of(width, height):
    """The beginning of a PNG that claims a size, and has no pixel of it."""

    def chunk(kind, data):
        body = kind + data
        return len(data).to_bytes(4, "big") + body + zlib.crc32(body).to_bytes(4, "big")

    size = width.to_bytes(4, "big") + height.to_bytes(4, "big")
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size + b"\x08\0\0\0\0") + chunk(b"IDAT", b"")


def truncated_jpeg(path):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    PIL.Image.fromarray(noise).save(path, "jpeg")
    path.write_bytes(path.read_bytes()[:2000])


def text_chunk(path):
    text = PIL.PngImagePlugin.PngInfo()
    text.add_text("comment", "x" * 70_000_000, zip=True)
    PIL.Image.fromarray(BYTES).save(path, "png", pnginfo=text)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda path: path.write_bytes(b""), "cannot identify image file"),
        (
            lambda path: path.write_text("no image"),
            r"b\.png cannot be read as an image \(cannot identify image file",
        ),
        (
            lambda path: path.write_bytes(png_of(30_000, 30_000)),
            "exceeds limit of 178956970 pixels",
        ),
        (truncated_jpeg, "truncated"),
        (text_chunk, "too large"),
        (lambda path: path.mkdir(), "P=2 images must be at least 2 and at most the 1"),
    ],
)
def test_a_broken_image_is_one_sentence_before_any_work(spoil, message, tmp_path):
    PIL.Image.fromarray(BYTES).save(tmp_path / "a.png")
    spoil(tmp_path / "b.png")
    refused(tmp_path, message)


def test_an_npz_that_is_cut_or_empty(tmp_path):
    np.savez(tmp_path / "x.npz", images=np.stack([COLOURS] * 2))
    whole = (tmp_path / "x.npz").read_bytes()
    for part in (whole[:-100], whole[: len(whole) // 2], b"", b"PK\x05\x06" + bytes(18)):
        (tmp_path / "x.npz").write_bytes(part)
        refused(tmp_path / "x.npz", "cannot be read as an .npz or .npy file|holds no array")
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr("a.png", b"an image")
    refused(tmp_path / "x.npz", r"cannot be read as an \.npz or \.npy file \(a\.png is no array\)")
    damaged = bytearray(whole)
    damaged[len(whole) // 2] ^= 0xFF
    (tmp_path / "x.npz").write_bytes(damaged)
    refused(tmp_path / "x.npz", "cannot be read as an .npz or .npy file")


def test_arrays_are_found_by_their_names(tmp_path):
    two, black = np.stack([COLOURS] * 2), np.zeros((3, SIZE, SIZE, 3), np.uint8)
    labels = np.arange(2)
    for arrays in (
        {"images": two, "labels": labels},
        {"train_images": black, "test_images": two, "test_labels": labels},  # MedMNIST
        {"x_train": black, "x_test": two, "y_test": labels},  # Keras
        {"arr_0": two},
        {"images": two.transpose(0, 3, 1, 2)},  # PyTorch
    ):
        np.savez(tmp_path / "x.npz", **arrays)
        np.testing.assert_allclose(find(tmp_path / "x.npz", channels=3)[0], COLOURS / 255)
    np.savez(tmp_path / "x.npz", data=two, labels=labels)
    refused(
        tmp_path / "x.npz", "holds data, labels, and none named images or test_images or x_test"
    )
    np.savez(tmp_path / "x.npz", train_images=two, test_images=black)
    np.testing.assert_allclose(
        find(tmp_path / "x.npz", channels=3, split="train")[0], COLOURS / 255
    )


def test_an_npy_file_does_as_well(tmp_path):
    """CIFAR-10-C comes so."""
    np.save(tmp_path / "fog.npy", np.stack([COLOURS] * 2))
    np.testing.assert_allclose(find(tmp_path / "fog.npy", channels=3)[1], COLOURS / 255)
    (tmp_path / "fog.npy").rename(tmp_path / "fog.npz")
    np.testing.assert_allclose(find(tmp_path / "fog.npz", channels=3)[1], COLOURS / 255)


@pytest.mark.parametrize(
    "shape", [(2, 64), (8, 8, 3), (2, 8, 8, 2), (2, 2, 8, 8, 3), (2, 0, 8), ()]
)
def test_arrays_of_other_shapes_are_refused(shape, tmp_path):
    np.save(tmp_path / "x.npy", np.zeros(shape, np.uint8))
    refused(tmp_path / "x.npy", r"give an array \[P, H, W\], or \[P, H, W, C\]")


# What is not there.


def test_a_source_that_is_not_there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    PIL.Image.fromarray(BYTES).save("one.png")
    data = {"data_dir": str(tmp_path)}
    refused("photographs/", "images='photographs/': there is no such folder", **data)
    refused("one.png", "is a single file: give its folder", **data)
    refused("nowhere/at/all", "there is no such folder", **data)
    pathlib.Path("empty").mkdir()
    refused("empty", r"empty holds no image file \(\.png, ", **data)
    refused("", "there is no such folder", **data)
    refused("two.npz", "there is no such file", **data)
    refused(
        "photographs",
        "images='photographs' is not a folder, and data_dir holds no prepared",
        **data,
    )
    assert not list(pathlib.Path().glob("photographs*"))
