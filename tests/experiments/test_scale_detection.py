"""The whole of Section 4, small; and the laptop presets until they show the paper's physics."""

import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr

from relstab_jax import main, tables
from relstab_jax.data.scale_detection import points
from relstab_jax.errors import InputError
from relstab_jax.experiments import scale_detection
from relstab_jax.theory import homogeneous
from relstab_jax.training.interruption import Interrupted
from tests.compilations import compilations

TINY = {
    "size": 16, "xi": 4, "train_points": 16, "validation_points": 4, "seeds": (4, 0, 7),
    "width": 8, "depth": 3, "max_epochs": 20, "look_every": 5,
}  # fmt: skip


def config(task, words="", **fields):
    made = importlib.import_module(f"configs.{task}").get_config(words)
    made.update(fields)
    return made.lock()


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A finished tiny run of Task 2, and what was compiled in it."""
    with compilations() as compiled:
        workdir = tmp_path_factory.mktemp("tiny")
        dataset = scale_detection.run(config("task2", **TINY), workdir)
    return dataset, workdir, compiled


EPOCHS = (0, 3, 5, 12, 20)
ALONG = TINY | {"measure_at": EPOCHS}


@pytest.fixture(scope="module")
def along(tmp_path_factory):
    """The same run, measured along its training too, and what was compiled in it."""
    with compilations() as compiled:
        workdir = tmp_path_factory.mktemp("along")
        dataset = scale_detection.run(config("task2", **ALONG), workdir)
    return dataset, workdir, compiled


def test_results_have_the_schema(tiny):
    dataset, workdir, _ = tiny
    for name in ("D", "G", "R"):
        assert dataset[name].dims == ("state", "channels", "seed", "layer")
        assert dataset[name].shape == (2, 2, 3, 3)
        assert (dataset[name] > 0).all()  # of all channels, and of their mean
    np.testing.assert_allclose(dataset.R, dataset.D / dataset.G, rtol=1e-5)
    assert dataset.seed.values.tolist() == [4, 0, 7]
    assert dataset.layer.values.tolist() == ["conv1", "conv2", "conv3"]
    assert dataset.receptive_field.values.tolist() == [2, 4, 8]
    assert dataset.mean_filter.shape == (2, 3, 3, 2)
    positive = (dataset.mean_filter.sel(state="trained") > 0).all("tap").cumprod("layer")
    for name in ("exact_D", "filters_D"):
        assert dataset[name].dims == ("seed", "layer")
    np.testing.assert_array_equal(np.isfinite(dataset.filters_D), positive)
    for name in ("train_error", "test_error", "epochs", "interpolation_epoch", "diverged"):
        assert dataset[name].dims == ("seed",)
    assert (dataset.epochs == 20).all()
    assert len((workdir / "metrics.jsonl").read_text().splitlines()) == 4


def test_one_compilation_serves_all_seeds_layers_and_looks(tiny):
    _, _, compiled = tiny
    for call in ("start", "advance", "look", "step", "errors"):
        assert compiled.count(call) == 1, call


def test_measuring_along_a_training_changes_nothing_else(tiny, along):
    added = along[0].drop_vars([name for name in along[0].data_vars if "along_" in name])
    xr.testing.assert_identical(added.drop_vars("epoch"), tiny[0])
    assert (along[1] / "metrics.jsonl").read_text() == (tiny[1] / "metrics.jsonl").read_text()


def test_what_is_measured_along_a_training_begins_and_ends_as_its_states(along):
    dataset, _, compiled = along
    assert dataset.epoch.values.tolist() == list(EPOCHS)
    assert dataset.along_R.dims == ("epoch", "channels", "seed", "layer")
    for name in ("D", "G", "R", "D_error"):
        for epoch, state in ((0, "init"), (20, "trained")):
            found = dataset[f"along_{name}"].sel(epoch=epoch)
            np.testing.assert_array_equal(found, dataset[name].sel(state=state))
    assert dataset.along_test_error.dims == ("epoch", "seed")
    np.testing.assert_array_equal(dataset.along_test_error.sel(epoch=20), dataset.test_error)
    for call in ("advance", "look", "variables", "step", "share_of_reference", "errors"):
        assert compiled.count(call) == 1, call


def test_a_run_that_ends_at_an_epoch_measures_the_same(along, tmp_path):
    fields = {"max_epochs": 3, "look_every": 3, "measure_at": (0, 2)}
    ended = scale_detection.run(config("task2", **TINY | fields), tmp_path)
    for name in ("D", "G", "R", "test_error"):
        then = along[0][f"along_{name}"].sel(epoch=3)
        last = ended[name] if name == "test_error" else ended[name].sel(state="trained")
        np.testing.assert_array_equal(then, last)


@pytest.mark.slow
def test_seeds_that_have_stopped_are_measured_as_they_were(tmp_path):
    fields = TINY | {"size": 32, "xi": 8, "train_points": 128, "depth": 4, "width": 32}
    fields |= {
        "learning_rate": 0.03,
        "patience": 1,
        "max_epochs": 1000,
        "measure_at": (25, 37, 999),
    }
    dataset = scale_detection.run(config("task2", **fields), tmp_path)
    assert dataset.epochs.values.tolist() == [35, 25, 45]
    has_stopped = dataset.epochs <= dataset.epoch
    assert has_stopped.sum("seed").values.tolist() == [1, 2, 3]
    trained = dataset.sel(state="trained")
    same = (dataset.along_D == trained.D).all(["channels", "layer"])
    np.testing.assert_array_equal(same, has_stopped.transpose("epoch", "seed"))


@pytest.mark.slow
def test_a_seed_is_the_same_whatever_runs_beside_it(tiny, tmp_path):
    """Nine seeds go two to a device on five of the eight devices, one place left empty."""
    nine = (11, 7, 3, 4, 5, 6, 0, 8, 9)
    more = scale_detection.run(config("task2", **TINY | {"seeds": nine}), tmp_path)
    assert more.seed.values.tolist() == list(nine)
    for name, alone in tiny[0].data_vars.items():
        found = more[name].sel(seed=[4, 0, 7]) if "seed" in alone.dims else more[name]
        np.testing.assert_allclose(found, alone, rtol=1e-3, atol=1e-6, err_msg=name)


def test_a_finished_training_is_not_repeated(tiny):
    dataset, workdir, _ = tiny
    before = (workdir / "metrics.jsonl").read_text()
    again = scale_detection.run(config("task2", **TINY), workdir)
    assert (workdir / "metrics.jsonl").read_text() == before
    np.testing.assert_array_equal(again.D, dataset.D)


def test_an_interrupted_run_goes_on_to_the_same_numbers(along, tmp_path, looks):
    with pytest.raises(Interrupted) as stop:
        scale_detection.run(config("task2", **ALONG), tmp_path)
    assert stop.value.exit_code == 143
    resumed = scale_detection.run(config("task2", **ALONG), tmp_path)
    epochs = [line["epoch"] for line in looks]
    assert epochs == sorted(set(epochs))  # nothing is trained twice
    xr.testing.assert_identical(resumed, along[0])
    assert (tmp_path / "metrics.jsonl").read_text() == (along[1] / "metrics.jsonl").read_text()


@pytest.mark.slow
def test_a_diverging_seed_is_marked(tmp_path):
    fields = TINY | {"learning_rate": 1e30, "ridge": 0.0}
    dataset = scale_detection.run(config("task2", **fields), tmp_path)
    assert dataset.diverged.all()
    assert (dataset.epochs == 5).all()
    assert np.isnan(dataset.D.sel(state="trained")).all()
    assert np.isfinite(dataset.D.sel(state="init")).all()
    dataset.attrs = main.provenance(config("task2", **fields), 1.0)
    assert "diverged: seeds" in tables.scale_detection(dataset)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"xi": 32}, "xi=32 must lie between 0 and size=32"),
        ({"gap": 40}, "no point has label"),
        ({"train_points": 47}, "train_points=47 must be even"),
        ({"train_points": 200}, "leave no test point"),
        ({"stride": 2}, "stride=2 must be 1 or filter_size=3"),
        ({"stride": 3}, "divisible by"),
        ({"batch_size": 64}, "batch_size=64 must divide train_points=48"),
        ({"learning_rate": 10.0, "ridge": 0.6}, "must be below depth/2 = 6"),
        ({"batch_size": 7}, "batch_size=7 must divide train_points=48"),
        ({"max_epochs": 15}, "max_epochs=15 must be a multiple of look_every=10"),
        ({"measure_at": (0, 4, 2)}, r"measure_at=\(0, 4, 2\) must ascend"),
        ({"measure_at": (600_001,)}, "beyond the last epoch: give at most max_epochs=600000"),
    ],
)
def test_bad_input_is_one_sentence(fields, message):
    with pytest.raises(InputError, match=message):
        scale_detection.check(config("task1", **fields))


@pytest.mark.parametrize("task", ["task1", "task2"])
@pytest.mark.parametrize("words", ["", "laptop", "smoke"])
def test_every_preset_passes_its_checks(task, words):
    scale_detection.check(config(task, words))


@pytest.mark.slow
def test_a_network_with_equal_weights_is_measured_at_its_exact_values():
    made = config("task1", "smoke", width=1, depth=4, copies=64, seeds=(0,))
    model = scale_detection.network(made)
    variables = jax.tree.map(jnp.zeros_like, model.init(jax.random.key(0)))
    for layer in range(made.depth):
        variables["params"][f"conv{layer + 1}"]["kernel"] += 1 / made.filter_size
    stack = jax.tree.map(lambda w: w[None], variables)
    task = {name: made[name] for name in ("size", "xi", "gap")}
    positions, _ = points(made.task, **task)
    chosen = positions[1:368:6]
    measured = scale_detection.sensitivities(made, model, stack, chosen[None])
    network = {name: made[name] for name in ("filter_size", "stride", "depth")}
    exact = homogeneous.sensitivities(made.task, **task, **network, positions=chosen)
    mean = measured.sel(seed=0, channels="mean")
    np.testing.assert_allclose(mean.D, exact.D, rtol=0.03)
    np.testing.assert_allclose(mean.G, exact.G, rtol=0.03)


SLOPES = {  # (D, G) against A_k, over the first K layers: bounds around Eqs. 5, 7 and 8, 9
    "task1": (8, (-2.1, -1.5), (0.7, 1.2)),
    "task2": (4, (-1.5, -0.8), (0.4, 1.2)),
}

# Layers within 20 % of the exact values. The first filter of Task 1 is not quite homogeneous, here
# as in Table 1 of the paper.
CLOSE = {"task1": (2, 7), "task2": (1, 3)}


@pytest.mark.slow
@pytest.mark.parametrize("task", SLOPES)
def test_trained_networks_pool_as_the_paper_says(task, tmp_path):
    dataset = scale_detection.run(config(task, "laptop"), tmp_path)
    K, of_D, of_G = SLOPES[task]
    assert (dataset.test_error == 0).all()
    assert not dataset.diverged.any()
    log_A = np.log(dataset.receptive_field.values[:K])

    def slope(name, state, channels):
        values = dataset[name].sel(state=state, channels=channels).mean("seed").values[:K]
        return np.polyfit(log_A, np.log(values), 1)[0]

    for channels in ("all", "mean"):
        assert of_D[0] < slope("D", "trained", channels) < of_D[1]
        assert of_G[0] < slope("G", "trained", channels) < of_G[1]
    assert abs(slope("D", "init", "all")) < 0.35
    assert abs(slope("G", "init", "all")) < 0.35
    for name in "DG":  # no parameter fitted
        measured = dataset[name].sel(state="trained", channels="mean")
        ratio = (measured / dataset[f"exact_{name}"]).mean("seed").values
        first, last = CLOSE[task]
        assert (abs(ratio[first - 1 : last] - 1) < 0.2).all(), ratio
        assert (abs(ratio[: first - 1] - 1) < 0.4).all(), ratio
    filters = dataset.mean_filter.sel(state="trained").mean("seed").values[:K]
    assert (filters > 0).all()
    assert (filters.max(axis=1) / filters.min(axis=1) < 1.6).all()
