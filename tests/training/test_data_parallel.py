import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from relstab_jax.data import images
from relstab_jax.errors import InputError
from relstab_jax.models import as_model, features, layers
from relstab_jax.training import data_parallel, learner, losses, optimizers

P, V, B, EPOCHS = 40, 12, 16, 3


class Tiny(nn.Module):
    """Everything that could depend on the devices: batch statistics and dropout."""

    @nn.compact
    def __call__(self, x, train=False, axis_name=None):
        x = layers.Conv(4, 3, stride=2, padding=1, name="conv")(x)
        x = nn.relu(layers.BatchNorm(train, axis_name, name="norm")(x))
        x = layers.Dropout(0.2, train, axis_name)(layers.flatten(x))
        return features.output(self, "fc", x, 3)


MODEL = as_model(Tiny(), image_size=8, channels=3)
INPUTS = np.random.default_rng(0).integers(0, 256, (P + V, 8, 8, 3)).astype(np.uint8)
LABELS = np.random.default_rng(1).integers(0, 3, P + V)


def preprocess(key, x):
    return images.normalise(x, (0.5,) * 3, (0.25,) * 3)


def augment(key, x):
    crop, flip, noise = jax.random.split(key, 3)
    x = images.random_flip(flip, images.padded_crop(crop, x, 2))
    return images.with_noise(noise, preprocess(key, x), 1.0)


LOSS = optax.softmax_cross_entropy_with_integer_labels
TASK = learner.Task(augment, preprocess, LOSS, losses.classification_error)
PLAIN = TASK._replace(augment=preprocess)


def optimizer():
    schedule = optimizers.cosine_annealing(0.1, 2, P // B)
    return optimizers.sgd(schedule, momentum=0.9, weight_decay=5e-4)


@functools.cache
def training(devices, seeds_at_once=8, micro_batches=1, task=TASK):
    return data_parallel.compile_training(
        MODEL,
        optimizer(),
        task,
        learner.Sizes(P, EPOCHS, B, 8, micro_batches, seeds_at_once),
        jax.devices()[:devices],
    )


def started(devices, seeds=(0, 1), **options):
    made = training(devices, **options)
    keys = jax.vmap(lambda n: jax.random.fold_in(jax.random.key(5), n))(jnp.array(seeds))
    orders = [np.random.default_rng(seed).permutation(P + V) for seed in seeds]
    train, validation = (np.stack([o[part] for o in orders]) for part in (slice(P), slice(P, None)))
    memory = data_parallel.in_memory(INPUTS, LABELS, made.sharding)
    return made, made.start(keys), data_parallel.Data(memory, train, validation, keys)


def trained(devices, **options):
    made, state, data = started(devices, **options)
    E, looks = made.steps_per_epoch, []
    for epoch in range(EPOCHS):
        state = made.advance(state, data, epoch * E, (epoch + 1) * E)
        state, metrics = made.look(state, data, epoch + 1)
        looks.append(jax.device_get(metrics))
    for leaf in jax.tree.leaves(state):
        assert len(leaf.addressable_shards) == len(made.sharding.device_set)
        for shard in leaf.addressable_shards:
            np.testing.assert_array_equal(shard.data, leaf.addressable_data(0))
    return jax.device_get(state), looks


def assert_close(a, b, rtol=1e-4, atol=1e-5):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=rtol, atol=atol), a, b)


@pytest.fixture(scope="module")
def on_one_device():
    return trained(1)


def test_the_training_does_not_depend_on_the_devices(on_one_device):
    assert_close(trained(4), on_one_device)


@pytest.mark.slow
def test_a_seed_does_not_depend_on_those_beside_it(on_one_device):
    state, looks = on_one_device
    alone = trained(1, seeds=(1,))
    assert_close(alone, jax.tree.map(lambda a: a[1:], (state, looks)))


@pytest.mark.slow
def test_seeds_one_after_the_other_are_the_same(on_one_device):
    assert_close(trained(1, seeds_at_once=1), on_one_device)


def test_a_dispatch_is_any_number_of_steps(on_one_device):
    made, state, data = started(1)
    E = made.steps_per_epoch
    for epoch in range(EPOCHS):
        for step in range(epoch * E, (epoch + 1) * E):
            state = made.advance(state, data, step, step + 1)
        state, _ = made.look(state, data, epoch + 1)
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(state), on_one_device[0])


@pytest.mark.parametrize("devices", [1, 4])
def test_the_state_is_donated_and_not_copied(devices):
    """A step and a look write a network into the memory that it was in, on every device."""

    def addresses(state):
        kept = state.variables["params"], state.optimizer, state.best["params"]
        return {
            shard.data.unsafe_buffer_pointer()
            for leaf in jax.tree.leaves(kept)
            for shard in leaf.addressable_shards
        }

    made, state, data = started(devices)
    after = made.advance(state, data, 0, 1)
    before, params = addresses(after), after.variables["params"]
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(state))
    looked_at, _ = made.look(made.advance(after, data, 1, 2), data, 1)
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(params))
    assert addresses(looked_at) == before


def test_the_best_epoch_is_kept(on_one_device):
    state, looks = on_one_device
    errors = np.stack([look.validation_error for look in looks])
    np.testing.assert_array_equal(state.best_error, errors.min(0))
    np.testing.assert_array_equal(state.best_epoch, errors.argmin(0) + 1)
    made, _, data = started(1)
    _, error = made.evaluate(state.best, data, data.validation)
    np.testing.assert_allclose(error, errors.min(0), rtol=1e-6)


def test_an_evaluation_is_the_mean_over_the_examples():
    made, state, data = started(4)
    loss, error = made.evaluate(state.variables, data, data.validation)
    for s in range(2):
        variables = jax.tree.map(lambda a, s=s: a[s], state.variables)
        chosen = data.validation[s]
        x = (INPUTS[chosen] / 255 - 0.5) / 0.25
        outputs = MODEL.apply(variables, jnp.asarray(x, jnp.float32))
        at_label = jax.nn.log_softmax(outputs)[np.arange(V), LABELS[chosen]]
        np.testing.assert_allclose(loss[s], -at_label.mean(), rtol=1e-5)
        np.testing.assert_allclose(error[s], (outputs.argmax(1) != LABELS[chosen]).mean())


def test_a_step_is_one_of_plain_gradient_descent():
    """The first step on one device, against the whole batch in one call of the model."""
    made, state, data = started(2, task=PLAIN)
    before = jax.tree.map(lambda a: np.array(a[0]), state.variables)
    after = made.advance(state, data, 0, 1)
    # An epoch visits other examples at every step: what it visits shows in the training error
    # of single steps, so look for the batch among permutations of the key's own order.
    key = jax.random.fold_in(jax.random.fold_in(jax.random.key(5), 0), 0)
    order, step, _ = jax.random.split(key, 3)
    batch = jax.random.permutation(order, data.train[0])[:B]
    drop = jax.random.fold_in(jax.random.fold_in(jax.random.split(step)[1], 0), 0)
    x = jnp.asarray((INPUTS[batch] / 255 - 0.5) / 0.25, jnp.float32)

    def loss(params):
        outputs, _ = MODEL.train({**before, "params": params}, x, drop)
        return LOSS(outputs, jnp.asarray(LABELS)[batch]).mean()

    gradient = jax.grad(loss)(before["params"])
    expected = jax.tree.map(
        lambda w, g: w - 0.1 * (g + (5e-4 * w if w.ndim > 1 else 0)), before["params"], gradient
    )
    assert_close(jax.tree.map(lambda a: np.asarray(a[0]), after.variables["params"]), expected)


@pytest.mark.slow
def test_micro_batches_do_not_depend_on_the_devices():
    one, two = (trained(devices, micro_batches=2, task=PLAIN) for devices in (1, 2))
    assert_close(one, two)


def test_a_loss_that_is_not_finite_is_noted_with_its_step():
    made, state, data = started(1)
    state = made.advance(state, data, 0, 1)
    infinite = jax.tree.map(lambda a: a.at[1].mul(jnp.inf), state.variables["params"])
    state = state._replace(variables={**state.variables, "params": infinite})
    state = made.advance(state, data, 1, 2)
    assert np.asarray(state.diverged).tolist() == [0, 2]


@pytest.mark.parametrize(
    ("batch", "parts", "devices", "message"),
    [
        (128, 1, 3, "batch_size=128 does not divide over 3 devices .* multiple of 3, such as 126"),
        (12, 2, 4, "does not divide over 4 devices with micro_batches=2: use a multiple of 8"),
        (0, 1, 1, "batch_size=0 and micro_batches=1 must be at least 1"),
    ],
)
def test_an_impossible_batch_is_one_sentence(batch, parts, devices, message):
    with pytest.raises(InputError, match=message):
        data_parallel.check_batch(batch, parts, devices)
