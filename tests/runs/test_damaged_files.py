"""Damaged files of a run are reported in one sentence, and do not affect other runs."""

import pytest
from ml_collections import ConfigDict

from relstab_jax import results
from relstab_jax.errors import InputError
from relstab_jax.runs import folder, listing, state
from relstab_jax.training.metrics import METRICS

DAMAGED = {
    "empty": b"",
    "cut": b'{"coords": {"seed": {"dims"',
    "binary": b"\x93NUMPY\x01\x00\xff\xfe" * 50,
    "a list": b"[1, 2]",
    "a number": b"3",
    "another": b'{"a": {"b": 1}}',
    "deep": b"[" * 100_000,
}


@pytest.mark.parametrize("name", [results.RESULTS, state.STATE, METRICS])
@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_run_does_not_hide_others(name, content, tmp_path):
    for workdir in ("a", "b", "c"):
        folder.claim(tmp_path / workdir, ConfigDict({"field": 1}))
    (tmp_path / "b" / name).write_bytes(content)
    runs = listing.find(tmp_path)
    assert [run.state for run in runs][::2] == ["unknown", "unknown"]
    if name == METRICS and not content.endswith(b"}"):
        return  # a line that was cut off is ignored
    damaged = runs[1]
    if name == results.RESULTS and content == DAMAGED["another"]:
        return  # a dataset without variables
    if name == METRICS:
        (tmp_path / "b" / name).write_bytes(content + b"\n")
        damaged = listing.inspect(tmp_path / "b")
    assert damaged.state == "damaged"
    assert name in damaged.message
    assert damaged.message in listing.table([*runs, damaged])


@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_file_is_one_sentence(content, tmp_path):
    for name in (folder.CONFIG, results.RESULTS, state.STATE):
        (tmp_path / name).write_bytes(content)
    config = ConfigDict({"field": 1})
    for read in (
        lambda: folder.claim(tmp_path, config),
        lambda: state.read_state(tmp_path),
        lambda: results.load(tmp_path / results.RESULTS),
    ):
        try:
            with pytest.raises(InputError) as raised:
                read()
        except pytest.fail.Exception:
            assert content == DAMAGED["another"]
            continue
        assert len(str(raised.value)) < 300
        assert "\n" not in str(raised.value)
