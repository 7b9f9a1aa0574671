"""The shuffled networks: several permutations, their mean and their spread."""

import jax
import numpy as np

from relstab_jax import layerwise, models
from relstab_jax.keys import key_of
from relstab_jax.measures.driver import measure
from tests.compilations import compilations

KEY, SEEDS = key_of(0, "copies"), (2, 7)
IMAGES = np.random.default_rng(0).normal(size=(4, 16, 16, 1)).astype(np.float32)


def lenet():
    model = models.create("LeNet", num_classes=2, image_size=16, channels=1)
    variables = jax.jit(jax.vmap(model.init))(jax.vmap(jax.random.key)(np.array(SEEDS)))
    return model, {"init": variables, "trained": jax.tree.map(lambda w: 2 * w, variables)}


def sensitivities(shuffles):
    model, states = lenet()
    options = {"shuffle_key": key_of(0, "shuffle"), "shuffles": shuffles}
    return layerwise.sensitivities(model, states, SEEDS, IMAGES, KEY, **options)


def test_shuffled_channels_are_a_mean_over_permutations_with_its_spread():
    model, states = lenet()
    found = sensitivities(shuffles=2)
    assert found.D_spread.dims == ("state", "seed", "layer")
    for at, seed in enumerate(SEEDS):
        for state, variables in states.items():
            one = jax.tree.map(lambda w, at=at: w[at], variables)
            mixed = [models.shuffled(key_of(0, "shuffle", seed, n), one) for n in range(2)]
            networks = [one, *mixed]
            stack = jax.tree.map(lambda *w: np.stack(w), *networks)
            alone = measure(model.features, IMAGES, KEY, networks=stack)["conv2"].D
            here = found.sel(state=state, seed=seed, layer="conv2")
            np.testing.assert_allclose(here.D.sel(channels="all"), alone[0], rtol=1e-4)
            mixed = np.asarray(alone[1:])
            np.testing.assert_allclose(here.D.sel(channels="shuffled"), mixed.mean(), rtol=1e-4)
            np.testing.assert_allclose(here.D_spread, mixed.std(ddof=1), rtol=1e-3)
            assert mixed[0] != mixed[1]


def test_one_program_measures_the_networks_and_all_their_permutations():
    with compilations() as compiled:
        found = sensitivities(2)
    assert compiled.count("step") == 1
    assert (found.D_spread.sel(layer="output") > 0).all()
