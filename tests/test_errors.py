"""Whatever goes wrong while a user's file is read is one sentence; damaged runs break no others."""

import json

import pytest
from ml_collections import ConfigDict

from relstab_jax import grid, results, runs
from relstab_jax.errors import InputError, reading, some

DAMAGED = {
    "empty": b"",
    "cut": b'{"coords": {"seed": {"dims"',
    "binary": b"\x93NUMPY\x01\x00\xff\xfe" * 50,
    "a list": b"[1, 2]",
    "a number": b"3",
    "another": b'{"a": {"b": 1}}',
    "deep": b"[" * 100_000,
}


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (FileNotFoundError(2, "No such file"), "x.png: there is no such file; give another"),
        (PermissionError(13, "denied"), "x.png may not be read: change its permissions, or give"),
        (ZeroDivisionError(), r"x.png cannot be read as an image \(ZeroDivisionError\): give"),
        (OSError(5, "Input/output error"), r"as an image \(Input/output error\): give another"),
        (ValueError("first line.\nsecond line"), r"as an image \(first line\): give another"),
        (MemoryError("x" * 9000), r"as an image \(x+…\): give another"),
        (InputError("said already"), "^said already$"),
    ],
)
def test_any_error_of_reading_is_one_sentence(error, message):
    with (
        pytest.raises(InputError, match=message) as raised,
        reading("x.png", "an image", "give another"),
    ):
        raise error
    assert len(str(raised.value)) < 300
    assert "\n" not in str(raised.value)


def test_long_paths_and_lists_are_shortened():
    with (
        pytest.raises(InputError, match=r"^…x+/x\.png") as raised,
        reading("x" * 4000 + "/x.png", "a", "b"),
    ):
        raise ValueError("y" * 4000)
    assert len(str(raised.value)) < 300
    assert some("abc") == "a, b, c"
    assert some("abcdefg", "; ", at_most=2) == "a; b; and 5 more"
    assert some([]) == ""


@pytest.mark.parametrize("name", [results.RESULTS, results.STATE, results.METRICS])
@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_run_breaks_no_other(name, content, tmp_path):
    for folder in ("a", "b", "c"):
        results.claim(tmp_path / folder, ConfigDict({"field": 1}))
    (tmp_path / "b" / name).write_bytes(content)
    found = runs.found(tmp_path)
    assert [run.state for run in found][::2] == ["unknown", "unknown"]
    if name == results.METRICS and not content.endswith(b"}"):
        return  # lines that were not written to their end are left out
    damaged = found[1]
    if name == results.RESULTS and content == DAMAGED["another"]:
        return  # a dataset without variables
    if name == results.METRICS:
        (tmp_path / "b" / name).write_bytes(content + b"\n")
        damaged = runs.look(tmp_path / "b")
    assert damaged.state == "damaged"
    assert name in damaged.message
    assert damaged.message in runs.table([*found, damaged])


@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED)
def test_damaged_files_are_one_sentence_each(content, tmp_path):
    for name in (results.CONFIG, results.RESULTS, results.STATE):
        (tmp_path / name).write_bytes(content)
    config = ConfigDict({"field": 1})
    for read in (
        lambda: results.claim(tmp_path, config),
        lambda: runs.read_state(tmp_path),
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


def test_a_grid_of_any_editor_and_what_is_no_grid(tmp_path):
    path = tmp_path / "grid.txt"
    path.write_bytes(b"\xef\xbb\xbf--config=configs/task2.py:smoke\r\n")
    [run] = grid.read(path, tmp_path)
    assert run.arguments == ["--config=configs/task2.py:smoke"]
    path.write_bytes(DAMAGED["binary"])
    with pytest.raises(InputError, match=r"grid\.txt cannot be read as a grid"):
        grid.read(path, tmp_path)
    with pytest.raises(InputError, match="there is no such file; give a text file"):
        grid.read(tmp_path / "absent.txt", tmp_path)


def test_results_that_are_strict_json_come_back(tmp_path):
    path = tmp_path / results.RESULTS
    path.write_text(json.dumps({"coords": {}, "attrs": {}, "dims": {}, "data_vars": {}}))
    assert not results.load(path).data_vars
