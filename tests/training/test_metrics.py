import json

import numpy as np
import pytest

from relstab_jax.training.metrics import METRICS, MetricsLog, read_metrics


def test_the_log_resumes_after_the_epoch_of_the_checkpoint(tmp_path):
    log = MetricsLog(tmp_path, up_to_epoch=0)
    for epoch in (10, 20, 30):
        log.write({"epoch": epoch, "loss": [0.5]})
    with (tmp_path / METRICS).open("a") as file:
        file.write('{"epoch": 40, "lo')  # cut off by a kill
    MetricsLog(tmp_path, up_to_epoch=20).write({"epoch": 30, "loss": [0.25]})
    lines = [json.loads(line) for line in (tmp_path / METRICS).read_text().splitlines()]
    assert [(line["epoch"], line["loss"]) for line in lines] == [
        (10, [0.5]),
        (20, [0.5]),
        (30, [0.25]),
    ]


def test_metrics_are_strict_json(tmp_path):
    MetricsLog(tmp_path, up_to_epoch=0).write({"epoch": 1, "train_loss": [np.nan, 0.5]})
    assert (tmp_path / METRICS).read_text() == '{"epoch": 1, "train_loss": [null, 0.5]}\n'
    assert np.isnan(read_metrics(tmp_path)[0]["train_loss"][0])


def test_tensorboard_shows_the_metrics(tmp_path):
    """Reads its event files: records of a length, a checksum, an event and a checksum."""
    event_pb2 = pytest.importorskip("tensorboardX.proto.event_pb2", reason="needs `tensorboard`")
    MetricsLog(tmp_path, up_to_epoch=0).write({"epoch": 3, "loss": [0.5, 0.25]})
    (file,) = tmp_path.glob("events.out.tfevents.*")
    left, found = file.read_bytes(), {}
    while left:
        length = int.from_bytes(left[:8], "little")
        event = event_pb2.Event.FromString(left[12 : 12 + length])
        found |= {value.tag: (event.step, value.simple_value) for value in event.summary.value}
        left = left[16 + length :]
    assert found == {"loss": (3, 0.375)}
