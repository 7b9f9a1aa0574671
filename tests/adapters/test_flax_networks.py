"""Networks of linen and nnx against the same layers written out."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import relstab_jax as rs
from relstab_jax.adapters import from_flax, from_nnx
from relstab_jax.errors import InputError
from relstab_jax.keys import key_of
from relstab_jax.models.model import orders

IMAGES = np.random.default_rng(0).normal(size=(6, 16, 16, 3)).astype(np.float32)


class Act(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.relu(x)


class Block(nn.Module):
    @nn.compact
    def __call__(self, x, train):
        x = nn.Conv(5, (3, 3), name="conv")(x)
        return nn.relu(nn.BatchNorm(use_running_average=not train, name="norm")(x))


class Table(nn.Module):
    """Has no axis for the images."""

    @nn.compact
    def __call__(self):
        return self.param("table", nn.initializers.ones, (1, 5))


class Net(nn.Module):
    @nn.compact
    def __call__(self, x, train=False):
        act = Act(name="act")
        x = act(nn.Conv(4, (3, 3), name="conv")(x))
        x = act(Block(name="block")(x, train).mean(axis=(1, 2)) - 0.1)
        x = nn.Dropout(0.5, deterministic=not train)(x * Table(name="table")())
        return nn.Sequential([nn.Dense(7, name="fc1"), nn.relu, nn.Dense(2, name="fc2")])(x)


@pytest.fixture(scope="module")
def linen():
    module = Net()
    variables = jax.jit(module.init)(jax.random.key(0), IMAGES)
    return module, variables


def conv(x, params):
    dims = ("NHWC", "HWIO", "NHWC")
    y = jax.lax.conv_general_dilated(x, params["kernel"], (1, 1), "SAME", dimension_numbers=dims)
    return y + params["bias"][None, None, None]


def written_out(params, x):
    f = {"conv": conv(x, params["conv"])}
    f["act"] = nn.relu(f["conv"])
    f["block.conv"] = conv(f["act"], params["block"]["conv"])
    f["block.norm"] = f["block.conv"] / (1 + 1e-5) ** 0.5
    f["block"] = nn.relu(f["block.norm"])
    f["act#2"] = nn.relu(f["block"].mean(axis=(1, 2)) - 0.1)
    f["fc1"] = f["act#2"] @ params["fc1"]["kernel"] + params["fc1"]["bias"][None]
    f["output"] = nn.relu(f["fc1"]) @ params["fc2"]["kernel"] + params["fc2"]["bias"][None]
    return f


def test_layers_of_linen_are_what_its_submodules_return(linen):
    module, variables = linen
    network = from_flax(module, variables, train=False)
    expected = written_out(variables["params"], IMAGES)
    for batch in (IMAGES, IMAGES[:1]):
        found = network(jnp.asarray(batch))
        assert [name for name in found if name in expected] == [
            "conv", "act", "block.conv", "block.norm", "block", "act#2", "fc1", "output",
        ]  # fmt: skip
        assert "table" not in found
        for name, f in expected.items():
            np.testing.assert_allclose(found[name], f[: len(batch)], rtol=1e-4, atol=1e-5)


def test_linen_is_measured_as_the_function_is_with_shuffled_channels_too(linen):
    module, variables = linen
    layers = ["conv", "block", "output"]
    options = {"layers": layers, "copies": 2}
    network = from_flax(module, variables)
    found = rs.measure(
        network, IMAGES, 5, channels=("mean", "all", "shuffled"), shuffles=2, **options
    )
    assert found.D.dims == ("channels", "layer")
    assert found.layer.values.tolist() == layers

    alone = rs.measure(lambda x: written_out(variables["params"], x), IMAGES, 5, **options)
    for name in ("D", "G", "R", "D_error", "G_error", "R_error"):
        np.testing.assert_allclose(found[name].sel(channels="all"), alone[name], rtol=1e-4)
    assert found.D.sel(channels="mean").isnull().values.tolist() == [False, False, True]
    channel = rs.measure(
        lambda x: {"conv": conv(x, variables["params"]["conv"]).mean(axis=-1)}, IMAGES, 5, copies=2
    )
    np.testing.assert_allclose(found.R.sel(channels="mean")[0], channel.R[0], rtol=1e-4)

    shuffled = []
    for n in range(2):
        order = orders(
            key_of(key_of(5, "shuffle"), n),
            {"params.block.conv.kernel": 4, "params.conv.kernel": 3},
        )
        assert sorted(order["params.block.conv.kernel"].tolist()) == [0, 1, 2, 3]
        mixed = jax.tree.map(lambda x: x, variables["params"])
        for name, at in (("conv", mixed["conv"]), ("block.conv", mixed["block"]["conv"])):
            at["kernel"] = at["kernel"][:, :, order[f"params.{name}.kernel"]]
        shuffled.append(mixed)
    stack = jax.tree.map(lambda *x: jnp.stack(x), *shuffled)
    mixed = rs.measure(written_out, IMAGES, 5, networks=stack, **options).D
    np.testing.assert_allclose(found.D.sel(channels="shuffled"), mixed.mean("network"), rtol=1e-4)
    np.testing.assert_allclose(found.D_spread, mixed.std("network", ddof=1), rtol=1e-2)


def test_linen_in_training_mode_is_refused(linen):
    module, variables = linen
    with pytest.raises(InputError, match=r"Net updates its variables .* such as train=False"):
        rs.measure(from_flax(module, variables, train=True), IMAGES, 0)


class NnxNet(nnx.Module):
    def __init__(self, rngs):
        self.convs = nnx.List(
            [nnx.Conv(3, 4, (3, 3), rngs=rngs), nnx.Conv(4, 5, (3, 3), rngs=rngs)]
        )
        self.norm = nnx.BatchNorm(5, rngs=rngs)
        self.drop = nnx.Dropout(0.5, rngs=rngs)
        self.head = nnx.Linear(5, 2, rngs=rngs)

    def __call__(self, x):
        for convolution in self.convs:
            x = nnx.relu(convolution(x))
        return self.head(self.drop(self.norm(x).mean(axis=(1, 2))))


def test_nnx_is_measured_by_its_submodules():
    module = NnxNet(nnx.Rngs(0))
    with pytest.raises(InputError, match=r"(norm|drop) is in training mode: call eval\(\)"):
        from_nnx(module)
    module.eval()
    network = from_nnx(module)
    found = rs.measure(network, IMAGES, 5, channels=("all", "shuffled"), shuffles=1)
    assert found.layer.values.tolist() == ["convs.0", "convs.1", "norm", "drop", "head", "output"]
    alone = rs.measure(lambda x: {"head": module(x), "first": module.convs[0](x)}, IMAGES, 5)
    R = found.R.sel(channels="all", layer=["head", "convs.0"])
    np.testing.assert_allclose(R, alone.R, rtol=1e-4)
    assert found.R.sel(channels="shuffled", layer="head") != found.R.sel(
        channels="all", layer="head"
    )
    assert found.D_spread.isnull().all()  # of one order
    assert type(module.head) is nnx.Linear  # it stays as it is


def test_a_module_that_returns_what_its_last_one_does_goes_by_both_names():
    class Net(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = nn.Sequential([nn.Conv(4, (3, 3)), nn.Conv(5, (3, 3))], name="block")(x)
            return nn.Dense(2, name="head")(x.mean(axis=(1, 2)))

    module = Net()
    network = from_flax(module, module.init(jax.random.key(0), IMAGES))
    inner = "Conv_1"  # made outside the block
    by_inner, by_outer = (rs.measure(network, IMAGES, 0, layers=[n]) for n in (inner, "block"))
    assert list(by_inner.layer.values) == [inner]
    assert list(by_outer.layer.values) == ["block"]
    np.testing.assert_array_equal(by_inner.D.values, by_outer.D.values)
    everything = rs.measure(network, IMAGES, 0)
    assert list(everything.layer.values) == ["Conv_0", inner, "head", "output"]
