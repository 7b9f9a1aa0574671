import json

import numpy as np
import pytest
import xarray as xr
from ml_collections import ConfigDict

from relstab_jax import results
from relstab_jax.errors import InputError

CONFIG = {"width": 8, "seeds": (0, 1), "measure": {"copies": 2}}


def test_a_dataset_comes_back_with_its_undefined_values(tmp_path):
    dataset = xr.Dataset(
        {"D": (("seed", "layer"), np.array([[0.5, np.nan], [1e-30, 2.0]]))},
        coords={"seed": [3, 5], "layer": ["conv1", "conv2"]},
        attrs=results.provenance(ConfigDict(CONFIG), seconds=1.23),
    )
    path = results.save(dataset, tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["results.json"]
    xr.testing.assert_identical(results.load(path), dataset)
    assert dataset.attrs["config"]["measure"] == {"copies": 2}
    assert dataset.attrs["wall_time_seconds"] == 1.2
    assert dataset.attrs["versions"]["jax"]


def test_no_results_is_one_sentence(tmp_path):
    with pytest.raises(InputError, match=r"results\.json: there is no such file; give the results"):
        results.load(tmp_path / "results.json")


def test_a_folder_belongs_to_one_configuration(tmp_path):
    folder = tmp_path / "new" / "run"
    results.claim(folder, ConfigDict(CONFIG))
    results.claim(folder, ConfigDict(CONFIG))
    assert json.loads((folder / "config.json").read_text())["width"] == 8
    (folder / "metrics.jsonl").write_text('{"epoch": 1}\n')
    other = ConfigDict(CONFIG | {"width": 16, "measure": {"copies": 3}, "extra": 1})
    with pytest.raises(InputError) as error:
        results.claim(folder, other)
    for part in ("extra: None there, 1 here", "measure.copies: 2 there, 3 here", "and 1 more"):
        assert part in str(error.value)
    assert "seeds" not in str(error.value)
    assert json.loads((folder / "config.json").read_text())["width"] == 8


def test_an_unwritable_folder_is_one_sentence(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(
        InputError, match=r"cannot write into .*file/run .*: give another --workdir"
    ):
        results.claim(tmp_path / "file" / "run", ConfigDict(CONFIG))


def test_metrics_go_on_after_the_epoch_of_the_checkpoint(tmp_path):
    with results.MetricsLog(tmp_path, up_to_epoch=0) as log:
        for epoch in (10, 20, 30):
            log.write({"epoch": epoch, "loss": [0.5]})
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"epoch": 40, "lo')  # torn off by a kill
    with results.MetricsLog(tmp_path, up_to_epoch=20) as log:
        log.write({"epoch": 30, "loss": [0.25]})
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [(line["epoch"], line["loss"]) for line in lines] == [
        (10, [0.5]),
        (20, [0.5]),
        (30, [0.25]),
    ]


def test_metrics_are_shown_by_tensorboard(tmp_path):
    """Read from its event files: records of a length, a checksum, an event and a checksum."""
    event_pb2 = pytest.importorskip("tensorboardX.proto.event_pb2", reason="needs `tensorboard`")
    with results.MetricsLog(tmp_path, up_to_epoch=0) as log:
        log.write({"epoch": 3, "loss": [0.5, 0.25]})
    (file,) = tmp_path.glob("events.out.tfevents.*")
    left, found = file.read_bytes(), {}
    while left:
        length = int.from_bytes(left[:8], "little")
        event = event_pb2.Event.FromString(left[12 : 12 + length])
        found |= {value.tag: (event.step, value.simple_value) for value in event.summary.value}
        left = left[16 + length :]
    assert found == {"loss": (3, 0.375)}


def test_a_file_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "results.json"
    results.write_atomically(path, "before")
    with pytest.raises(UnicodeEncodeError):
        results.write_atomically(path, "cut off \ud800")
    assert path.read_text() == "before"
