import pathlib
import sys

import numpy as np
import pytest

from relstab_jax import grid, results
from relstab_jax.errors import InputError

ROOT = pathlib.Path(__file__).parents[1]
RUNS = """
# two runs
--config=configs/cifar10_noisy.py:LeNet,smoke --config.noise=10

--config=configs/scale_detection_2d.py:DenseNetL2,smoke --config.seeds=0,1  # with a remark
"""


def written(folder, text):
    path = folder / "grid.txt"
    path.write_text(text)
    return path


def test_a_line_is_a_run_in_a_folder_of_its_own(tmp_path):
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
def test_the_grids_of_the_repository_are_runs(path, tmp_path):
    for run in grid.read(path, tmp_path):
        config, _, _ = run.arguments[0].removeprefix("--config=").partition(":")
        assert (ROOT / config).exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("# nothing", "has no run"),
        ("--config=a.py\n--config=a.py", "has the run '--config=a.py' more than once"),
        ("--config=a.py --workdir=b", "a run of a grid has its folder in"),
        ("--config=a.py 'b", "No closing quotation: --config=a.py 'b"),
    ],
)
def test_a_bad_grid_is_one_sentence(tmp_path, text, message):
    with pytest.raises(InputError, match=message):
        grid.read(written(tmp_path, text), tmp_path)
    with pytest.raises(InputError, match=r"none\.txt: there is no such file"):
        grid.read(tmp_path / "none.txt", tmp_path)


def test_what_has_ended_is_skipped_and_what_fails_stops_no_other(tmp_path, capfd, monkeypatch):
    def command(code):
        return [sys.executable, "-c", f"import sys; print('begun'); sys.exit({code})"]

    codes = {"ended": 0, "failing": 1, "sound": 0}
    monkeypatch.setattr(grid.Run, "command", property(lambda run: command(*run.arguments)))
    runs = [grid.Run([str(code)], tmp_path / name) for name, code in codes.items()]
    runs[0].workdir.mkdir()
    (runs[0].workdir / results.RESULTS).touch()
    assert grid.run(runs) == [runs[1]]
    assert capfd.readouterr().out.count("begun") == 2
    stopped = grid.Run(["143"], tmp_path / "stopped")
    with pytest.raises(SystemExit) as stop:
        grid.run([stopped, runs[2]])
    assert stop.value.code == 143
    assert capfd.readouterr().out.count("begun") == 1


@pytest.mark.slow
def test_a_grid_is_gathered_and_drawn(tmp_path, monkeypatch, capfd):
    """The real command on two small runs; then again, on what has ended."""
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
    for folder in (tmp_path / "runs").glob("*seed-1*"):
        one = results.load(folder / "results.json")
        predictor = one.D.sel(channels="all", layer="output")
        np.testing.assert_array_equal(gathered.D.isel(member=slice(2, 4)), predictor)
        np.testing.assert_array_equal(gathered.test_error.isel(member=slice(2, 4)), one.test_error)
    assert (gathered.test_points == 16).all()
    assert (tmp_path / "runs" / "errors.png").exists()
    capfd.readouterr()
    grid.main()
    assert capfd.readouterr().out.count("has ended before") == 2
