"""The metrics log of a training: a line of JSON per look in `metrics.jsonl`."""

import importlib.util
import json
import pathlib
import socket
import struct
import time
from typing import Any

import numpy as np

from relstab_jax.errors import reading
from relstab_jax.files import append, nan_for_none, strict_json, write_atomically

METRICS = "metrics.jsonl"


def read_metrics(workdir: pathlib.Path) -> list[dict[str, Any]]:
    """Returns the lines of `metrics.jsonl`, without a last line that was cut off.

    Raises:
        InputError: if the file holds anything else.
    """
    path = workdir / METRICS
    with reading(path, "the metrics of a run", "delete it"):
        text = path.read_text() if path.exists() else ""
        lines = [json.loads(line) for line in text.splitlines(True) if line.endswith("}\n")]
        if not all("epoch" in line for line in lines):
            raise ValueError("a line without an epoch")
    return [{name: nan_for_none(value) for name, value in line.items()} for line in lines]


class MetricsLog:
    """Appends lines to `metrics.jsonl`.

    If tensorboardX is installed (the extra `tensorboard`), it also appends the means over seeds to
    an event file in the same folder: itself, because the writers of tensorboardX write in a thread,
    which prints the error of a full disk instead of raising it.

    Args:
        workdir: the folder of the run.
        up_to_epoch: epoch from which the training resumes; later lines, which an interrupted
            training left, are dropped.

    Raises:
        WriteError: if the disk is full.
    """

    def __init__(self, workdir: pathlib.Path, up_to_epoch: int):
        self._path = workdir / METRICS
        kept = [line for line in read_metrics(workdir) if line["epoch"] <= up_to_epoch]
        write_atomically(self._path, "".join(strict_json(line) for line in kept))
        self._events = None
        if importlib.util.find_spec("tensorboardX"):
            name = f"events.out.tfevents.{time.time():.0f}.{socket.gethostname()}"
            self._events = workdir / name
            append(self._events, _event(file_version="brain.Event:2"))
            # TensorBoard hides what earlier files have from this step on.
            append(self._events, _event(step=up_to_epoch + 1, session_log={"status": "START"}))

    def write(self, line: dict[str, Any]) -> None:
        """Writes one line.

        Args:
            line: {"epoch": number, name: number or list of a number per seed}.

        Raises:
            WriteError: if the disk is full.
        """
        append(self._path, strict_json(line).encode())
        if self._events:
            means = [
                {"tag": name, "simple_value": float(np.mean(values))}
                for name, values in line.items()
                if name != "epoch"
            ]
            append(self._events, _event(step=line["epoch"], summary={"value": means}))


def _event(**fields: Any) -> bytes:
    """Returns a record of a TensorBoard event file: length and event, each with its checksum."""
    from tensorboardX.proto.event_pb2 import Event  # pyright: ignore[reportAttributeAccessIssue]
    from tensorboardX.record_writer import masked_crc32c

    event = Event(wall_time=time.time(), **fields).SerializeToString()
    length = struct.pack("<Q", len(event))
    return b"".join(part + struct.pack("<I", masked_crc32c(part)) for part in (length, event))
