import jax.numpy as jnp
import numpy as np
import optax

from relstab_jax.training import optimizers


def test_cosine_annealing_falls_epoch_by_epoch_and_rises_again():
    schedule = optimizers.cosine_annealing(0.1, epochs=8, steps_per_epoch=3)
    found = [float(schedule(step)) for step in range(30)]
    expected = [0.1 * (1 + np.cos(np.pi * epoch / 8)) / 2 for epoch in range(10) for _ in range(3)]
    np.testing.assert_allclose(found, expected, atol=1e-8)
    assert found[24] < 1e-8
    np.testing.assert_allclose(found[27], 0.1 * (1 - np.cos(np.pi / 8)) / 2, rtol=1e-5)


def test_sgd_adds_the_decay_before_the_momentum_and_not_to_vectors():
    params = {"kernel": jnp.array([[2.0]]), "bias": jnp.array([2.0])}
    optimizer = optimizers.sgd(0.5, momentum=0.5, weight_decay=0.1)
    state = optimizer.init(params)
    gradient = {"kernel": jnp.array([[1.0]]), "bias": jnp.array([1.0])}
    for _ in range(2):
        updates, state = optimizer.update(gradient, state, params)
        params = optax.apply_updates(params, updates)
    # kernel: v = 1.2, w = 1.4; v = 0.6 + 1.14, w = 0.53. bias: v = 1, w = 1.5; v = 1.5, w = 0.75.
    np.testing.assert_allclose(params["kernel"], [[0.53]], rtol=1e-6)
    np.testing.assert_allclose(params["bias"], [0.75], rtol=1e-6)
