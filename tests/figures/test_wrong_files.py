"""A wrong file given to a figure is one sentence, before anything is drawn or written."""

import importlib
import sys

import pytest

from figures import style
from figures.__main__ import SCRIPTS

OTHERS = {  # results that a figure cannot be of
    "fig01_centre_right": "task2-laptop.json",
    "fig03": "task2-laptop.json",
    "fig04": "task2-laptop.json",
    "fig06": "task2-laptop.json",
    "fig07": "measure-vgg16.json",
    "fig08": "measure-vgg16.json",
    "fig09": "fig08-laptop.json",
    "fig10": "homogeneous.json",
    "fig11": "fig08-laptop.json",
    "fig12": "homogeneous.json",
    "fig13": "fig10-laptop.json",
    "fig14": "task1-laptop.json",
}
WRONG = {
    "empty": b"",
    "cut": b'{"coords": {"seed": {"dims"',
    "no results": b"{}",
    "a list": b"[]",
    "an image": b"\x89PNG\r\n\x1a\n" + bytes(100),
}
OF_RESULTS = [name for name in SCRIPTS if name not in ("fig02", "fig05")]


def refused(name, files, message, tmp_path, monkeypatch):
    script = importlib.import_module(f"figures.{name}")
    output = tmp_path / "output"
    monkeypatch.setattr(sys, "argv", [name, *map(str, files), f"--output={output}"])
    with pytest.raises(SystemExit, match=message) as ended:
        style.main(script.__doc__, script.draw, script.RESULTS)
    assert len(str(ended.value)) < 300
    assert "\n" not in str(ended.value)
    assert not output.exists()


@pytest.mark.parametrize("name", OF_RESULTS)
def test_files_that_are_no_results(name, tmp_path, monkeypatch):
    for content in WRONG.values():
        (tmp_path / "file.json").write_bytes(content)
        message = r"^error: .*file\.json (cannot be read as|holds no) "
        refused(name, [tmp_path / "file.json"], message, tmp_path, monkeypatch)
    message = r"^error: .*absent\.json: there is no such file"
    refused(name, [tmp_path / "absent.json"], message, tmp_path, monkeypatch)


@pytest.mark.parametrize("name", OTHERS)
def test_results_of_another_experiment(name, tmp_path, monkeypatch):
    message = f"^error: .*{OTHERS[name]} holds no .*, which this figure draws: give the results"
    refused(name, [style.RESULTS / OTHERS[name]], message, tmp_path, monkeypatch)


@pytest.mark.parametrize("name", ["fig01_left", "fig01_centre_right", "fig06", "fig08", "fig10"])
def test_more_files_than_a_figure_has_room_for(name, tmp_path, monkeypatch):
    script = importlib.import_module(f"figures.{name}")
    file = style.RESULTS / script.RESULTS[0]
    refused(name, [file, file], "^error: 2 (files|images) are given", tmp_path, monkeypatch)
