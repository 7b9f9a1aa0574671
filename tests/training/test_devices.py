import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from relstab_jax.training.devices import on_cpu, seed_sharding


def test_a_function_on_the_cpu_computes_there_and_returns_the_same():
    elsewhere = jax.devices()[3]
    used = []

    def permuted(key, x):
        used.append(jnp.zeros(()).devices())
        return {"order": jax.random.permutation(key, x)}

    with jax.default_device(elsewhere):
        key = jax.random.key(5)
        found = on_cpu(permuted)(key, np.arange(100))["order"]
    assert isinstance(found, np.ndarray)
    assert used == [{jax.local_devices(backend="cpu")[0]}]
    np.testing.assert_array_equal(found, jax.random.permutation(key, 100))


def test_the_cpu_is_there_beside_the_named_platforms():
    program = (
        "import jax; from relstab_jax.training.devices import one_device_per_core; "
        "one_device_per_core(); print(jax.config.jax_platforms)"
    )
    for named, expected in (("cuda", "cuda,cpu"), ("cpu", "cpu"), ("tpu,cpu", "tpu,cpu")):
        done = subprocess.run(
            [sys.executable, "-c", program],
            env=os.environ | {"JAX_PLATFORMS": named},
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.split() == [expected]


@pytest.mark.parametrize(
    ("seeds", "devices", "each"), [(8, 8, 1), (10, 5, 2), (3, 3, 1), (17, 6, 3)]
)
def test_the_seed_axis_takes_as_many_cores_as_shorten_it(seeds, devices, each):
    sharding = seed_sharding(seeds)
    assert sharding.num_devices == devices
    assert -(-seeds // devices) == each


def test_the_seed_axis_takes_all_accelerators(monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "tpu")
    assert seed_sharding(3).device_set == set(jax.devices())
