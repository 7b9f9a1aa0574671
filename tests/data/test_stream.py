import io
import pathlib

import jax
import numpy as np
import PIL.Image
import pytest

from relstab_jax.data import stream
from relstab_jax.errors import InputError

# In ImageNet's form: parts of five photographs in the public domain (from NASA, the US Navy, and
# scikit-image's own), 30 to train on and 15 to validate.
FIXTURE = str(pathlib.Path(__file__).parent / "tfds")
SPLIT = "train+validation[:10]"


def photographs(augment=True, size=32):
    return stream.Stream("imagenet2012", SPLIT, FIXTURE, size, augment)


def test_central_squares_of_the_photographs():
    found = photographs(size=64)
    assert len(found) == 40
    numbers = np.array([3, 39, 3])
    images = found[numbers]
    assert (images.shape, images.dtype) == ((3, 64, 64, 3), np.uint8)
    np.testing.assert_array_equal(images[0], images[2])
    assert images.std(axis=(1, 2, 3)).min() > 20  # photographs, not a constant
    labels = [label for _, label in found.batches(np.arange(40)[:, None])]
    assert np.bincount(np.concatenate(labels[:30])).tolist() == [6] * 5
    assert set(np.concatenate(labels[30:]).tolist()) <= set(range(5))


def test_a_photograph_looks_the_same_in_any_batch_and_at_any_time():
    numbers = np.arange(24)
    keys = jax.random.split(jax.random.key(0), 2)[:, None]

    def seen(numbers, keys):
        return np.concatenate([images for images, _ in photographs().batches(numbers, keys)])

    both = seen(np.stack([numbers, numbers]).reshape(2, 4, 6).swapaxes(0, 1), keys)
    alone = seen(numbers.reshape(12, 2), keys[0])
    np.testing.assert_array_equal(
        both.reshape(4, 2, 6, -1)[:, 0].reshape(24, -1), alone.reshape(24, -1)
    )
    assert (both[:, 0] != both[:, 1]).any()
    np.testing.assert_array_equal(seen(numbers.reshape(12, 2)[5:], keys[0]), alone[10:])


def test_without_augmentation_keys_change_nothing():
    key = jax.random.key(0)
    plain = photographs(augment=False)
    ((images, _),) = plain.batches(np.arange(5)[None], key)
    np.testing.assert_array_equal(images, plain[np.arange(5)])


def test_crops_have_the_areas_and_aspects_of_torchvision():
    """Read off photographs whose pixels are their own coordinates."""
    x, y = np.meshgrid(np.arange(250), np.arange(200))
    photograph = PIL.Image.fromarray(np.stack([x, y, 0 * x], -1).astype(np.uint8))
    random = np.random.default_rng(0)
    crops = np.stack(
        [stream.random_resized_crop(random, photograph, 50) for _ in range(2000)]
    ).astype(float)
    step = (
        (crops[:, :, -1] - crops[:, :, 0])[..., 0].mean(1),
        (crops[:, -1] - crops[:, 0])[..., 1].mean(1),
    )
    width, height = np.abs(step[0]) * 50 / 49, step[1] * 50 / 49
    area, aspect = width * height / (250 * 200), width / height
    assert 0.07 < area.min() < 0.1
    assert 0.9 < area.max() < 1.01
    assert 0.7 < aspect.min() < 0.8
    assert 1.25 < aspect.max() < 1.4
    # Uniform, but for the large and narrow ones that do not fit: the mean of U(0.08, 1) is 0.54.
    assert 0.4 < area.mean() < 0.54
    assert abs((step[0] < 0).mean() - 0.5) < 4 * 0.5 / 2000**0.5
    left, top = crops[..., 0].min((1, 2)), crops[..., 1].min((1, 2))
    assert left.min() < 3
    assert top.min() < 3
    assert (left + width < 256).all()
    assert (top + height < 206).all()


def test_a_narrow_photograph_is_cut_in_its_middle():
    x = np.tile(np.arange(250, dtype=np.uint8)[:, None, None], (1, 10, 3))
    random = np.random.default_rng(0)
    crops = [stream.random_resized_crop(random, PIL.Image.fromarray(x), 8) for _ in range(50)]
    spans = {(int(c.min()), int(c.max())) for c in crops}
    assert max(high - low for low, high in spans) <= 14  # 10 pixels wide, at most 4/3 as high


def with_damage(monkeypatch, damaged):
    image = io.BytesIO()
    PIL.Image.fromarray(np.full((40, 40, 3), 200, np.uint8)).save(image, "JPEG")
    whole = image.getvalue()
    examples = [
        {"image": whole[: len(whole) // 2] if n in damaged else whole, "label": n} for n in range(6)
    ]
    if 2 in damaged:
        examples[2]["image"] = b"no image"
    monkeypatch.setattr(stream, "prepared", lambda *_, **__: examples)
    return stream.Stream("tiny", "train", None, 8, augment=False)


def test_damaged_photographs_are_skipped_counted_and_reported(monkeypatch, caplog):
    found = with_damage(monkeypatch, {2, 3, 5})
    for _ in range(2):  # counted once
        ((_, labels),) = found.batches(np.arange(6)[None])
        assert labels.tolist() == [0, 1, 4, 4, 4, 0]
    assert found.damaged == 3
    assert len(caplog.messages) == 3
    assert any(m.startswith("photograph 2 of tiny cannot be decoded") for m in caplog.messages)
    assert caplog.messages[-1].endswith("3 so far")


def test_nothing_to_decode_is_an_error(monkeypatch):
    with pytest.raises(InputError, match="no photograph of tiny can be decoded"):
        list(with_damage(monkeypatch, set(range(6))).batches(np.arange(6)[None]))
