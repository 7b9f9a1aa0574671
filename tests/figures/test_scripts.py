"""The scripts of the figures draw what is committed, and refuse other files in a sentence."""

import importlib
import io
import pathlib
import sys

import numpy as np
import PIL.Image
import pytest

from figures import fig01_left, fig06, script, tables
from figures.__main__ import SCRIPTS
from relstab_jax import results

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
    "parts": "task2-laptop.json",
    "along_training": "task2-laptop.json",
}
WRONG = {
    "empty": b"",
    "cut": b'{"coords": {"seed": {"dims"',
    "no results": b"{}",
    "a list": b"[]",
    "an image": b"\x89PNG\r\n\x1a\n" + bytes(100),
}


@pytest.mark.parametrize("name", SCRIPTS)
def test_every_panel_shows_finite_data(name):
    module = importlib.import_module(f"figures.{name}")
    figure = module.draw(*(script.RESULTS / file for file in module.RESULTS))
    figure.savefig(io.BytesIO())  # so that layout, texts and ticks are made
    shown = [axes for axes in figure.axes if axes.axison]
    assert shown or figure.axes[0].has_data()
    for axes in shown:
        lines = [np.asarray(line.get_ydata(), float) for line in axes.lines]
        assert axes.has_data()
        assert not lines or any(np.isfinite(y).any() for y in lines)


def test_a_script_draws_what_is_committed_as_png_and_pdf(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["fig06.py", f"--output={tmp_path}"])
    script.main(fig06.__doc__, fig06.draw, fig06.RESULTS)
    assert capsys.readouterr().out == f"{tmp_path / 'fig06'}.png\n"
    assert {path.suffix for path in tmp_path.iterdir()} == {".png", ".pdf"}


def test_all_scripts_are_drawn():
    folder = pathlib.Path(script.__file__).parent
    others = {"__init__", "__main__", "script", "tables"}
    assert set(SCRIPTS) == {path.stem for path in folder.glob("*.py")} - others


def test_fig01_deforms_an_image_file(tmp_path):
    ramp = np.linspace(0, 255, 64, dtype=np.uint8)
    stripes = np.stack(
        [np.add.outer(ramp, ramp), np.subtract.outer(ramp, ramp), ramp + 0 * ramp[:, None]], -1
    )
    PIL.Image.fromarray(stripes).save(tmp_path / "image.png")
    first, moved = fig01_left.draw(tmp_path / "image.png").axes[:2]
    shown = first.images[0].get_array()
    assert shown.shape == (fig01_left.SIZE, fig01_left.SIZE, 3)
    assert 0 < abs(moved.images[0].get_array() - shown).mean() < 0.1


def test_tables_have_the_papers_numbers_and_ours():
    rows = tables.table(2, "task2-laptop.json").splitlines()
    assert len(rows) == 2 + 7
    trained = np.array(
        results.load(script.RESULTS / "task2-laptop.json")
        .mean_filter.sel(state="trained")
        .mean("seed")
    )
    ours, paper = (f"{a:.4f}, {b:.4f}" for a, b in (trained[0], (0.3828, 0.3737)))
    assert f"{ours} | {paper}" in rows[2]
    np.testing.assert_allclose(tables.inhomogeneity(np.array([1.0, 3.0])), 0.5)


def refused(name, files, message, tmp_path, monkeypatch):
    module = importlib.import_module(f"figures.{name}")
    output = tmp_path / "output"
    monkeypatch.setattr(sys, "argv", [name, *map(str, files), f"--output={output}"])
    with pytest.raises(SystemExit, match=message) as ended:
        script.main(module.__doc__, module.draw, module.RESULTS)
    assert len(str(ended.value)) < 300
    assert "\n" not in str(ended.value)
    assert not output.exists()


@pytest.mark.parametrize("name", ["fig01_left", "fig01_centre", "fig03"])  # each reads otherwise
def test_files_that_are_no_results(name, tmp_path, monkeypatch):
    for content in WRONG.values():
        (tmp_path / "file.json").write_bytes(content)
        message = r"^error: .*file\.json (cannot be read as|holds no) "
        refused(name, [tmp_path / "file.json"], message, tmp_path, monkeypatch)
    message = r"^error: .*absent\.json: there is no such file"
    refused(name, [tmp_path / "absent.json"], message, tmp_path, monkeypatch)


@pytest.mark.parametrize("name", OTHERS)
def test_results_of_another_experiment(name, tmp_path, monkeypatch):
    message = f"^error: .*{OTHERS[name]} lacks .*, which .* draws: give results that have them"
    refused(name, [script.RESULTS / OTHERS[name]], message, tmp_path, monkeypatch)


@pytest.mark.parametrize("name", ["fig01_left", "fig01_centre_right", "fig06", "fig08", "fig10"])
def test_more_files_than_a_figure_has_room_for(name, tmp_path, monkeypatch):
    module = importlib.import_module(f"figures.{name}")
    file = script.RESULTS / module.RESULTS[0]
    message = r"^error: (\w+ draws one dataset, got 2|2 images are given)"
    refused(name, [file, file], message, tmp_path, monkeypatch)
