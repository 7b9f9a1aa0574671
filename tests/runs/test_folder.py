import json

import pytest
from ml_collections import ConfigDict

from relstab_jax.config import differences
from relstab_jax.errors import InputError
from relstab_jax.runs import folder, state
from relstab_jax.training.metrics import METRICS

CONFIG = {"width": 8, "seeds": (0, 1), "measure": {"copies": 2}}


def test_a_folder_belongs_to_one_configuration(tmp_path):
    workdir = tmp_path / "new" / "run"
    folder.claim(workdir, ConfigDict(CONFIG))
    folder.claim(workdir, ConfigDict(CONFIG))
    assert json.loads((workdir / "config.json").read_text())["width"] == 8
    (workdir / METRICS).write_text('{"epoch": 1}\n')
    other = ConfigDict(CONFIG | {"width": 16, "measure": {"copies": 3}, "extra": 1})
    with pytest.raises(InputError) as error:
        folder.claim(workdir, other)
    for part in ("extra: None there, 1 here", "measure.copies: 2 there, 3 here", "and 1 more"):
        assert part in str(error.value)
    assert "seeds" not in str(error.value)
    assert json.loads((workdir / "config.json").read_text())["width"] == 8


@pytest.mark.parametrize("empty", [None, "", []])
def test_a_field_that_was_added_later_counts_as_empty(empty):
    earlier = {"width": 8, "measure": {"copies": 2}}
    later = {"width": 8, "measure": {"copies": 2, "at": empty}, "added": empty}
    assert differences(earlier, later) == differences(later, earlier) == {}
    assert differences(earlier, later | {"added": 0}) == {"added": "added: None there, 0 here"}


def test_a_run_that_failed_at_its_start_frees_its_folder(tmp_path):
    folder.claim(tmp_path, ConfigDict({"width": 16}))
    with pytest.raises(OSError, match="unreadable"), state.recorded(tmp_path):
        raise OSError("unreadable")
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / METRICS).touch()
    folder.claim(tmp_path, ConfigDict({"width": 8}))
    assert json.loads((tmp_path / "config.json").read_text())["width"] == 8
    (tmp_path / "checkpoints" / "20").mkdir()
    with pytest.raises(InputError, match="width: 8 there, 16 here"):
        folder.claim(tmp_path, ConfigDict({"width": 16}))


def test_an_unwritable_folder_is_an_input_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(
        InputError, match=r"cannot write into .*file/run .* or give another --workdir"
    ):
        folder.claim(tmp_path / "file" / "run", ConfigDict(CONFIG))
