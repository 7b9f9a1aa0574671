import io

import jax
import numpy as np
import PIL.Image
import pytest

from relstab_jax.data import stream
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
        return stream.Stream("tiny", "train", None, 8, augment=False)


@pytest.fixture(scope="module")
def photographs():
    return stored()


def trained(photographs, devices, micro_batches, chunk):
    """As in_memory.trained, in chunks of so many steps, of which no epoch is a multiple."""
    options = {"micro_batches": micro_batches, "task": in_memory.PLAIN}
    made, state, data = in_memory.started(devices, **options)
    data = data._replace(source=photographs)
    E, looks = made.steps_per_epoch, []
    for epoch in range(in_memory.EPOCHS):
        for step in range(epoch * E, (epoch + 1) * E, chunk):
            until = min(step + chunk, (epoch + 1) * E)
            if chunk == 1:  # an epoch can be begun anywhere
                made.advance(made.start(data.key), data, 7 * E, 7 * E + 1)
            state = made.advance(state, data, step, until)
        state, metrics = made.look(state, data, epoch + 1)
        looks.append(jax.device_get(metrics))
    return jax.device_get(state), looks


@pytest.mark.parametrize(
    ("devices", "micro_batches", "chunk"),
    [(2, 2, 1), pytest.param(4, 1, 2, marks=pytest.mark.slow)],
)
def test_a_stream_trains_to_the_same_bits_as_data_in_memory(
    photographs, devices, micro_batches, chunk
):
    expected = in_memory.trained(devices, micro_batches=micro_batches, task=in_memory.PLAIN)
    found = trained(photographs, devices, micro_batches, chunk)
    jax.tree.map(np.testing.assert_array_equal, found, expected)
