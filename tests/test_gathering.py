"""Grids: folders of their lines, files of any kind, and results of any experiments."""

import json
import pathlib

import numpy as np
import pytest
import xarray as xr

from relstab_jax import grid, main, plots, results
from relstab_jax.errors import InputError

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


@pytest.mark.parametrize("pair", PAIRS)
def test_two_lines_never_share_a_folder(pair):
    first, second = (grid.folder(f"--config=configs/{line}".split()) for line in pair)
    assert first != second
    for name in (first, second):
        assert name.strip("-.")
        assert "/" not in name
        assert grid.folder([f"--config={name}"]) != name


def test_lines_are_checked_before_anything_runs(tmp_path):
    path = tmp_path / "grid.txt"

    def read(text, encoding="utf-8"):
        path.write_text(text, encoding)
        return grid.read(path, tmp_path / "runs")

    good = f"--config={ROOT}/configs/task2.py:smoke"
    (run,) = read(f"{good}\n", "utf-8-sig")
    assert run.arguments == [good]
    for text, message in (
        (f"{good}\n{good} --config.sedes=1", "has no field 'sedes'"),
        (f"{good}\n--config={tmp_path}/none.py", "cannot read the configuration"),
        (f"{good} --config.seeds=a", "must be a whole number"),
        ("\ufeff\n", "has no run"),
    ):
        with pytest.raises(InputError, match=message):
            read(text)
    path.write_bytes(b"\x89PNG\r\n\x1a\n\x00")
    with pytest.raises(
        InputError,
        match=r"grid\.txt cannot be read as a grid .*: give a text file, a run on each line",
    ):
        grid.read(path, tmp_path)
    with pytest.raises(InputError, match="Is a directory"):
        grid.read(tmp_path, tmp_path)


def ended(workdir, config, dataset):
    results.claim(workdir, config)
    results.save(dataset.assign_attrs(results.provenance(config, 1.0)), workdir)


def test_a_folder_of_another_configuration_is_an_error(tmp_path):
    path = tmp_path / "grid.txt"
    path.write_text(f"--config={ROOT}/configs/task2.py:smoke --config.copies=2")
    (run,) = grid.read(path, tmp_path)
    assert not run.ended
    config, _ = main.configuration(run.arguments)
    ended(run.workdir, config, xr.Dataset())
    assert grid.read(path, tmp_path)[0].ended
    file = run.workdir / results.RESULTS

    def altered(**fields):
        for changed in (run.workdir / results.CONFIG, file):
            tree = json.loads(changed.read_text())
            of = tree if changed.name == results.CONFIG else tree["attrs"]["config"]
            of.update(fields)
            changed.write_text(json.dumps(tree))

    altered(copies=7)  # of the measurement: measured anew
    assert not grid.read(path, tmp_path)[0].ended
    altered(width=17)
    with pytest.raises(InputError, match=r"another configuration .*width: 17 there, 16 here"):
        grid.read(path, tmp_path)


def of_run(seeds, layers, value, **config):
    """Results as those of Tasks 1 and 2."""
    S, K = len(seeds), len(layers)
    return xr.Dataset(
        {
            "D": (("state", "channels", "seed", "layer"), np.full((2, 2, S, K), value)),
            "test_error": ("seed", np.full(S, value)),
            "epochs": ("seed", np.full(S, 7)),
            "exponent_D": -1.0,
        },
        coords={
            "state": ["init", "trained"], "channels": ["all", "mean"], "seed": list(seeds),
            "layer": layers, "receptive_field": ("layer", np.arange(float(K))),
        },
        attrs={"config": {"experiment": "scale_detection", "seeds": list(seeds), **config}},
    )  # fmt: skip


def test_runs_of_any_experiment_are_gathered(tmp_path):
    layers = ["conv1", "conv2"]
    runs = [
        of_run((0, 3), layers, 0.5, width=8, epochs=7, seed=0),
        of_run((1,), layers, 0.25, width=16, epochs=9, seed=1),
    ]
    gathered = results.load(results.save(results.gather(runs), tmp_path))
    assert set(gathered.data_vars) == {"D", "test_error", "epochs"}
    np.testing.assert_array_equal(gathered.epochs, [7, 7, 7])
    assert gathered.D.dims == ("state", "channels", "member", "layer")
    assert gathered.seed.values.tolist() == [0, 3, 1]
    assert gathered.width.values.tolist() == [8, 8, 16]
    np.testing.assert_array_equal(gathered.test_error, [0.5, 0.5, 0.25])
    assert not plots.shown_by(gathered)
    # Other layers are not shared; nor is anything with a run without seeds.
    runs[1] = of_run((1,), ["conv1"], 0.25, width=16)
    assert set(results.gather(runs).data_vars) == {"test_error", "epochs"}
    theory = xr.Dataset({"D": ("layer", [1.0, 2.0])}, attrs={"config": {"task1": {"size": 32}}})
    both = results.gather([theory, theory])
    np.testing.assert_array_equal(both.D, [[1.0, 2.0]] * 2)
    mixed = results.gather([runs[0], theory])
    assert not mixed.data_vars
    assert mixed.sizes["member"] == 3
    assert not plots.shown_by(mixed)


def test_runs_that_differ_in_their_seeds_alone_are_one_run(tmp_path):
    layers = ["conv1", "conv2"]
    runs = [
        of_run((3,), layers, 0.5, width=8),
        of_run((0, 1), layers, 0.25, width=8),
    ]
    gathered = results.load(results.save(results.gather(runs), tmp_path))
    assert gathered.D.dims == ("state", "channels", "seed", "layer")
    assert gathered.exponent_D.dims == ()
    np.testing.assert_array_equal(gathered.seed, [0, 1, 3])
    np.testing.assert_array_equal(gathered.test_error, [0.25, 0.25, 0.5])
    assert gathered.attrs["config"]["seeds"] == [0, 1, 3]
    assert [run["config"]["seeds"] for run in gathered.attrs["runs"]] == [[3], [0, 1]]
    with pytest.raises(InputError, match=r"share the seeds \[3\]"):
        results.gather([runs[0], *runs])


def strictly(text):
    def refused(constant):
        raise AssertionError(f"{constant} is not JSON")

    return json.loads(text, parse_constant=refused)


def test_results_and_metrics_are_strict_json(tmp_path):
    dataset = xr.Dataset(
        {
            "D": (("seed", "layer"), [[0.5, np.nan], [np.inf, 2.0]]),
            "G": ("seed", [np.nan, np.nan]),
            "n": ("seed", [1, 2]),
            "scalar": np.nan,
        },
        coords={"seed": [0, 1], "frequency": ("layer", [np.nan, 1.0])},
        attrs={"config": {"data_dir": None, "noise": np.nan}},
    )
    path = results.save(dataset, tmp_path)
    strictly(path.read_text())
    loaded = results.load(path)
    assert loaded.attrs == {"config": {"data_dir": None, "noise": None}}
    xr.testing.assert_equal(loaded, dataset.where(np.isfinite(dataset)))
    assert {loaded[name].dtype.kind for name in ("D", "G", "scalar", "frequency")} == {"f"}
    with results.MetricsLog(tmp_path, up_to_epoch=0) as log:
        log.write({"epoch": 1, "train_loss": [np.nan, 0.5]})
    strictly((tmp_path / results.METRICS).read_text())
    assert np.isnan(results.read_metrics(tmp_path)[0]["train_loss"][0])


@pytest.mark.parametrize(
    "path", sorted((ROOT / "figures/results").glob("*.json")), ids=lambda path: path.stem
)
def test_committed_results_are_strict_json(path):
    strictly(path.read_text())
    assert results.load(path).sizes
