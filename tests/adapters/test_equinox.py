"""Networks of Equinox against what their modules return."""

import equinox as eqx
import jax
import numpy as np
import pytest

import relstab_jax as rs
from relstab_jax.adapters import from_equinox
from relstab_jax.errors import InputError

IMAGES = np.random.default_rng(0).normal(size=(6, 16, 16, 3)).astype(np.float32)


class Block(eqx.Module):
    conv: eqx.nn.Conv2d
    scale: float

    def __init__(self, key):
        self.conv = eqx.nn.Conv2d(4, 5, 3, key=key)
        self.scale = 2.0

    def __call__(self, x):
        return jax.nn.relu(self.conv(x)) * self.scale


class Net(eqx.Module):
    stem: eqx.nn.Conv2d
    blocks: list
    head: eqx.nn.Sequential

    def __init__(self, key):
        keys = jax.random.split(key, 3)
        self.stem = eqx.nn.Conv2d(3, 4, 3, padding=1, key=keys[0])
        self.blocks = [Block(keys[1])]
        self.head = eqx.nn.Sequential([eqx.nn.Dropout(), eqx.nn.Linear(5, 2, key=keys[2])])

    def __call__(self, x):
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        return self.head(x.mean(axis=(1, 2)))


def test_a_network_is_measured_by_its_modules():
    module = Net(jax.random.key(0))
    with pytest.raises(InputError, match=r"head.layers.0 is in training mode: .*inference_mode"):
        from_equinox(module)
    module = eqx.nn.inference_mode(module)
    found = rs.measure(
        from_equinox(module), IMAGES, 5, channels=("all", "mean", "shuffled"), shuffles=2
    )
    assert found.layer.values.tolist() == [
        "stem", "blocks.0.conv", "blocks.0", "head.layers.0", "head.layers.1", "output",
    ]  # fmt: skip

    def by_hand(x):
        stem = jax.vmap(module.stem)(x.transpose(0, 3, 1, 2))
        block = jax.vmap(module.blocks[0])(stem)
        return {"stem": stem, "block": block, "mean": block.mean(axis=1)}

    alone = rs.measure(by_hand, IMAGES, 5)
    R = found.R.sel(layer=["stem", "blocks.0"])
    np.testing.assert_allclose(R.sel(channels="all"), alone.R[:2], rtol=1e-4)
    np.testing.assert_allclose(R.sel(channels="mean")[1], alone.R[2], rtol=1e-4)
    assert (found.D_spread.sel(layer="output") > 0).all()
    assert type(module.stem) is eqx.nn.Conv2d  # it stays as it is
