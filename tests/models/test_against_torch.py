"""The same training step here and in PyTorch, with the same weights, in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from relstab_jax import models

torch = pytest.importorskip("torch", reason="needs the extra `torch`")
from tests import torch_networks  # noqa: E402

TWINS = {
    "VGG11bn": lambda: torch_networks.VGG(batch_norm=True),
    "ResNet18": torch_networks.ResNet18,
}


def arrays(state):
    return {name: x.detach().numpy().copy() for name, x in state.items()}


@pytest.mark.parametrize("name", TWINS)
def test_a_training_step(name, float64):
    """Loss, gradients and running statistics after one batch, and logits after it."""
    torch.manual_seed(0)
    twin = TWINS[name]().double()
    model = models.create(name, num_classes=10, image_size=32, channels=3)
    variables = models.from_torch(name, arrays(twin.state_dict()))
    x = np.random.default_rng(0).standard_normal((4, 32, 32, 3))
    labels = np.arange(4)

    @jax.jit
    def step(params, x):
        def loss(params):
            logits, trained = model.train({**variables, "params": params}, x, jax.random.key(0))
            losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
            return losses.mean(), trained

        return jax.value_and_grad(loss, has_aux=True)(params)

    (loss, trained), gradients = step(variables["params"], jnp.asarray(x))
    theirs = torch.tensor(x.transpose(0, 3, 1, 2))
    their_loss = torch.nn.functional.cross_entropy(twin(theirs), torch.tensor(labels))
    their_loss.backward()
    assert loss == pytest.approx(their_loss.item(), rel=1e-10)

    # As a state dict: the gradients in place of the parameters, and the new running statistics.
    expected = arrays(twin.state_dict())
    expected |= {parameter: x.grad.numpy() for parameter, x in twin.named_parameters()}
    expected = models.from_torch(name, expected)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-7, atol=1e-10),
        {**trained, "params": gradients},
        expected,
    )

    twin.eval()
    np.testing.assert_allclose(
        model.apply(trained, jnp.asarray(x)), twin(theirs).detach(), rtol=1e-8, atol=1e-10
    )
