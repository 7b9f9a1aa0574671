"""The shuffled networks: several permutations, their mean and their spread."""

import logging
import pathlib
from typing import NamedTuple

import jax
import numpy as np
import pytest

from relstab_jax import main, models
from relstab_jax.experiments import layers, problems, train_images
from relstab_jax.keys import key_of

CONFIGS = pathlib.Path(__file__).parents[2] / "configs"


class Found(NamedTuple):
    D: jax.Array


@pytest.mark.parametrize("shuffles", [pytest.param(1, marks=pytest.mark.slow), 4])
def test_shuffled_channels_are_a_mean_over_permutations_with_its_spread(shuffles):
    model = models.create("LeNet", num_classes=2, image_size=32, channels=1)
    key, seeds = key_of(0, "shuffle"), (2, 7)
    variables = jax.jit(jax.vmap(model.init))(jax.vmap(jax.random.key)(np.array(seeds)))

    def value(networks):  # depends on which channel meets which
        return networks["params"]["conv2"]["kernel"][:, 0, 0, 0, 0]

    def measure(features, networks):
        del features
        return {("all", "conv2"): Found(value(networks)), ("all", "output"): Found(value(networks))}

    states = {"init": variables, "trained": jax.tree.map(lambda w: 2 * w, variables)}
    found = layers.sensitivities(model, states, seeds, key, measure, shuffles=shuffles)
    assert found.D_spread.dims == ("state", "seed", "layer")
    for at, seed in enumerate(seeds):
        one = jax.tree.map(lambda w, at=at: w[at], variables)
        mixed = [
            float(
                models.shuffled(key_of(key, seed, n), one)["params"]["conv2"]["kernel"][0, 0, 0, 0]
            )
            for n in range(shuffles)
        ]
        for state, factor in (("init", 1), ("trained", 2)):
            here = found.sel(state=state, seed=seed, layer="conv2")
            np.testing.assert_allclose(here.D.sel(channels="all"), factor * value(variables)[at])
            expected = factor * np.mean(mixed)
            np.testing.assert_allclose(here.D.sel(channels="shuffled"), expected, rtol=1e-5)
            spread = factor * np.std(mixed, ddof=1) if shuffles > 1 else np.nan
            np.testing.assert_allclose(here.D_spread, spread, rtol=1e-5)
    assert shuffles == 1 or len(set(mixed)) > 1


@pytest.mark.slow
def test_one_program_measures_the_networks_and_all_their_permutations(caplog):
    config = main.configuration(
        [
            f"--config={CONFIGS / 'scale_detection_2d.py'}:LeNet,smoke", "--config.size=16",
            "--config.test_points=16", "--config.measure_points=4", "--config.copies=1",
        ]
    )[0]  # fmt: skip
    model, problem = train_images.network(config), problems.problem(config)
    seeds = np.array(config.seeds, np.uint32)
    states = {"init": jax.vmap(model.init)(jax.vmap(jax.random.key)(seeds))}
    examples = np.stack([problem.split(key_of(0, "split", seed)).test[:4] for seed in config.seeds])

    def measure(features, networks):
        return problem.measure(features, networks, key_of(0, "measure"), seeds, examples)

    with jax.log_compiles(), caplog.at_level(logging.WARNING, "jax"):
        found = layers.sensitivities(
            model, states, config.seeds, key_of(0, "shuffle"), measure, shuffles=3
        )
    compiled = [line for line in caplog.messages if line.startswith("Compiling jit(of_stack)")]
    assert len(compiled) == 1
    assert (found.D_spread.sel(layer="output") > 0).all()
