"""What an accelerator computes, against the authors' numbers and against the CPU beside it.

Bounds are relative errors in norm, for the precisions that trainings and measurements use.
"""

import importlib
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from relstab_jax import models, results
from relstab_jax.experiments import scale_detection
from tests.accelerators.programs import sharding_over
from tests.models.test_networks import GOLDEN, created, filled, images_of
from tests.training import test_data_parallel

DEVICES = jax.devices()
pytestmark = pytest.mark.skipif(DEVICES[0].platform == "cpu", reason="there is no accelerator")


def relative_error(found, expected):
    found, expected = (
        np.concatenate([np.ravel(leaf).astype(np.float64) for leaf in jax.tree.leaves(tree)])
        for tree in (found, expected)
    )
    return np.linalg.norm(found - expected) / np.linalg.norm(expected)


def trained_sweep(device, task, epochs, **fields):
    config = importlib.import_module(f"configs.task{task}").get_config()
    config.update({"width": 64, "seeds": (0, 1), "ridge": 0.02, **fields})
    sharding = sharding_over([device], "seed")
    keys, _, data = scale_detection.prepare(config, sharding)
    with jax.default_matmul_precision(config.precision):
        sweep = scale_detection.make_sweep(config, sharding)
        state, E = sweep.start(keys), sweep.steps_per_epoch
        state = sweep.advance(state, data, 0, epochs * E)
        state, metrics = sweep.look(state, data, epochs)
        return jax.device_get((sweep.variables(state, epochs * E), metrics))


@pytest.mark.parametrize(("task", "epochs"), [(1, 8), (2, 1)])
def test_a_sweep_starts_as_on_the_cpu(task, epochs):
    found, _ = trained_sweep(DEVICES[0], task, epochs)
    expected, _ = trained_sweep(jax.devices("cpu")[0], task, epochs)
    assert relative_error(found, expected) < 1e-4


@pytest.mark.parametrize(("task", "epochs"), [(1, 600), (2, 200)])
def test_looking_ahead_changes_no_bit(task, epochs):
    found, metrics = trained_sweep(DEVICES[0], task, epochs)
    every_step, of_every = trained_sweep(DEVICES[0], task, epochs, look_ahead=False)
    jax.tree.map(np.testing.assert_array_equal, found, every_step)
    assert (metrics.computed_steps < of_every.computed_steps / 2).all()
    assert not metrics.unforeseen.any()


def trained_network(device):
    test_data_parallel.training.cache_clear()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jax, "devices", lambda: [device])
        with jax.default_matmul_precision("float32"):
            return test_data_parallel.trained(1)


def test_a_training_is_that_of_the_cpu_and_the_same_each_time():
    found, again = trained_network(DEVICES[0]), trained_network(DEVICES[0])
    jax.tree.map(np.testing.assert_array_equal, found, again)
    expected = trained_network(jax.devices("cpu")[0])
    assert relative_error(found, expected) < 1e-3


def test_the_command_measures_as_on_the_cpu(tmp_path):
    def measured(name, **environment):
        command = [
            *(sys.executable, "-m", "relstab_jax.main", "--config=configs/measure.py:smoke"),
            *("--config.network=VGG11bn", "--config.data_dir=tests/data/tfds"),
            f"--workdir={tmp_path / name}",
        ]
        subprocess.run(command, env=os.environ | environment, check=True)
        return results.load(tmp_path / name / results.RESULTS)

    expected, found = measured("cpu", JAX_PLATFORMS="cpu"), measured("device")
    assert found.device_kind == DEVICES[0].device_kind
    for name in "DGR":  # mean channels have none at the output
        of_cpu, of_device = (d[name].sel(channels=["all", "shuffled"]) for d in (expected, found))
        assert relative_error(of_device, of_cpu) < 1e-3


@pytest.mark.parametrize(
    ("precision", "bound"), [("float32", 1e-4), ("tensorfloat32", 1e-2), ("bfloat16", 1e-1)]
)
@pytest.mark.parametrize(
    "variant",
    [
        *("cifar10/VGG11bn", "cifar10/AlexNet", "cifar10/LeNet", "cifar10/EfficientNetB0"),
        *("cifar10/ResNet18", "cifar10/DenseNetL4", "imagenet/resnet18"),
    ],
)
def test_logits_match_pytorch_at_each_precision(variant, precision, bound):
    golden = GOLDEN[variant]
    variables = models.from_torch(variant.rpartition("/")[2], filled(golden["state"]))
    variables, images = jax.tree.map(
        lambda a: jnp.asarray(a, jnp.float32), (variables, images_of(golden))
    )
    with jax.default_matmul_precision(precision):
        logits = created(variant).apply(variables, images)
    assert relative_error(logits, golden["logits"]) < bound
