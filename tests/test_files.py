"""Files are written completely or not at all, and a full disk is reported in one sentence."""

import jax.numpy as jnp
import pytest
from ml_collections import ConfigDict

from relstab_jax.errors import InputError, WriteError, reporting_full_disk
from relstab_jax.files import write_atomically
from relstab_jax.runs import folder
from relstab_jax.training import checkpoints
from relstab_jax.training.metrics import MetricsLog
from tests.full_disk import full_disk


def test_a_file_is_written_completely_or_not_at_all(tmp_path):
    path = tmp_path / "results.json"
    write_atomically(path, "before")
    with pytest.raises(UnicodeEncodeError):
        write_atomically(path, "cut off \ud800")
    assert path.read_text() == "before"


def raises_write_error(name):
    message = rf"cannot write .*{name} \(File too large\): make room, and the same command goes on"
    return pytest.raises(WriteError, match=message)


def test_a_full_disk_is_one_sentence(tmp_path):
    log = MetricsLog(tmp_path, up_to_epoch=0)
    with raises_write_error("metrics.jsonl"), full_disk():
        log.write({"epoch": 10, "loss": [0.5]})
    with raises_write_error(r"events\.out\.tfevents\..*"), full_disk():
        MetricsLog(tmp_path, up_to_epoch=0)
    with raises_write_error("results.json"), full_disk():
        write_atomically(tmp_path / "results.json", "0123456789")
    assert not (tmp_path / "results.json").exists()
    assert not list(tmp_path.glob("*.partial"))
    with (
        pytest.raises(InputError, match=r"cannot write into .* \(File too large\)"),
        full_disk(),
    ):
        folder.claim(tmp_path, ConfigDict({"width": 8}))
    with raises_write_error(""), reporting_full_disk(tmp_path), full_disk():
        (tmp_path / "other").write_text("0123456789")
    with pytest.raises(ZeroDivisionError), reporting_full_disk(tmp_path):
        raise ZeroDivisionError
    full = ValueError(
        "RESOURCE_EXHAUSTED: Failed to write: No space left on device [os_error_code="
    )
    with pytest.raises(WriteError) as raised, reporting_full_disk("x" * 4000):
        raise RuntimeError("closing failed") from full
    assert "(No space left on device)" in str(raised.value)
    assert len(str(raised.value)) < 290


def test_a_checkpoint_without_room_is_not_begun(tmp_path, monkeypatch):
    saving = checkpoints.Checkpoints(tmp_path / "checkpoints")
    monkeypatch.setattr(checkpoints, "_OVERHEAD_BYTES", 2**60)
    with pytest.raises(WriteError, match=r"checkpoints \(No space .*: it takes \d+ MiB\): make"):
        saving.save(1, {"a": jnp.zeros(3)})
    saving.close()
    assert not list((tmp_path / "checkpoints").iterdir())
