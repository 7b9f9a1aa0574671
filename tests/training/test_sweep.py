import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from relstab_jax import models
from relstab_jax.models import patches, simple_cnn
from relstab_jax.training import sweep
from relstab_jax.training.devices import seed_sharding
from relstab_jax.training.sweep_state import Data, Descent, Network, StoppingRule

P, B = 24, 4
RULE = StoppingRule(look_every=2, patience=3, max_epochs=20)
MODEL = models.create(
    "SimpleCNN", num_classes=1, image_size=8, channels=1, width=6, depth=2, filter_size=2, stride=2
)
RATE, RIDGE = 0.01, 0.1


NETWORK = Network(
    MODEL.init,
    lambda variables, decay, x: MODEL.apply(variables, x, decay)[:, 0],
    lambda variables, decay, points: simple_cnn.outputs(variables, points, decay)[..., 0],
    simple_cnn.with_kernels_times,
)
DESCENT = Descent(
    rate=RATE,
    decay=1 - 2 * RATE * RIDGE / (6 * 2),
    train_points=P,
    batch_size=B,
    ahead=40,
    rounding=1e-5,
)


def data_of(seeds):
    """Random images; the label is the sign of the first pixel."""

    def points(seed):
        key = jax.random.fold_in(jax.random.key(7), seed)
        x = jax.random.normal(key, (P + 8, 8, 1))
        return key, x, jnp.where(x[:, 0, 0] > 0, 1, -1)

    key, x, y = jax.vmap(points)(jnp.array(seeds))

    def distinct(images):
        each = [patches.distinct(np.asarray(of_seed), 2, (2, 2)) for of_seed in images]
        return patches.stacked(each)

    validation = distinct(x[:, P:]), y[:, P:]
    padding = jnp.zeros(len(seeds), bool)
    return Data(key, x[:, :P], y[:, :P], distinct(x[:, :P]), validation, padding)


def one_device():
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:1]), ("seed",))
    return jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("seed"))


@functools.cache
def sweep_on(sharding):
    """One sweep for all tests, so that they share what is compiled."""
    return sweep.compile_sweep(NETWORK, DESCENT, RULE, sharding)


def compiled(seeds, sharding=None):
    sharding = sharding or one_device()
    made = sweep_on(sharding)
    data = jax.device_put(data_of(seeds), sharding)
    keys = jax.vmap(lambda i: jax.random.fold_in(jax.random.key(0), i))(jnp.array(seeds))
    return made, made.start(keys), data


def train(seeds, steps, sharding=None):
    made, state, data = compiled(seeds, sharding)
    return jax.device_get(made.advance(state, data, 0, steps))


def assert_same(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


@pytest.mark.usefixtures("float64")
def test_steps_are_gradient_descent_on_hinge_and_ridge():
    """Against NumPy: the gradient by central differences of hinge loss plus ridge, written out."""
    made, state, data = compiled([3])
    before = jax.tree.map(lambda a: np.asarray(a[0]), jax.device_get(state.variables))
    after = jax.device_get(made.advance(state, data, 0, 1))
    batch = np.asarray(after.order[0])[:B]
    x, y = (np.asarray(a[0])[batch] for a in (data.inputs, data.labels))

    def value(variables):
        p, f = variables["params"], x
        for name in ("conv1", "conv2"):
            w, b = p[name]["kernel"], p[name]["bias"]
            seen = f.reshape(B, f.shape[1] // 2, -1)
            z = seen @ w.reshape(-1, 6) / np.sqrt(seen.shape[-1]) + b
            f = np.sqrt(2) * np.maximum(z, 0)
        o = f.mean(1) @ p["readout"]["kernel"][:, 0] / 6 + p["readout"]["bias"][0]
        squares = sum((p[name]["kernel"] ** 2).sum() for name in ("conv1", "conv2"))
        return np.maximum(0, 1 - y * o).mean() + RIDGE * squares / (6 * 2)

    leaves, tree = jax.tree.flatten(before)
    for i, leaf in enumerate(leaves):
        gradient = np.zeros_like(leaf)
        for position in np.ndindex(leaf.shape):
            sides = []
            for h in (1e-6, -1e-6):
                moved = [np.array(a) for a in leaves]
                moved[i][position] += h
                sides.append(value(jax.tree.unflatten(tree, moved)))
            gradient[position] = (sides[0] - sides[1]) / 2e-6
        found = jax.tree.leaves(after.variables)[i][0]
        np.testing.assert_allclose(found, leaf - RATE * gradient, atol=1e-9)


def test_an_epoch_visits_every_point_once_in_an_order_of_its_own():
    made, state, data = compiled([0, 1, 2])
    orders = []
    for epoch in range(3):
        state = made.advance(state, data, 6 * epoch, 6 * epoch + 6)
        orders.append(np.asarray(state.order))
    flat = [o for order in orders for o in order]
    assert all(sorted(o) == list(range(P)) for o in flat)
    assert len({tuple(o) for o in flat}) == len(flat)


@pytest.mark.usefixtures("float64")
def test_a_seed_does_not_depend_on_the_others_nor_on_the_devices():
    steps = 5 * 6
    seeds = list(range(8))
    together = train(seeds, steps, seed_sharding(8))  # a device each
    on_one = train(seeds, steps)
    assert_same(together, on_one)
    alone = train([5], steps)
    assert_same(jax.tree.map(lambda a: a[5:6], together), alone)


def test_a_seed_that_only_pads_the_axis_is_not_trained():
    made, state, data = compiled([0, 1, 2])
    initial = jax.device_get(state.variables)
    every = jax.device_get(made.advance(state, data, 0, 12))
    made, state, data = compiled([0, 1, 2])
    data = data._replace(padding=jnp.array([False, False, True]))
    state = made.advance(state, data, 0, 12)
    for seed, expected in ((0, every.variables), (1, every.variables), (2, initial)):
        found, same = (
            jax.tree.map(lambda a, seed=seed: np.asarray(a)[seed], tree)
            for tree in (state.variables, expected)
        )
        assert_same(found, same)
    assert state.computed[2] == 0
    assert made.look(state, data, 2)[1].stopped.tolist() == [False, False, True]


def test_a_look_does_not_copy_the_weights():
    made, state, data = compiled([0, 1, 2])
    state = made.advance(state, data, 0, 12)
    looked_at, _ = made.look(state, data, 2)
    for before, after in zip(
        jax.tree.leaves(state.variables), jax.tree.leaves(looked_at.variables), strict=True
    ):
        assert after is before


def test_sharded_training_needs_no_communication():
    made, state, data = compiled(list(range(8)), seed_sharding(8))
    text = made.advance.lower(state, data, 0, 6).compile().as_text()
    for collective in ("all-reduce", "all-gather", "collective-permute", "all-to-all"):
        assert collective not in text


@pytest.mark.usefixtures("float64")
def test_chunks_do_not_change_the_numbers_and_compile_once():
    whole = train([3], 20)
    made, state, data = compiled([3])
    compilations = made.advance._cache_size()
    for step, until in ((0, 1), (1, 6), (6, 7), (7, 20)):
        state = made.advance(state, data, step, until)
    assert_same(jax.device_get(state), whole)
    assert made.advance._cache_size() == compilations


def with_loss(state, data, losses_, margins):
    """Seeds of given training loss, with outputs near `margin` · label on the validation points."""
    variables = jax.tree.map(lambda a: a, state.variables)
    variables["params"]["readout"] = {
        "kernel": variables["params"]["readout"]["kernel"] * 1e-2,  # the outputs are not all equal
        "bias": jnp.array(margins)[:, None],
    }
    ones = (data.validation[0], jnp.ones_like(data.validation[1]))
    return state._replace(variables=variables, loss=jnp.array(losses_)), data._replace(
        validation=ones
    )


def test_seeds_stop_by_the_rule():
    made, state, data = compiled([0, 1, 2])
    # Loss zero and solved; loss zero and unsolved; loss not zero.
    state, data = with_loss(state, data, [0.0, 0.0, 0.1], [1.0, -1.0, 1.0])
    stopped = {}
    for epoch in range(2, 22, 2):
        state, look = made.look(state, data, epoch)
        for seed in np.flatnonzero(look.stopped):
            stopped.setdefault(int(seed), epoch)
    np.testing.assert_array_equal(look.validation_error, [0, 1, 0])
    np.testing.assert_array_equal(state.interpolation_epoch, [2, 2, 0])
    assert stopped == {0: 6, 1: 20, 2: 20}  # 3 · e*, and the cap
    np.testing.assert_array_equal(state.epochs, [6, 20, 20])
    assert not look.diverged.any()


def test_a_stopped_seed_is_frozen_while_others_go_on():
    made, state, data = compiled([0, 1, 2])
    state = state._replace(epochs=jnp.array([4, 0, 0], jnp.int32))
    before = jax.device_get(state.variables)
    after = jax.device_get(made.advance(state, data, 0, 12).variables)
    assert_same(jax.tree.map(lambda a: a[0], before), jax.tree.map(lambda a: a[0], after))
    assert (before["params"]["conv1"]["kernel"][1] != after["params"]["conv1"]["kernel"][1]).any()


def test_the_networks_of_a_step_have_decayed_until_it_or_until_they_stopped():
    made, state, data = compiled([0, 1, 2])
    state = made.advance(state, data, 0, 12)._replace(epochs=jnp.array([3, 0, 0], jnp.int32))
    found = jax.device_get(made.variables(state, 24))
    steps = np.array([18, 24, 24]) - np.asarray(state.since)
    for name in ("conv1", "conv2"):
        kernel = np.asarray(state.variables["params"][name]["kernel"])
        expected = kernel * (DESCENT.decay**steps)[:, None, None, None]
        np.testing.assert_allclose(found["params"][name]["kernel"], expected, rtol=1e-6)
    readout = state.variables["params"]["readout"]
    assert_same(found["params"]["readout"], jax.device_get(readout))


def test_looks_at_a_stopped_seed_show_it_as_it_stopped():
    made, state, data = compiled([0, 1, 2])
    state = made.advance(state, data, 0, 12)._replace(epochs=jnp.array([2, 2, 2], jnp.int32))
    _, first = made.look(state, data, 2)
    _, later = made.look(state, data, 200_000)
    jax.tree.map(np.testing.assert_array_equal, later, first)
    assert not later.diverged.any()


def test_a_dead_seed_stops_and_is_marked():
    """Of a large step no unit of a layer may be left active; then the filters never change."""
    made, state, data = compiled([0, 1, 2])
    state = made.advance(state, data, 0, 12)
    state.variables["params"]["conv2"]["bias"] = (
        state.variables["params"]["conv2"]["bias"].at[1].set(-1e3)
    )
    before = jax.device_get(state.variables["params"]["conv1"]["kernel"])
    state = made.advance(state, data, 12, 24)
    after = made.variables(state, 24)["params"]["conv1"]["kernel"]
    decayed = before[1] * DESCENT.decay ** (24 - 12)
    np.testing.assert_allclose(after[1], decayed, rtol=1e-5)
    state, look = made.look(state, data, 4)
    np.testing.assert_array_equal(look.diverged, [False, True, False])
    np.testing.assert_array_equal(state.epochs, [0, 4, 0])


def test_a_diverging_seed_is_marked_and_touches_no_other():
    made, state, data = compiled([0, 1, 2])
    good = jax.device_get(made.advance(state, data, 0, 12))
    made, state, data = compiled([0, 1, 2])
    state.variables["params"]["conv2"]["kernel"] = (
        state.variables["params"]["conv2"]["kernel"].at[1].multiply(1e38)
    )
    state = made.advance(state, data, 0, 12)
    state, look = made.look(state, data, 2)
    np.testing.assert_array_equal(look.diverged, [False, True, False])
    np.testing.assert_array_equal(look.stopped, [False, True, False])
    np.testing.assert_array_equal(state.epochs, [0, 2, 0])
    others = np.array([0, 2])
    assert_same(
        jax.tree.map(lambda a: np.asarray(a)[others], state.variables),
        jax.tree.map(lambda a: a[others], good.variables),
    )
