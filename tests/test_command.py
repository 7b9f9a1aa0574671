"""The command `relstab_jax.main`, called in this process."""

import pathlib
import sys

import numpy as np
import pytest
from ml_collections import ConfigDict

from relstab_jax import main, results
from relstab_jax.errors import InputError
from relstab_jax.training.metrics import METRICS

ROOT = pathlib.Path(__file__).parents[1]
CONFIGS = ROOT / "configs"
TINY = [
    f"--config={CONFIGS / 'task2.py'}:smoke", "--config.size=16", "--config.xi=4",
    "--config.depth=3", "--config.width=8", "--config.train_points=16",
    "--config.validation_points=4", "--config.look_every=5", "--config.max_epochs=20",
]  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "no configuration: give one"),
        (["--config=task3.py"], "task3.py: there is no such file"),
        (["--config="], "no configuration: give one"),
        (["--config=gs://bucket/task2.py"], "--config='gs://bucket/task2.py' is a remote address"),
        ([f"--config={CONFIGS}"], "Is a directory"),
        ([f"--config={CONFIGS / 'task2.py'}:tablet"], "unknown preset 'tablet'"),
        ([*TINY, "--config.seeds="], "seeds=() is empty"),
        ([*TINY, "--config.seeds=a,b"], "seeds='a' must be a whole number"),
        ([*TINY, "--config.seeds=0,0"], "repeats [0]"),
        ([*TINY, "--config.seeds=-1"], "seeds=-1 must be at least 0"),
        ([*TINY, f"--config.seed={2**32}"], f"seed={2**32} must be at most {2**32 - 1}"),
        ([*TINY, "--config.seed=" + "9" * 9000], "must be a whole number"),
        ([*TINY, "--config.sedes=1"], "has no field 'sedes': did you mean 'seeds'?"),
        ([*TINY, "--config.experiment=nosuch"], "experiment='nosuch' is not known"),
        ([*TINY, "--config.experiment=measure"], "has no field"),
        ([*TINY, "--config.learning_rate=nan"], "learning_rate=nan must be a finite number"),
        ([*TINY, "--config.boundary"], "'--config.boundary' is not a flag"),
        ([*TINY, "laptop"], "'laptop' is not a flag"),
        ([*TINY, "--workdirs=x"], "'--workdirs=x' is not a flag"),
        ([*TINY, "--processes=two"], "invalid int value: 'two'"),
        ([*TINY, "--processes=2"], "must be given together"),
        ([*TINY, "--workdir=gs://bucket/run"], "--workdir='gs://bucket/run' is a remote address"),
        ([*TINY, "--workdir=~nobody-of-this-name/run"], "there is no such user"),
        ([f"--config={CONFIGS / 'cifar10.py'}", "--config.network=SimpleCNN"], "'SimpleCNN'"),
        (
            [f"--config={CONFIGS / 'scale_detection_2d.py'}", "--config.train_points=none"],
            "train_points=None must be a number",
        ),
        (
            [f"--config={CONFIGS / 'cifar10.py'}", "--config.data_dir=gs://b/tfds"],
            "is a remote address",
        ),
        ([f"--config={CONFIGS / 'measure.py'}", "--config.num_classes=-1"], "num_classes=-1"),
    ],
    ids=lambda value: value[-1][:40] if value and isinstance(value, list) else "",
)
def test_a_wrong_command_is_one_sentence_before_anything_is_written(
    arguments, message, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        main.main(arguments)
    said = str(stop.value.code)
    assert said.startswith("error: ")
    assert message in said
    assert len(said) < 300
    assert "\n" not in said
    assert not list(tmp_path.iterdir())


def test_derived_configurations_load_from_any_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [p for p in sys.path if pathlib.Path(p or ".") != ROOT])
    for name in [name for name in sys.modules if name.split(".")[0] == "configs"]:
        monkeypatch.delitem(sys.modules, name)
    for file in ("task2", "cifar10_noisy", "imagenet", "scale_detection_2d"):
        config, _ = main.configuration([f"--config={CONFIGS / file}.py:smoke"])
        assert config.experiment in main.EXPERIMENTS


def test_a_home_is_expanded(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "task1.py").write_text((CONFIGS / "task1.py").read_text())
    assert main.configuration(["--config=~/task1.py:smoke"])[0].task == 1
    arguments = [f"--config={CONFIGS / 'measure.py'}", "--config.images=~/photographs"]
    assert main.configuration(arguments)[0].images == str(tmp_path / "photographs")


def tiny(**fields):
    changed = [f"--config.{name}={value}" for name, value in fields.items()]
    return main.configuration([*TINY, *changed])[0]


def test_results_say_what_made_them():
    attributes = main.provenance(ConfigDict({"measure": {"copies": 2}}), seconds=1.23)
    assert attributes["config"]["measure"] == {"copies": 2}
    assert attributes["wall_time_seconds"] == 1.2
    assert attributes["versions"]["jax"]


@pytest.mark.slow
def test_a_trained_run_can_be_measured_again(tmp_path, caplog):
    caplog.set_level("INFO", "relstab_jax")
    main.run(tiny(), tmp_path)
    before = results.load(tmp_path / results.RESULTS)
    looks = (tmp_path / METRICS).read_text()
    with pytest.raises(InputError, match="copies=0 must be at least 1"):
        main.run(tiny(copies=0), tmp_path)
    with pytest.raises(InputError, match=r"another configuration \(ridge: 0.01 there, 0.5 here\)"):
        main.run(tiny(ridge=0.5), tmp_path)
    main.run(tiny(copies=3), tmp_path)
    assert "Measuring again with other settings: copies: 1 there, 3 here." in caplog.messages
    after = results.load(tmp_path / results.RESULTS)
    assert after.attrs["measured_anew"] == ["copies: 1 there, 3 here"]
    assert after.attrs["config"]["copies"] == 3
    assert (tmp_path / METRICS).read_text() == looks
    np.testing.assert_array_equal(after.mean_filter, before.mean_filter)
    assert (abs(after.D - before.D) > 0).any()
    main.run(tiny(copies=3), tmp_path)
    assert "This run has ended before" in caplog.text
