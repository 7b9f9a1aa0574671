import io

import jax
import numpy as np
import PIL.Image
import pytest

from relstab_jax.data import stream
from relstab_jax.training import streamed
from relstab_jax.training.data_parallel import Sizes
from tests.training import test_data_parallel as in_memory


def stored():
    """The images of the training in memory as files, in which nothing is lost."""

    def encoded(pixels):
        file = io.BytesIO()
        PIL.Image.fromarray(pixels).save(file, "PNG")
        return file.getvalue()

    examples = [
        {"image": encoded(x), "label": int(y)}
        for x, y in zip(in_memory.INPUTS, in_memory.LABELS, strict=True)
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stream, "prepared", lambda *_, **__: examples)
        return stream.Stream("tiny", ["train"], None, 8, augment=False)


@pytest.fixture(scope="module")
def photographs():
    return stored()


def trained(photographs, devices, micro_batches, chunk):
    """As in_memory.trained, in chunks of so many steps, of which no epoch is a multiple."""
    _, _, data = in_memory.started(devices)
    devices = jax.devices()[:devices]
    made = streamed.compile_training(
        in_memory.MODEL,
        in_memory.optimizer(),
        in_memory.PLAIN,
        Sizes(in_memory.P, in_memory.B, 8, micro_batches, seeds_at_once=8),
        devices,
    )
    data = jax.tree.map(lambda a: a[0], data)._replace(inputs=photographs, labels=None)
    data = data._replace(train=np.asarray(data.train), validation=np.asarray(data.validation))
    seeds, looks = made.start(data.key), []
    for epoch in range(3):
        for first in range(0, made.steps_per_epoch, chunk):
            until = min(first + chunk, made.steps_per_epoch)
            if chunk == 1:  # an epoch can be begun anywhere
                made.advance(made.start(data.key), data, 7, 0, 1)
            seeds = made.advance(seeds, data, epoch, first, until)
        seeds, look = made.look(seeds, data, epoch + 1)
        looks.append(jax.tree.map(lambda a: np.asarray(a[0]), look))
    return jax.tree.map(lambda a: np.asarray(a[0]), seeds), looks


@pytest.mark.parametrize(
    ("devices", "micro_batches", "chunk"),
    [(2, 2, 1), pytest.param(4, 1, 2, marks=pytest.mark.slow)],
)
def test_a_stream_trains_as_data_in_memory(photographs, devices, micro_batches, chunk):
    expected = in_memory.trained(min(devices, 2), micro_batches=micro_batches, task=in_memory.PLAIN)
    found = trained(photographs, devices, micro_batches, chunk)
    in_memory.assert_close(found, expected)
