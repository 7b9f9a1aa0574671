"""The command in this process: what it refuses, and what it does with the folder of a run."""

import contextlib
import json
import pathlib
import resource
import sys

import jax.numpy as jnp
import numpy as np
import pytest

from relstab_jax import errors, main, results, runs
from relstab_jax.errors import InputError, Unwritten
from relstab_jax.training import checkpoints

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
        (["--config=task3.py"], "cannot read the configuration task3.py"),
        (["--config="], "no configuration: give one"),
        (["--config=gs://bucket/task2.py"], "--config='gs://bucket/task2.py' is an address"),
        ([f"--config={CONFIGS}"], "Is a directory"),
        ([f"--config={CONFIGS / 'task2.py'}:tablet"], "unknown preset 'tablet'"),
        ([*TINY, "--config.seeds="], "seeds=() names none"),
        ([*TINY, "--config.seeds=a,b"], "seeds='a' must be a whole number"),
        ([*TINY, "--config.seeds=0,0"], "names [0] more than once"),
        ([*TINY, "--config.seeds=-1"], "seeds=-1 must be at least 0"),
        ([*TINY, f"--config.seed={2**32}"], f"seed={2**32} must be at most {2**32 - 1}"),
        ([*TINY, "--config.seed=" + "9" * 9000], "must be a whole number"),
        ([*TINY, "--config.sedes=1"], "has no field 'sedes': did you mean 'seeds'?"),
        ([*TINY, "--config.experiment=nosuch"], "experiment='nosuch' is not known"),
        ([*TINY, "--config.experiment=measure"], "has no field"),
        ([*TINY, "--config.learning_rate=nan"], "learning_rate=nan must be a finite number"),
        ([*TINY, "--config.boundary"], "'--config.boundary' is no flag"),
        ([*TINY, "laptop"], "'laptop' is no flag"),
        ([*TINY, "--workdirs=x"], "'--workdirs=x' is no flag"),
        ([*TINY, "--processes=two"], "invalid int value: 'two'"),
        ([*TINY, "--processes=2"], "must be given together"),
        ([*TINY, "--workdir=gs://bucket/run"], "--workdir='gs://bucket/run' is an address"),
        ([*TINY, "--workdir=~nobody-of-this-name/run"], "has a ~ of no user"),
        ([f"--config={CONFIGS / 'cifar10.py'}", "--config.network=SimpleCNN"], "'SimpleCNN'"),
        (
            [f"--config={CONFIGS / 'scale_detection_2d.py'}", "--config.train_points=none"],
            "train_points=None must be a number",
        ),
        ([f"--config={CONFIGS / 'cifar10.py'}", "--config.data_dir=gs://b/tfds"], "is an address"),
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


@pytest.mark.slow
def test_a_trained_run_can_be_measured_anew(tmp_path, capsys):
    main.run(tiny(), tmp_path)
    before = results.load(tmp_path / results.RESULTS)
    looks = (tmp_path / results.METRICS).read_text()
    with pytest.raises(InputError, match="copies=0 must be at least 1"):
        main.run(tiny(copies=0), tmp_path)
    with pytest.raises(InputError, match=r"another configuration \(ridge: 0.01 there, 0.5 here\)"):
        main.run(tiny(ridge=0.5), tmp_path)
    capsys.readouterr()
    main.run(tiny(copies=3), tmp_path)
    assert "It is measured anew: copies: 1 there, 3 here." in capsys.readouterr().out
    after = results.load(tmp_path / results.RESULTS)
    assert after.attrs["measured_anew"] == ["copies: 1 there, 3 here"]
    assert after.attrs["config"]["copies"] == 3
    assert (tmp_path / results.METRICS).read_text() == looks
    np.testing.assert_array_equal(after.mean_filter, before.mean_filter)
    assert (abs(after.D - before.D) > 0).any()
    main.run(tiny(copies=3), tmp_path)
    assert "This run has ended before" in capsys.readouterr().out


def test_a_start_that_failed_leaves_its_folder_to_another(tmp_path):
    results.claim(tmp_path, tiny(width=16))
    with pytest.raises(OSError, match="unreadable"), runs.noted(tmp_path):
        raise OSError("unreadable")
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / results.METRICS).touch()
    results.claim(tmp_path, tiny())
    assert json.loads((tmp_path / results.CONFIG).read_text())["width"] == 8
    (tmp_path / "checkpoints" / "20").mkdir()
    with pytest.raises(InputError, match="width: 8 there, 16 here"):
        results.claim(tmp_path, tiny(width=16))


@contextlib.contextmanager
def full():
    """Lets no file of this process grow beyond a few bytes: an error of writing, as a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_what_cannot_be_written_is_one_sentence(tmp_path):
    message = r"cannot write .*{} \(File too large\): make room or give another --workdir"
    log = results.MetricsLog(tmp_path, up_to_epoch=0)
    with log, pytest.raises(Unwritten, match=message.format("metrics.jsonl")), full():
        log.write({"epoch": 10, "loss": [0.5]})
    with pytest.raises(Unwritten, match=message.format("results.json")), full():
        results.write_atomically(tmp_path / results.RESULTS, "0123456789")
    assert not (tmp_path / results.RESULTS).exists()
    assert not list(tmp_path.glob("*.partial"))
    config = tiny()
    with pytest.raises(InputError, match=r"cannot write into .* \(File too large\)"), full():
        results.claim(tmp_path, config)
    with (
        pytest.raises(Unwritten, match=message.format("")),
        errors.noticing_a_full_disk(tmp_path),
        full(),
    ):
        (tmp_path / "other").write_text("0123456789")
    with pytest.raises(ZeroDivisionError), errors.noticing_a_full_disk(tmp_path):
        raise ZeroDivisionError


def test_a_checkpoint_that_has_no_room_is_not_begun(tmp_path, monkeypatch):
    saving = checkpoints.Checkpoints(tmp_path / "checkpoints")
    monkeypatch.setattr(checkpoints, "_OVERHEAD_BYTES", 2**60)
    with pytest.raises(Unwritten, match=r"checkpoints \(it takes \d+ MiB, more than is free\)"):
        saving.save(1, {"a": jnp.zeros(3)})
    saving.close()
    assert not list((tmp_path / "checkpoints").iterdir())
