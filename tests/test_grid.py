import json
import pathlib
import sys

import numpy as np
import pytest
import xarray as xr

from relstab_jax import grid, main, results
from relstab_jax.errors import InputError
from relstab_jax.runs import folder

ROOT = pathlib.Path(__file__).parents[1]
PAIRS = [
    ("a.py:LeNet --config.data_dir=runs/tfds", "a.py:VGG11 --config.data_dir=runs/tfds"),
    ("a.py --config.images=photographs/", "a.py --config.images=pictures/"),
    ("a.py --config.images=x/", "a.py --config.images=x"),
    ("a.py:b --config.c=1", "a.py --config.b=1 --config.c=1"),
    ("a.py:LeNet,smoke", "a.py:LeNet-smoke"),
    ("a.py --config.noise=1,5", "a.py --config.noise=1.5"),
    ("a.py --config.noise=1-5", "a.py --config.noise=1,5"),
    ("b/a.py --config.c=1", "a.py --config.c=1"),
    ("a.py --config.c=" + "1" * 200, "a.py --config.c=" + "1" * 201),
    ("a.py --config.c=" + "x" * 200, "a.py --config.c=" + "x" * 201),
]
RUNS = """
# two runs
--config=configs/cifar10_noisy.py:LeNet,smoke --config.noise=10

--config=configs/scale_detection_2d.py:DenseNetL2,smoke --config.seeds=0,1  # with a remark
"""


def written(directory, text):
    path = directory / "grid.txt"
    path.write_text(text)
    return path


def test_each_line_is_a_run_in_its_own_folder(tmp_path):
    first, second = grid.read(written(tmp_path, RUNS), tmp_path)
    assert first.workdir == tmp_path / "cifar10_noisy-LeNet-smoke-noise-10"
    assert second.workdir == tmp_path / "scale_detection_2d-DenseNetL2-smoke-seeds-0-1"
    assert first.flags == [
        *("--config=configs/cifar10_noisy.py:LeNet,smoke", "--config.noise=10"),
        f"--workdir={first.workdir}",
    ]


@pytest.mark.parametrize(
    "path", sorted((ROOT / "configs/grids").glob("*.txt")), ids=lambda p: p.stem
)
def test_the_grids_of_the_repository_are_valid(path, tmp_path):
    for run in grid.read(path, tmp_path):
        config, _, _ = run.arguments[0].removeprefix("--config=").partition(":")
        assert (ROOT / config).exists()


GOOD = f"--config={ROOT}/configs/task2.py:smoke"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("# nothing", "has no runs"),
        ("\ufeff\n", "has no runs"),
        ("--config=a.py\n--config=a.py", "has the run '--config=a.py' more than once"),
        ("--config=a.py --workdir=b", "remove --workdir from"),
        ("--config=a.py 'b", r"is not a command \(No closing quotation\)"),
        (f"{GOOD}\n{GOOD} --config.sedes=1", "has no field 'sedes'"),
        (f"{GOOD}\n--config=none.py", "there is no such file"),
        (f"{GOOD} --config.seeds=a", "must be a whole number"),
    ],
)
def test_the_lines_of_a_grid_are_checked_before_any_runs(tmp_path, text, message):
    with pytest.raises(InputError, match=message):
        grid.read(written(tmp_path, text), tmp_path)


def test_a_file_that_is_not_a_grid_is_one_sentence(tmp_path):
    with pytest.raises(InputError, match=r"none\.txt: there is no such file"):
        grid.read(tmp_path / "none.txt", tmp_path)
    with pytest.raises(InputError, match="Is a directory"):
        grid.read(tmp_path, tmp_path)
    path = tmp_path / "grid.txt"
    path.write_bytes(b"\x89PNG\r\n\x1a\n\x00")
    advice = "give a text file with a run on each line"
    with pytest.raises(InputError, match=rf"grid\.txt cannot be read as a grid .*: {advice}"):
        grid.read(path, tmp_path)


def test_the_mark_that_windows_editors_add_is_ignored(tmp_path):
    path = tmp_path / "grid.txt"
    path.write_text(f"{GOOD}\n", "utf-8-sig")
    (run,) = grid.read(path, tmp_path)
    assert run.arguments == [GOOD]


@pytest.mark.parametrize("pair", PAIRS)
def test_different_lines_have_different_folders(pair):
    first, second = (grid.folder_name(f"--config=configs/{line}".split()) for line in pair)
    assert first != second
    for name in (first, second):
        assert name.strip("-.")
        assert "/" not in name
        assert grid.folder_name([f"--config={name}"]) != name


def ended(workdir, config, dataset):
    folder.claim(workdir, config)
    results.save(dataset.assign_attrs(main.provenance(config, 1.0)), workdir)


def test_a_folder_of_another_configuration_is_an_error(tmp_path):
    path = tmp_path / "grid.txt"
    path.write_text(f"{GOOD} --config.copies=2")
    (run,) = grid.read(path, tmp_path)
    assert not run.ended
    config, _ = main.configuration(run.arguments)
    ended(run.workdir, config, xr.Dataset())
    assert grid.read(path, tmp_path)[0].ended
    file = run.workdir / results.RESULTS

    def altered(**fields):
        for changed in (run.workdir / folder.CONFIG, file):
            tree = json.loads(changed.read_text())
            of = tree if changed.name == folder.CONFIG else tree["attrs"]["config"]
            of.update(fields)
            changed.write_text(json.dumps(tree))

    altered(copies=7)  # a field of the measurement
    assert not grid.read(path, tmp_path)[0].ended
    altered(width=17)
    with pytest.raises(InputError, match=r"another configuration .*width: 17 there, 16 here"):
        grid.read(path, tmp_path)


def test_ended_runs_are_skipped_and_a_failing_one_does_not_stop_others(
    tmp_path, capfd, monkeypatch
):
    def command(code):
        return [sys.executable, "-c", f"import sys; print('begun'); sys.exit({code})"]

    codes = {"ended": 0, "failing": 1, "sound": 0}
    monkeypatch.setattr(grid.Run, "command", property(lambda run: command(*run.arguments)))
    runs = [grid.Run([str(code)], tmp_path / name) for name, code in codes.items()]
    runs[0].workdir.mkdir()
    (runs[0].workdir / results.RESULTS).touch()
    assert grid.run_all(runs) == [runs[1]]
    assert capfd.readouterr().out.count("begun") == 2
    stopped = grid.Run(["143"], tmp_path / "stopped")
    with pytest.raises(SystemExit) as stop:
        grid.run_all([stopped, runs[2]])
    assert stop.value.code == 143
    assert capfd.readouterr().out.count("begun") == 1


@pytest.mark.slow
def test_a_grid_is_gathered_and_drawn(tmp_path, monkeypatch, capfd):
    """Runs a grid of two small runs, and again when they have ended."""
    small = "--config.train_points=32 --config.batch_size=16 --config.epochs=1"
    few = "--config.validation_points=8 --config.test_points=16 --config.measure_points=8"
    lines = [
        f"--config=configs/scale_detection_2d.py:DenseNetL2,smoke {small} {few} --config.seed={n}"
        for n in (0, 1)
    ]
    path = written(tmp_path, "\n".join(lines))
    monkeypatch.setattr(sys, "argv", ["grid", str(path), f"--workdir={tmp_path / 'runs'}"])
    grid.main()
    gathered = results.load(tmp_path / "runs" / "results.json")
    assert gathered.network.values.tolist() == ["DenseNetL2"] * 4
    assert gathered.seed.values.tolist() == [0, 1, 0, 1]
    for workdir in (tmp_path / "runs").glob("*seed-1*"):
        one = results.load(workdir / "results.json")
        predictor = one.D.sel(channels="all", layer="output")
        np.testing.assert_array_equal(gathered.D.isel(member=slice(2, 4)), predictor)
        np.testing.assert_array_equal(gathered.test_error.isel(member=slice(2, 4)), one.test_error)
    assert (gathered.test_points == 16).all()
    assert (tmp_path / "runs" / "errors.png").exists()
    capfd.readouterr()
    grid.main()
    assert capfd.readouterr().out.count("has ended before") == 2
