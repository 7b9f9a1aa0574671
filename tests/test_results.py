import json
import pathlib

import numpy as np
import pytest
import xarray as xr

from relstab_jax import results
from relstab_jax.errors import InputError

ROOT = pathlib.Path(__file__).parents[1]


def test_a_dataset_comes_back_with_its_undefined_values(tmp_path):
    dataset = xr.Dataset(
        {"D": (("seed", "layer"), np.array([[0.5, np.nan], [1e-30, 2.0]]))},
        coords={"seed": [3, 5], "layer": ["conv1", "conv2"]},
        attrs={"config": {"measure": {"copies": 2}}, "wall_time_seconds": 1.2},
    )
    path = results.save(dataset, tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["results.json"]
    xr.testing.assert_identical(results.load(path), dataset)


def test_missing_results_are_one_sentence(tmp_path):
    with pytest.raises(InputError, match=r"results\.json: there is no such file; give the results"):
        results.load(tmp_path / "results.json")


def parse_strictly(text):
    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    return json.loads(text, parse_constant=refuse)


def test_results_are_strict_json(tmp_path):
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
    parse_strictly(path.read_text())
    loaded = results.load(path)
    assert loaded.attrs == {"config": {"data_dir": None, "noise": None}}
    xr.testing.assert_equal(loaded, dataset.where(np.isfinite(dataset)))
    assert {loaded[name].dtype.kind for name in ("D", "G", "scalar", "frequency")} == {"f"}


def test_results_without_variables_are_read(tmp_path):
    path = tmp_path / results.RESULTS
    path.write_text(json.dumps({"coords": {}, "attrs": {}, "dims": {}, "data_vars": {}}))
    assert not results.load(path).data_vars


@pytest.mark.parametrize(
    "path", sorted((ROOT / "figures/results").glob("*.json")), ids=lambda path: path.stem
)
def test_committed_results_are_strict_json(path):
    parse_strictly(path.read_text())
    assert results.load(path).sizes
