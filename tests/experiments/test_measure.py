"""The measurement of a network on real images, and what it is given."""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import PIL.Image
import pytest
from safetensors.numpy import save_file

from configs import measure as measure_config
from relstab_jax import main, models, results, tables
from relstab_jax.data import images
from relstab_jax.errors import InputError
from relstab_jax.experiments import measure
from relstab_jax.keys import key_of
from relstab_jax.measures import driver, filters
from relstab_jax.measures.perturbations import Diffeomorphism
from relstab_jax.training import checkpoints

TFDS = str(pathlib.Path(__file__).parents[1] / "data" / "tfds")


def config(**fields):
    made = measure_config.get_config("smoke")
    made.update({"network": "LeNet", "data_dir": TFDS, "measure_points": 6} | fields)
    return made.lock()


def save(folder, state):
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(folder, state)
    return folder


@pytest.fixture(scope="module")
def lenet():
    model = models.create("LeNet", num_classes=7, image_size=32, channels=3)
    return model, model.init(jax.random.key(5))


@pytest.fixture(scope="module")
def weights(lenet, tmp_path_factory):
    """A LeNet of 7 classes, as PyTorch would have saved it."""
    state = {}
    for layer, params in lenet[1]["params"].items():
        w = np.asarray(params["kernel"])
        order = (3, 2, 0, 1) if w.ndim == 4 else (1, 0)
        state[f"{layer}.weight"] = np.ascontiguousarray(w.transpose(order))
        state[f"{layer}.bias"] = np.asarray(params["bias"])
    path = tmp_path_factory.mktemp("weights") / "lenet.safetensors"
    save_file(state, path)
    return path


@pytest.fixture(scope="module")
def measured(weights, tmp_path_factory):
    made = config(weights=str(weights), copies=2)
    measure.check(made)
    dataset = measure.run(made, tmp_path_factory.mktemp("run"))
    dataset.attrs["config"] = made.to_dict()
    return dataset


def test_results_have_the_schema(measured):
    for name in ("D", "G", "R", "D_error", "G_error", "R_error"):
        assert measured[name].dims == ("state", "channels", "seed", "layer")
        assert measured[name].shape == (2, 3, 1, 5)
    assert measured.layer.values.tolist() == ["conv1", "conv2", "fc1", "fc2", "output"]
    assert measured.state.values.tolist() == ["init", "trained"]
    maps = measured.D.sel(channels="mean").notnull().all(["state", "seed"])
    assert maps.values.tolist() == [True, True, False, False, False]
    assert measured.D.sel(channels=["all", "shuffled"]).notnull().all()
    assert measured.spectrum.shape == (2, 1, 2, 25)
    assert "network in state trained" in tables.measure(measured)


def test_values_are_those_of_the_network_alone(measured, lenet):
    model, variables = lenet
    pixels, _ = images.load("cifar10", "test", TFDS)
    x = images.normalise(
        pixels[np.linspace(0, 49, 6).astype(int)], images.CIFAR10_MEAN, images.CIFAR10_STD
    )
    key = key_of(0, "copies")
    alone = driver.measure(models.Layers(model), x, key, network=variables, copies=2)
    for layer, s in alone.items():
        at = measured.sel(state="trained", channels="all", layer=layer, seed=0)
        np.testing.assert_allclose((at.D, at.G, at.R_error), (s.D, s.G, s.R_error), rtol=1e-3)
    w = variables["params"]["conv2"]["kernel"]
    found = measured.spectrum.sel(state="trained", conv="conv2", seed=0)
    np.testing.assert_allclose(found, filters.spectrum(w), rtol=1e-5)


def test_the_error_is_that_of_the_measured_images(measured, tmp_path):
    assert "test_error" not in measured  # of a network with 7 outputs, for 10 classes
    made = config(network="DenseNetL2", measure_points=50)
    model, _ = measure.network(made)
    networks = jax.vmap(model.init)(jax.random.split(jax.random.key(1), 2))
    found = measure.errors(model, networks, measure.images(made))
    pixels, labels = images.load("cifar10", "test", TFDS)
    x = images.normalise(pixels, images.CIFAR10_MEAN, images.CIFAR10_STD)
    for seed in range(2):
        logits = model.apply(jax.tree.map(lambda a, n=seed: a[n], networks), x)
        expected = np.mean(np.argmax(logits, axis=1) != labels)
        assert float(found.test_error[seed]) == pytest.approx(float(expected))
        assert 0.5 < expected < 1
    assert found.test_points.values.tolist() == [50, 50]
    tabled = tables.measure(measured.assign(test_error=("seed", [0.25]), test_points=("seed", [6])))
    assert "test error by seed 0.2500, of 6 images" in tabled


@pytest.mark.slow
def test_a_part_of_the_displacement_field_is_measured_alone(lenet, weights, tmp_path):
    made = config(weights=str(weights), part="rotation", shuffles=1)
    found = measure.run(made, tmp_path).sel(state="trained", channels="all", seed=0)
    measured_on = measure.images(made)
    model, variables = lenet
    alone = driver.measure(
        models.Layers(model), measured_on, key_of(0, "copies"),
        network=variables, perturbation=Diffeomorphism(part="rotation"),
    )  # fmt: skip
    np.testing.assert_allclose(found.D, [s.D for s in alone.values()], rtol=1e-3)


@pytest.mark.slow
def test_random_networks_may_take_the_statistics_of_the_images(tmp_path):
    made = [config(network="VGG11bn", shuffles=1, init_statistics=s) for s in (None, "batch")]
    running, batch = (measure.run(c, tmp_path).sel(state="init", channels="all") for c in made)
    model, _ = measure.network(made[0])
    variables = jax.vmap(model.init)(key_of(0, "init", 0)[None])
    x = np.stack([measure.images(made[1])[n] for n in range(6)])
    given = models.with_statistics_of(model, jax.tree.map(lambda a: a[0], variables), x)
    alone = driver.measure(models.Layers(model), x, key_of(0, "copies"), network=given)
    np.testing.assert_allclose(batch.R[0], [s.R for s in alone.values()], rtol=1e-3)
    assert (abs(running.R - batch.R) > 0.01).any()


def test_an_orbax_checkpoint_does_as_well(lenet, tmp_path):
    folder = save(tmp_path / "lenet", lenet[1])
    model, trained = measure.network(config(weights=str(folder)))
    assert model.apply(lenet[1], jnp.zeros((2, 32, 32, 3))).shape == (2, 7)
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a[0], b), trained, dict(lenet[1]))


def test_its_plots_are_drawn_beside_the_results(measured, tmp_path):
    drawn = main.draw(results.save(measured, tmp_path))
    names = {"depth", "sensitivities", "spectra", "frequency_content"}
    assert {path.stem for path in drawn} == names
    assert {path.name for path in tmp_path.glob("*.png")} == {f"{name}.png" for name in names}


def test_shuffling_permutes_the_input_channels_of_each_convolution(lenet):
    params = lenet[1]["params"]
    shuffled = models.shuffled(jax.random.key(2), lenet[1])["params"]
    for layer in ("fc1", "fc2", "fc3"):
        np.testing.assert_array_equal(shuffled[layer]["kernel"], params[layer]["kernel"])
    for layer in ("conv1", "conv2"):
        np.testing.assert_array_equal(shuffled[layer]["bias"], params[layer]["bias"])
        w, v = (np.asarray(p[layer]["kernel"]) for p in (params, shuffled))
        came_from = [
            next(c for c in range(w.shape[2]) if np.array_equal(w[:, :, c], v[:, :, d]))
            for d in range(w.shape[2])
        ]
        assert sorted(came_from) == list(range(w.shape[2]))
    assert not np.array_equal(params["conv2"]["kernel"], shuffled["conv2"]["kernel"])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"network": "LeNett"}, "network='LeNett' is not known"),
        ({"measure_points": 51}, "P=51 images must be at least 2 and at most the 50"),
        ({"images": "nowhere/deep"}, "there is no such folder"),
        ({"images": "mnist"}, "holds no prepared mnist"),
        ({"normalisation": "mnist"}, "normalisation='mnist' is not known: use one of 'cifar10'"),
        ({"cut": 1}, "cut=1 must lie between 2 and 16"),
        ({"delta": -1.0}, "delta=-1.0 must be more than 0"),
        ({"weights": "missing.safetensors"}, "no such file"),
        ({"weights": TFDS}, "cannot be read as a run or a checkpoint"),
    ],
)  # fmt: skip
def test_bad_input_is_refused(fields, message):
    with pytest.raises(InputError, match=message):
        measure.check(config(**fields))


def test_weights_of_another_network_are_refused(weights):
    with pytest.raises(InputError, match="not the weights of a VGG11: missing"):
        measure.check(config(weights=str(weights), network="VGG11"))
    with pytest.raises(InputError, match=r"fc1\.weight is \[120, 400\] instead of \[120, 784\]"):
        measure.check(config(weights=str(weights), image_size=40))


def test_a_checkpoint_in_half_precision_with_more_than_the_variables(lenet, tmp_path):
    half = jax.tree.map(lambda x: x.astype(jnp.bfloat16), lenet[1]["params"])
    folder = save(tmp_path / "lenet", {"params": half, "opt_state": {"mu": half}, "step": 3})
    found = checkpoints.read_variables(folder)
    assert list(found) == ["params"]
    assert {x.dtype for x in jax.tree.leaves(found)} == {np.dtype(np.float32)}
    jax.tree.map(lambda x, y: np.testing.assert_array_equal(x[0], y), found["params"], half)


def test_a_checkpoint_without_the_output_layer(lenet, tmp_path):
    params = {layer: x for layer, x in lenet[1]["params"].items() if layer != "fc3"}
    folder = save(tmp_path / "lenet", {"params": params})
    model, trained = measure.network(config(weights=str(folder)))
    one = jax.tree.map(lambda x: x[0], trained)
    assert jax.eval_shape(model.apply, one, jnp.zeros((2, 32, 32, 3))).shape == (2, 84)


def test_damaged_checkpoints_are_one_sentence(lenet, tmp_path):
    folder = save(tmp_path / "lenet", lenet[1])
    for file in folder.rglob("*"):
        if file.is_file() and "_METADATA" not in file.name:
            file.write_bytes(file.read_bytes()[:10])
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    for damaged in (folder, tmp_path / "run", tmp_path):
        with pytest.raises(InputError, match="cannot be read as a run or a checkpoint") as error:
            measure.check(config(weights=str(damaged)))
        assert len(str(error.value)) < 300
        assert "\n" not in str(error.value)


def test_a_damaged_image_is_found_before_any_work(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (8, 64, 64, 3), np.uint8)
    for n, image in enumerate(noise):
        PIL.Image.fromarray(image).save(tmp_path / f"{n}.jpg")
    made = config(images=str(tmp_path), measure_points=8)
    measure.check(made)
    (tmp_path / "7.jpg").write_bytes((tmp_path / "7.jpg").read_bytes()[:2000])
    with pytest.raises(InputError, match=r"7\.jpg cannot be read as an image"):
        measure.check(made)


def test_a_line_says_what_is_assumed(tmp_path):
    np.savez(tmp_path / "x.npz", train_images=np.full((6, 32, 32, 3), 0.5))
    found = measure.images(config(images=str(tmp_path / "x.npz"), split="train"))
    assert found.note.startswith("6 of the 6 images of ")
    assert found.note.endswith("numbers from 0.5 to 0.5, taken as pixels")


def test_the_seeds_of_a_run_in_the_home_are_found(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "config.json").write_text('{"seeds": [3, 1]}')
    trained = {"params": np.zeros((2, 5))}
    assert measure.seeds_of("~", trained) == measure.seeds_of(str(tmp_path), trained) == (3, 1)
    assert measure.seeds_of(str(tmp_path / "elsewhere"), trained) == (0, 1)
