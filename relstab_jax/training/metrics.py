"""The metrics log of a training: a line of JSON per look in `metrics.jsonl`."""

import importlib.util
import json
import pathlib
from typing import Any, TextIO

import numpy as np

from relstab_jax.errors import reading, writing
from relstab_jax.files import nan_for_none, strict_json, write_atomically

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

    If tensorboardX is installed (the extra `tensorboard`), it also writes the means over seeds
    into event files in the same folder.

    Args:
        workdir: the folder of the run.
        up_to_epoch: epoch from which the training resumes; later lines, which an interrupted
            training left, are dropped.
    """

    def __init__(self, workdir: pathlib.Path, up_to_epoch: int):
        self._path, self._up_to_epoch = workdir / METRICS, up_to_epoch
        kept = [line for line in read_metrics(workdir) if line["epoch"] <= up_to_epoch]
        write_atomically(self._path, "".join(strict_json(line) for line in kept))

    def __enter__(self) -> "MetricsLog":
        self._file: TextIO = self._path.open("a")
        self._board = None
        if importlib.util.find_spec("tensorboardX"):
            from tensorboardX import SummaryWriter

            folder = str(self._path.parent)
            self._board = SummaryWriter(folder, purge_step=self._up_to_epoch + 1)
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        if self._board:
            self._board.close()

    def write(self, line: dict[str, Any]) -> None:
        """Writes and flushes one line.

        Args:
            line: {"epoch": number, name: number or list of a number per seed}.

        Raises:
            WriteError: if the disk is full.
        """
        with writing(self._path):
            self._file.write(strict_json(line))
            self._file.flush()
        if self._board:
            for name in line.keys() - {"epoch"}:
                self._board.add_scalar(name, float(np.mean(line[name])), line["epoch"])
            self._board.flush()
