"""Only the steps that may learn are computed: to the same bits as every step."""

import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from relstab_jax.experiments import scale_detection
from relstab_jax.training import sweep
from relstab_jax.training.devices import seed_sharding
from relstab_jax.training.look_ahead import lower_bound
from relstab_jax.training.sweep_state import Data, Descent, Network, StoppingRule

P, B, AHEAD = 8, 2, 64
RULE = StoppingRule(look_every=10, patience=500, max_epochs=1000)
DESCENT = Descent(
    rate=1e-3, decay=1 - 1e-3, train_points=P, batch_size=B, ahead=AHEAD, rounding=1e-9
)


def kinked(variables, decay, inputs):
    """Two ReLUs and biases: height + slope · |w - place| for inputs (height, slope, place)."""
    height, slope, place = inputs[..., 0], inputs[..., 1], inputs[..., 2]
    w = variables["w"] * decay
    v = jax.nn.relu(w - place) + jax.nn.relu(place - w)
    return height + slope * v + variables["bias"]


KINKED = Network(
    lambda key: {"w": jnp.ones(()), "bias": jnp.zeros(())},
    kinked,
    lambda variables, decay, inputs: jax.vmap(lambda d: kinked(variables, d, inputs))(decay),
    lambda variables, factor: variables | {"w": variables["w"] * factor},
)


def on_one_device():
    return seed_sharding(1)


def kinked_data(heights, slopes, places):
    """A seed for each row of margins' parameters [S, P]; all labels are +1."""
    inputs = jnp.stack([heights, slopes, places], axis=-1)
    labels = jnp.ones(heights.shape, int)
    keys = jax.random.split(jax.random.key(0), len(heights))
    return Data(keys, inputs, labels, inputs, (inputs, labels), jnp.zeros(len(keys), bool))


def learned_steps(network, descent, data, steps):
    """Advances step by step; returns the last step that learned [steps, S], and the seeds."""
    made = sweep.compile_sweep(network, descent, RULE, on_one_device())
    state, last = made.start(data.key), []
    for step in range(steps):
        state = made.advance(state, data, step, step + 1)
        last.append(np.asarray(state.since))
    return np.array(last), jax.device_get(state)


def assert_same_bits(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


@pytest.mark.usefixtures("float64")
def test_a_margin_that_touches_1_between_the_instants_is_not_missed():
    """Margins dip below 1 for some ten steps, anywhere between, and lie above at the instants."""
    turns = np.arange(8, AHEAD, 3)  # steps; the first look, after three quiet steps, is at 3
    places = jnp.asarray(DESCENT.decay**turns)[:, None] * jnp.ones((1, P))
    data = kinked_data(jnp.full_like(places, 1 - 2e-3), jnp.full_like(places, 0.5), places)
    expected, every = learned_steps(KINKED, DESCENT._replace(ahead=0), data, 80)
    found, ahead = learned_steps(KINKED, DESCENT, data, 80)
    first = (expected > 0).argmax(axis=0)
    nodes = np.array([3, 3 + AHEAD // 2, 3 + AHEAD])
    clear = abs(turns[:, None] - nodes).min(axis=1) > 5
    assert (first[clear] > 3).all()  # so that the look came first
    np.testing.assert_array_equal(found, expected)
    assert_same_bits(ahead.variables, every.variables)
    at_nodes = 1 - 2e-3 + 0.5 * abs(DESCENT.decay**nodes - np.asarray(places)[:, :1])
    assert (at_nodes[clear] > 1).all()  # what is computed at the instants alone shows nothing


def test_the_bound_holds_for_what_bends_one_way():
    random = np.random.default_rng(0)
    time = np.linspace(0, 1, 101)
    for _ in range(200):
        places, slopes = random.uniform(0, 1, (2, 5))
        convex = slopes @ abs(time - places[:, None]) + random.normal() * time
        for function in (convex, -convex):
            at_three = np.broadcast_to(function[[0, 50, 100], None], (3, 101))
            least = lower_bound(jnp.asarray(at_three), jnp.asarray(time))
            assert (np.asarray(least) <= function + 1e-5).all()


def waved(variables, decay, inputs):
    """height + slope · cos(4π t), alike at the three instants t = 0, 1/2, 1 of a look at step 3."""
    step = jnp.log(variables["w"] * decay) / np.log(DESCENT.decay)
    return inputs[..., 0] + inputs[..., 1] * jnp.cos(4 * np.pi * (step - 3) / AHEAD)


@pytest.mark.usefixtures("float64")
def test_margins_that_bend_both_ways_are_noticed_after_the_fact():
    network = KINKED._replace(
        outputs=waved,
        outputs_at=lambda variables, decay, inputs: jax.vmap(lambda d: waved(variables, d, inputs))(
            decay
        ),
    )
    heights = jnp.array([[1.5] * P, [1 + 5e-10] + [3.0] * (P - 1)])
    slopes = jnp.array([[1.0] * P, [0.0] + [1.0] * (P - 1)])
    data = kinked_data(heights, slopes, 0 * heights)
    made = sweep.compile_sweep(network, DESCENT, RULE, on_one_device())
    state = made.advance(made.start(data.key), data, 0, 20)
    # One falls to 0.5 unseen. Of the other, steps with the point so near 1 are computed.
    assert state.unforeseen[0] == 0
    assert 3 <= state.unforeseen[1] <= 5
    assert state.computed.tolist() == [3, 3 + state.unforeseen[1]]
    state, look = made.look(state, data, 5)  # at step 20, where both are lowest
    assert look.unforeseen[0] == P
    assert look.unforeseen[1] > P


@pytest.mark.usefixtures("float64")
def test_margins_that_are_far_from_1_cost_no_step():
    far = jnp.full((1, P), 3.0)
    data = kinked_data(far, 0 * far, 0 * far)
    _, state = learned_steps(KINKED, DESCENT, data, 200)
    assert state.computed.tolist() == [3]
    np.testing.assert_array_equal(state.variables["w"], [1.0])  # the decay is a factor beside it


@pytest.mark.usefixtures("float64")
def test_without_a_ridge_and_with_a_batch_of_all_points():
    heights = jnp.linspace(0.98953, 1.2, P)[None]
    data = kinked_data(heights, 0 * heights, 0 * heights)
    descent = DESCENT._replace(decay=1.0, batch_size=P)
    expected, every = learned_steps(KINKED, descent._replace(ahead=0), data, 120)
    found, ahead = learned_steps(KINKED, descent, data, 120)
    np.testing.assert_array_equal(found, expected)
    assert_same_bits(ahead.variables, every.variables)
    assert ahead.computed < every.computed


def paper(task, **fields):
    """Compiles the training of a paper's setting, with some fields other than there."""
    config = importlib.import_module(f"configs.task{task}").get_config()
    config.update(fields, look_every=10, patience=500, max_epochs=1000)
    sharding = seed_sharding(len(config.seeds))
    keys, _, data = scale_detection.prepare(config, sharding)
    return scale_detection.make_sweep(config, sharding), keys, data


def followed(made, keys, data, ends):
    """Advances to the ends, in epochs; returns the loss and the last step that learned at each."""
    state, step, seen = made.start(keys), 0, []
    for epoch in ends:
        state = made.advance(state, data, step, epoch * made.steps_per_epoch)
        step = epoch * made.steps_per_epoch
        seen.append((np.asarray(state.loss), np.asarray(state.since)))
    return np.array(seen), jax.device_get(state)


SMALL = {
    1: {"size": 16, "xi": 6, "gap": 2, "train_points": 24, "validation_points": 8, "depth": 3},
    2: {"size": 16, "xi": 4, "train_points": 16, "validation_points": 8, "depth": 3},
}


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("task", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_the_same_steps_learn_to_the_same_bits(task):
    fields = SMALL[task] | {"width": 16, "seeds": (3,), "learning_rate": 0.1}
    ends = range(10, 410, 10)
    expected, every = followed(*paper(task, **fields, look_ahead=False), ends)
    small = paper(task, **fields)
    found, ahead = followed(*small, ends)
    np.testing.assert_array_equal(found, expected)
    assert_same_bits(ahead.variables, every.variables)
    assert (expected[-5:, 0] == 0).any()  # well past interpolation
    assert ahead.computed < 0.6 * every.computed
    assert ahead.unforeseen == 0
    chunks, in_chunks = followed(*small, (10, 13, 14, 90, 91, 400))
    np.testing.assert_array_equal(chunks[-1], found[-1])
    assert_same_bits(in_chunks, ahead)


@pytest.mark.slow
@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(("task", "epochs"), [(1, 200), (2, 60)])
def test_the_same_steps_learn_in_the_papers_setting_at_width_32(task, epochs):
    fields = {"width": 32, "seeds": (0, 1)}
    ends = range(1, epochs + 1)
    expected, every = followed(*paper(task, **fields, look_ahead=False), ends)
    found, ahead = followed(*paper(task, **fields), ends)
    np.testing.assert_array_equal(found, expected)
    assert_same_bits(ahead.variables, every.variables)
    assert (ahead.computed < every.computed / 2).all()
    assert (ahead.unforeseen == 0).all()
