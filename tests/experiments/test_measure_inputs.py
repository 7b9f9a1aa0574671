"""What the measurement of a network is given: checked as a whole before any work."""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import PIL.Image
import pytest

from configs import measure as measure_config
from relstab_jax import models
from relstab_jax.errors import InputError
from relstab_jax.experiments import measure
from relstab_jax.training import checkpoints

TFDS = str(pathlib.Path(__file__).parents[1] / "data" / "tfds")
IMAGES = jax.ShapeDtypeStruct((2, 32, 32, 3), jnp.float32)


def config(**fields):
    made = measure_config.get_config("smoke")
    made.update({"network": "LeNet", "data_dir": TFDS, "measure_points": 6} | fields)
    return made.lock()


@pytest.fixture(scope="module")
def variables():
    model = models.create("LeNet", num_classes=7, image_size=32, channels=3)
    return jax.tree.map(np.asarray, model.init(jax.random.key(5)))


def save(folder, state):
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(folder, state)
    return folder


def test_a_checkpoint_in_half_precision_with_more_than_the_variables(variables, tmp_path):
    half = jax.tree.map(lambda x: x.astype(jnp.bfloat16), variables["params"])
    folder = save(tmp_path / "lenet", {"params": half, "opt_state": {"mu": half}, "step": 3})
    found = checkpoints.read_variables(folder)
    assert list(found) == ["params"]
    assert {x.dtype for x in jax.tree.leaves(found)} == {np.dtype(np.float32)}
    jax.tree.map(lambda x, y: np.testing.assert_array_equal(x[0], y), found["params"], half)


def test_a_checkpoint_without_the_output_layer(variables, tmp_path):
    params = {layer: x for layer, x in variables["params"].items() if layer != "fc3"}
    folder = save(tmp_path / "lenet", {"params": params})
    model, trained = measure.network(config(weights=str(folder)))
    one = jax.tree.map(lambda x: x[0], trained)
    assert jax.eval_shape(model.apply, one, IMAGES).shape == (2, 84)


def test_damaged_checkpoints_are_one_sentence(variables, tmp_path):
    folder = save(tmp_path / "lenet", variables)
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
