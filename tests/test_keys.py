"""Keys, and that the numbers of a seed do not depend on the other seeds of a run.

`tests/experiments/test_scale_detection.py` tests the latter for Section 4.
"""

import importlib
import pathlib

import jax
import numpy as np
import pytest

from relstab_jax.keys import MAX_SEED, key_of

TFDS = str(pathlib.Path(__file__).parent / "data" / "tfds")
SMALL = {
    "scale_detection_2d:DenseNetL2,smoke": {
        "size": 8, "xi": 4, "gap": 1, "train_points": 64, "validation_points": 32,
        "test_points": 64, "measure_points": 16, "batch_size": 16, "epochs": 3,
        "measure_batch_size": 8, "seeds_at_once": 2,
    },
    "cifar10_noisy:DenseNetL2,smoke": {
        "data_dir": TFDS, "train_points": 32, "validation_points": 16, "test_points": 20,
        "measure_points": 8, "batch_size": 16, "evaluation_batch_size": 16, "seeds_at_once": 2,
        "epochs": 1,
    },
    "measure:smoke": {"network": "LeNet", "data_dir": TFDS, "measure_points": 6},
}  # fmt: skip


def run(name, workdir, **fields):
    file, _, words = name.partition(":")
    config = importlib.import_module(f"configs.{file}").get_config(words)
    config.update(SMALL[name] | fields)
    experiment = importlib.import_module(f"relstab_jax.experiments.{config.experiment}")
    experiment.check(config.lock())
    workdir.mkdir()
    return experiment.run(config, workdir)


@pytest.mark.parametrize(
    ("name", "seeds"),
    [
        ("measure:smoke", (3, 1)),  # compiled programs are those of (0, 3)
        pytest.param("scale_detection_2d:DenseNetL2,smoke", (3,), marks=pytest.mark.slow),
        pytest.param("cifar10_noisy:DenseNetL2,smoke", (3,), marks=pytest.mark.slow),
        pytest.param("measure:smoke", (3,), marks=pytest.mark.slow),
    ],
)
def test_a_seed_does_not_depend_on_the_others(name, seeds, tmp_path):
    one, other = (run(name, tmp_path / str(those), seeds=those) for those in ((0, 3), seeds))
    assert set(one.variables) == set(other.variables)
    for variable in one.variables:
        here, there = (
            x[variable].sel(seed=[3]) if "seed" in x[variable].dims else x[variable]
            for x in (one, other)
        )
        if here.dtype.kind == "f":
            np.testing.assert_allclose(here, there, rtol=1e-3, atol=1e-6, err_msg=variable)
        else:
            np.testing.assert_array_equal(here, there, err_msg=variable)


def data(*path):
    return tuple(jax.random.key_data(key_of(*path)).tolist())


def test_keys_of_different_paths_differ():
    paths = [
        (0,), (1,), (MAX_SEED,), (0, 0), (0, 1), (1, 0), (0, MAX_SEED), (0, "a"), (0, "b"),
        (0, "a", 0), (0, "a", 1), (0, "a", "b"), (0, "b", "a"), (0, 0, "a"),
    ]  # fmt: skip
    assert len({data(*path) for path in paths}) == len(paths)
    split = {tuple(k.tolist()) for k in jax.random.key_data(jax.random.split(key_of(0), 8))}
    assert not split & {data(0, name) for name in ("split", "init", "measure", "shuffle")}


def test_a_key_is_the_same_in_one_call_in_several_and_traced():
    expected = data(5, "measure", 2**31 + 1, "noise")
    assert data(key_of(5, "measure"), 2**31 + 1, "noise") == expected
    seeds = np.array([0, 2**31 + 1], np.uint32)
    keys = jax.jit(jax.vmap(lambda seed: key_of(5, "measure", seed, "noise")))(seeds)
    assert tuple(jax.random.key_data(keys)[1].tolist()) == expected
