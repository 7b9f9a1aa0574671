"""Deep networks on a few real images, and on the two-dimensional task, small."""

import importlib
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr

from configs import measure as measure_config
from relstab_jax import problems, tables
from relstab_jax.errors import Diverged, InputError
from relstab_jax.experiments import measure, train_images
from relstab_jax.keys import key_of
from relstab_jax.training.checkpoints import read_variables
from relstab_jax.training.interruption import Interrupted
from tests.compilations import compilations

# 50 training and 50 test images of CIFAR-10; 30 and 15 photographs in ImageNet's form
DATA = str(pathlib.Path(__file__).parents[1] / "data" / "tfds")
FEW_IMAGES = {
    "data_dir": DATA, "train_points": 32, "validation_points": 16, "measure_points": 8,
    "batch_size": 16, "evaluation_batch_size": 16, "seeds": (3, 1), "seeds_at_once": 2, "epochs": 2,
    "shuffles": 2,
}  # fmt: skip
FEW_POINTS = {
    "size": 8, "xi": 4, "gap": 1, "train_points": 64, "validation_points": 32, "test_points": 64,
    "measure_points": 16, "batch_size": 16, "seeds": (0, 1), "epochs": 3, "measure_batch_size": 8,
    "shuffles": 2,
}  # fmt: skip
ALONG = FEW_POINTS | {"checkpoint_minutes": 0.0, "measure_at": (0, 1, 3)}
FEW_PHOTOGRAPHS = {
    "data_dir": DATA, "train_points": 16, "validation_points": 6, "test_points": 10, "epochs": 1,
}  # fmt: skip


def config(name, words, **fields):
    made = importlib.import_module(f"configs.{name}").get_config(words)
    made.update(fields)
    return made.lock()


@pytest.fixture(scope="module")
def lenet(tmp_path_factory):
    """A finished run of LeNet on a few images."""
    workdir = tmp_path_factory.mktemp("lenet")
    return train_images.run(config("cifar10", "LeNet", **FEW_IMAGES), workdir), workdir


@pytest.fixture(scope="module")
def dense(tmp_path_factory):
    """A finished run of a fully connected network on the two-dimensional task."""
    workdir = tmp_path_factory.mktemp("dense")
    return train_images.run(config("scale_detection_2d", "DenseNetL2", **ALONG), workdir), workdir


def test_results_have_the_schema(lenet):
    dataset, workdir = lenet
    assert dataset.layer.values.tolist() == ["conv1", "conv2", "fc1", "fc2", "output"]
    for name in "DGR":
        assert dataset[name].dims == ("state", "channels", "seed", "layer")
        assert dataset[name].shape == (2, 3, 2, 5)
    assert dataset.spectrum.dims == ("state", "seed", "conv", "mode")
    assert dataset.spectrum.shape == (2, 2, 2, 25)
    np.testing.assert_allclose(dataset.frequency_content.sel(state="init"), 1, atol=0.3)
    for name in ("train_error", "validation_error", "test_error", "best_epoch", "epochs"):
        assert dataset[name].dims == ("seed",)
    assert dataset.seed.values.tolist() == [3, 1]
    assert len((workdir / "metrics.jsonl").read_text().splitlines()) == 2
    assert "output" in tables.train_images(dataset)


def test_measuring_along_a_training_changes_nothing_else(lenet, tmp_path):
    """LeNet again, measured at its epochs too."""
    with compilations() as compiled:
        fields = FEW_IMAGES | {"measure_at": (0, 1, 2)}
        dataset = train_images.run(config("cifar10", "LeNet", **fields), tmp_path)
    for call in ("step", "share_of_reference"):
        assert compiled.count(call) == 1, call
    names = [name for name in dataset.data_vars if "along_" in name]
    xr.testing.assert_identical(dataset.drop_vars([*names, "epoch"]), lenet[0])
    assert (tmp_path / "metrics.jsonl").read_text() == (lenet[1] / "metrics.jsonl").read_text()

    assert dataset.along_D.dims == ("epoch", "channels", "seed", "layer")
    assert dataset.along_D_spread.dims == ("epoch", "seed", "layer")
    assert dataset.epoch.values.tolist() == [0, 1, 2]
    last = dataset.along_test_error.sel(epoch=2)
    np.testing.assert_array_equal(last, dataset.last_test_error)
    at_best = dataset.sel(epoch=dataset.best_epoch)
    np.testing.assert_array_equal(at_best.along_test_error, dataset.test_error)
    for name in ("D", "G", "R", "R_error"):
        of_states = dataset[name].transpose("state", "seed", ...)
        along = dataset[f"along_{name}"].sel(epoch=0).transpose("seed", ...)
        np.testing.assert_array_equal(along, of_states.sel(state="init"))
        best = at_best[f"along_{name}"].transpose("seed", ...)
        np.testing.assert_array_equal(best, of_states.sel(state="trained"))


def test_the_run_can_be_measured_anew(lenet):
    _, workdir = lenet
    made = measure_config.get_config()
    made.update(
        network="LeNet", weights=str(workdir), measure_points=6, data_dir=FEW_IMAGES["data_dir"]
    )
    model, trained = measure.network(made)
    variables = jax.tree.map(lambda a: a[1], trained)
    assert model.apply(variables, jnp.zeros((2, 32, 32, 3))).shape == (2, 10)


def test_errors_are_those_of_the_best_network(lenet):
    """From the checkpoint, with the model and the images alone."""
    dataset, workdir = lenet
    made = config("cifar10", "LeNet", **FEW_IMAGES)
    model, problem = train_images.network(made), problems.problem(made)
    like = jax.eval_shape(lambda key: model.init(key), jax.random.key(0))
    best = read_variables(workdir)
    assert jax.tree.structure(best) == jax.tree.structure(like)
    for s, seed in enumerate(made.seeds):
        parts = problem.split(key_of(made.seed, "split", seed))
        assert sorted([*parts.train, *parts.validation]) == list(range(48))
        variables = jax.tree.map(lambda a, s=s: a[s], best)
        x = (problem.inputs[parts.test] / 255 - [0.4914, 0.4822, 0.4465]) / [0.2023, 0.1994, 0.2010]
        outputs = model.apply(variables, jnp.asarray(x, jnp.float32))
        wrong = outputs.argmax(1) != problem.labels[parts.test]
        np.testing.assert_allclose(dataset.test_error[s], wrong.mean(), atol=1e-6)


@pytest.mark.slow
def test_sensitivities_of_the_two_dimensional_task(dense):
    dataset, _ = dense
    assert dataset.layer.values.tolist() == ["fcn.0", "output"]
    for name in "DGR":
        assert (dataset[name].sel(channels=["all", "shuffled"]) > 0).all()
    np.testing.assert_allclose(dataset.R, dataset.D / dataset.G, rtol=1e-5)
    assert "spectrum" not in dataset  # without convolutions
    # The first layer of a dense network at initialisation cannot tell a move from noise.
    assert (abs(dataset.R.sel(state="init", channels="all", layer="fcn.0") - 1) < 0.5).all()


def test_a_run_that_ends_at_an_epoch_measures_the_same(dense, tmp_path):
    """At a constant learning rate, which does not depend on the number of epochs."""
    made = config("scale_detection_2d", "DenseNetL2", **FEW_POINTS | {"epochs": 1})
    assert made.annealing == 0
    ended, then = train_images.run(made, tmp_path), dense[0].sel(epoch=1)
    for name in ("D", "G", "R"):
        np.testing.assert_array_equal(then[f"along_{name}"], ended[name].sel(state="trained"))
    np.testing.assert_array_equal(then.along_test_error, ended.test_error)


def test_an_interrupted_run_goes_on_to_the_same_numbers(dense, tmp_path, looks):
    made = config("scale_detection_2d", "DenseNetL2", **ALONG)
    with pytest.raises(Interrupted):
        train_images.run(made, tmp_path)
    resumed = train_images.run(made, tmp_path)
    epochs = [line["epoch"] for line in looks]
    assert epochs == sorted(set(epochs))  # nothing is trained twice
    xr.testing.assert_identical(resumed, dense[0])
    assert resumed.epoch.values.tolist() == [0, 1, 3]
    assert (tmp_path / "metrics.jsonl").read_text() == (dense[1] / "metrics.jsonl").read_text()


@pytest.mark.slow
def test_photographs_stream_from_their_files(tmp_path, monkeypatch):
    small = problems.IMAGE_SETS["imagenet2012"]._replace(size=32)
    monkeypatch.setitem(problems.IMAGE_SETS, "imagenet2012", small)
    made = config("imagenet", "smoke", network="LeNet", **FEW_PHOTOGRAPHS)
    dataset = train_images.run(made, tmp_path)
    assert dataset.layer.values.tolist()[-1] == "output"
    for name in "DGR":
        assert (dataset[name].sel(channels=["all", "shuffled"]) > 0).all()

    # The test error, from the checkpoint, with the model and the photographs alone.
    model, problem = train_images.network(made), problems.problem(made)
    best = jax.tree.map(lambda a: a[0], read_variables(tmp_path))
    test = problem.split(key_of(made.seed, "split", 0)).test
    assert sorted(test) == list(range(22, 32))  # the validation split of the set
    x = (problem.inputs[test] / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    wrong = model.apply(best, jnp.asarray(x, jnp.float32)).argmax(1) != next(
        labels for _, labels in problem.inputs.batches(test[None])
    )
    np.testing.assert_allclose(dataset.test_error, [wrong.mean()], atol=1e-6)


@pytest.mark.slow
def test_a_loss_that_is_not_finite_stops_the_run(tmp_path):
    fields = FEW_POINTS | {"learning_rate": 1e38, "optimizer": "sgd"}
    made = config("scale_detection_2d", "DenseNetL2", **fields)
    with pytest.raises(Diverged, match=r"the loss is not finite from step \d+ on \(epoch 1\)"):
        train_images.run(made, tmp_path)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"network": "VGG12"}, "network='VGG12' is not known: use one of 'DenseNetL2'"),
        ({"data": "mnist"}, "data='mnist' is not known: use one of 'cifar10', 'imagenet2012'"),
        ({"data_dir": "/nowhere"}, "data_dir holds no prepared cifar10: prepare it with `tfds bui"),
        ({"batch_size": 64}, "batch_size=64 is more than the 32 training points"),
        ({"train_points": 40}, "together at most the 50 training images"),
        ({"test_points": 51}, "test_points=51 must be at most 50"),
        ({"measure_points": 51}, "measure_points=51 must be at most the 50 test points"),
        ({"measure_at": (0, 3)}, r"measure_at=\(0, 3\) goes beyond .* at most epochs=2"),
        ({"micro_batches": 3}, "does not divide over 1 devices with micro_batches=3"),
    ],
)
def test_bad_input_is_one_sentence(fields, message):
    with pytest.raises(InputError, match=message):
        train_images.check(config("cifar10", "LeNet", **FEW_IMAGES | fields))


@pytest.mark.parametrize("preset", ["", "laptop", "smoke"])
@pytest.mark.parametrize("network", ["LeNet", "VGG11", "DenseNetL4"])
def test_every_preset_passes_its_checks(network, preset):
    for words in (f"{network},{preset}", f"{preset},{network}"):
        few = {"data_dir": DATA, "train_points": 40, "validation_points": 10, "batch_size": 8}
        few |= {"test_points": 50, "measure_points": 8}
        made = [config(name, words, **few) for name in ("cifar10", "cifar10_noisy")]
        made.append(config("scale_detection_2d", words))
        for one in made:
            assert one.network == network
            train_images.check(one)


def test_the_authors_selection_trains_on_all_images():
    made = config("cifar10", "LeNet", **FEW_IMAGES | {"selection": "test", "train_points": None})
    parts = problems.problem(made).split(jax.random.key(0))
    assert sorted(parts.train) == list(range(50))
    np.testing.assert_array_equal(parts.validation, parts.test)
