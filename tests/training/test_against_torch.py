"""Steps of the whole training, against PyTorch's optimizer and schedule from the same weights."""

import pathlib
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from relstab_jax import models
from relstab_jax.training import data_parallel, learner, losses, optimizers

torch = pytest.importorskip("torch", reason="needs the extra `torch`")
sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
from tests import torch_networks  # noqa: E402

RATE, MOMENTUM, DECAY, EPOCHS = 0.02, 0.9, 5e-2, 5
LOSS = optax.softmax_cross_entropy_with_integer_labels
P = 8  # one batch is the whole set, so that its order does not matter


def as_stored(key, x):
    return x


def test_two_steps_of_a_vgg_on_two_devices(float64):
    torch.manual_seed(0)
    twin = torch_networks.VGG(batch_norm=True).double()
    x = np.random.default_rng(0).standard_normal((P, 32, 32, 3))
    labels = np.arange(P)
    model = models.create("VGG11bn", num_classes=10, image_size=32, channels=3)

    def as_variables():
        state = {name: value.detach().numpy().copy() for name, value in twin.state_dict().items()}
        return models.from_torch("VGG11bn", state)

    made = data_parallel.compile_training(
        model,
        optimizers.sgd(
            optimizers.cosine_annealing(RATE, 0.8 * EPOCHS, 1),
            momentum=MOMENTUM,
            weight_decay=DECAY,
        ),
        learner.Task(as_stored, as_stored, LOSS, losses.classification_error),
        learner.Sizes(P, EPOCHS, P, P),
        jax.devices()[:2],
    )
    keys = jax.random.split(jax.random.key(0), 1)
    everything = np.arange(P)[None]
    memory = data_parallel.in_memory(x, labels, made.sharding)
    data = data_parallel.Data(memory, everything, everything, keys)
    start = jax.tree.map(lambda a: jnp.asarray(a)[None], as_variables())
    state = made.start(keys)._replace(variables=jax.device_put(start, made.sharding))

    decayed = [p for p in twin.parameters() if p.ndim >= 2]
    others = [p for p in twin.parameters() if p.ndim < 2]
    optimizer = torch.optim.SGD(
        [{"params": decayed, "weight_decay": DECAY}, {"params": others}],
        lr=RATE,
        momentum=MOMENTUM,
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=0.8 * EPOCHS)
    theirs = torch.tensor(x.transpose(0, 3, 1, 2))
    for epoch in range(2):
        state = made.advance(state, data, epoch, epoch + 1)
        loss = torch.nn.functional.cross_entropy(twin(theirs), torch.tensor(labels))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        assert float(state.loss[0]) == pytest.approx(loss.item(), rel=1e-7)
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a[0], b, rtol=1e-5, atol=1e-8),
            state.variables,
            as_variables(),
        )
