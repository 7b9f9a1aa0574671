"""What every deep network must do, against the numbers of the authors' PyTorch programs."""

import functools
import json
import pathlib
from collections import OrderedDict

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from relstab_jax import models
from relstab_jax.errors import InputError
from relstab_jax.models import efficientnet, layers, pytorch
from tests.compiled import create

GOLDEN = json.loads((pathlib.Path(__file__).parents[1] / "golden" / "networks.json").read_text())
ONE_OF_EACH_FORM = [
    *("cifar10/VGG11bn", "cifar10/AlexNet", "cifar10/LeNet", "cifar10/EfficientNetB0"),
    *("cifar10/DenseNetL4", "twopoints/VGG11", "twopoints/ResNet50", "imagenet/resnet18"),
]
FAMILIES = ["VGG11", "VGG11bn", "AlexNet", "LeNet", "ResNet18", "EfficientNetB0", "DenseNetL2"]


def filled(state):
    """The state dict of the golden logits: a fixed random filling of each tensor."""
    tensors = {}
    for j, (name, shape) in enumerate(state):
        kind = name.rpartition(".")[2]
        z = np.random.RandomState(j).standard_normal(shape)
        if kind == "num_batches_tracked":
            tensors[name] = np.asarray(0)
        elif kind == "running_var":
            tensors[name] = 1 + 0.5 * np.tanh(z)
        elif kind == "running_mean":
            tensors[name] = 0.1 * z
        elif len(shape) >= 2:
            tensors[name] = z if kind == "w" else z * np.sqrt(2 / np.prod(shape[1:]))
        elif kind == "weight":
            tensors[name] = 1 + 0.1 * z
        else:
            tensors[name] = z if kind == "b" else 0.1 * z
    return tensors


def created(variant):
    golden = GOLDEN[variant]
    return create(
        variant.rpartition("/")[2],
        num_classes=len(golden["logits"][0]),
        image_size=golden["image_size"],
        channels=golden["channels"],
    )


def images_of(golden):
    shape = (2, golden["channels"], golden["image_size"], golden["image_size"])
    x = np.random.RandomState(1234).standard_normal(shape)
    return jnp.asarray(x.transpose(0, 2, 3, 1))


def images(count, size=32, channels=3, seed=0):
    return jax.random.normal(jax.random.key(seed), (count, size, size, channels))


@pytest.mark.parametrize("variant", GOLDEN)
def test_names_shapes_and_counts_are_those_of_pytorch(variant):
    golden = GOLDEN[variant]
    variables = jax.eval_shape(created(variant).init, jax.random.key(0))
    assert sum(x.size for x in jax.tree.leaves(variables["params"])) == golden["num_params"]
    state = {name: tuple(shape) for name, shape in golden["state"]}
    counters = {name for name in state if name.endswith("num_batches_tracked")}
    assert pytorch.shapes_of_variables(variables) == {
        name: shape for name, shape in state.items() if name not in counters
    }


@pytest.mark.parametrize(
    "variant",
    [v if v in ONE_OF_EACH_FORM else pytest.param(v, marks=pytest.mark.slow) for v in GOLDEN],
)
def test_logits_match_pytorch(variant, float64):
    golden = GOLDEN[variant]
    variables = models.from_torch(variant.rpartition("/")[2], filled(golden["state"]))
    logits = created(variant).apply(variables, images_of(golden))
    np.testing.assert_allclose(logits, golden["logits"], rtol=1e-8)


def test_wrong_tensors_are_one_error_that_names_them():
    state = filled(GOLDEN["cifar10/VGG11bn"]["state"])
    bias = state.pop("features.0.bias")
    state["features.0.offset"] = bias
    state["features.4.weight"] = state["features.4.weight"][:, :, 0]
    with pytest.raises(InputError) as error:
        models.from_torch("VGG11bn", state)
    for complaint in (
        "missing features.0.bias [64]",
        "surplus features.0.offset [64]",
        "features.4.weight is [128, 64, 3] instead of [128, 64, 3, 3]",
    ):
        assert complaint in str(error.value)
    assert str(error.value).count(";") == 2


@pytest.mark.parametrize("name", FAMILIES)
def test_any_missing_tensor_is_named(name):
    state = {key: np.zeros(shape) for key, shape in GOLDEN[f"cifar10/{name}"]["state"]}
    for tensor in (next(iter(state)), next(reversed(state))):
        rest = {key: x for key, x in state.items() if key != tensor}
        with pytest.raises(InputError, match=rf"missing {tensor} \["):
            models.from_torch(name, rest)


@pytest.mark.parametrize(
    ("name", "variant"),
    [
        ("VGG11bn", "imagenet/vgg11_bn"),
        ("vgg11", "cifar10/VGG11"),
        ("ResNet18", "imagenet/resnet18"),
        ("resnet18", "cifar10/ResNet18"),
        ("AlexNet", "imagenet/alexnet"),
        ("alexnet", "cifar10/AlexNet"),
    ],
)
def test_weights_of_the_other_form_say_which_name_to_use(name, variant):
    state = {key: np.zeros(shape, np.float32) for key, shape in GOLDEN[variant]["state"]}
    other = variant.rpartition("/")[2]
    expected = f"these are weights of {other!r}, .* give the name {other!r}"
    with pytest.raises(InputError, match=expected):
        models.from_torch(name, state)
    variables = jax.eval_shape(created(variant).init, jax.random.key(0))
    with pytest.raises(InputError, match=expected):
        models.like(name, variables, image_size=64, channels=3)


def test_unknown_names_are_refused():
    with pytest.raises(InputError, match="unknown network 'VGG12': use one of SimpleCNN"):
        create("VGG12", num_classes=10, image_size=32, channels=3)


@pytest.mark.parametrize(
    ("name", "channels", "smallest"),
    [
        *(("VGG11", 3, 32), ("VGG11", 1, 28), ("vgg11", 1, 32), ("LeNet", 3, 16)),
        *(("AlexNet", 3, 15), ("AlexNet", 1, 11), ("alexnet", 3, 63)),
    ],
)
def test_images_that_are_too_small_are_refused(name, channels, smallest):
    with pytest.raises(InputError, match=f"too small for .*{name}: use at least {smallest} pixels"):
        create(name, num_classes=10, image_size=smallest - 1, channels=channels)
    model = create(name, num_classes=10, image_size=smallest, channels=channels)
    variables = jax.eval_shape(model.init, jax.random.key(0))
    x = jnp.zeros((2, smallest, smallest, channels))
    features = jax.eval_shape(model.features, variables, x)
    assert all(f.size > 0 for f in features.values())


def test_initialisation_is_pytorchs():
    """U(-1/√fan_in, 1/√fan_in): its extremes and its variance 1/(3 fan_in)."""
    params = created("cifar10/VGG11bn").init(jax.random.key(0))["params"]
    for layer, fan_in in (("features.8", 128 * 9), ("features.25", 512 * 9), ("classifier", 512)):
        for x in (params[layer]["kernel"], params[layer]["bias"]):
            assert abs(x).max() <= 1 / np.sqrt(fan_in)
            spread = 5 / np.sqrt(x.size)
            assert x.var() * 3 * fan_in == pytest.approx(1, abs=spread)
    assert (params["features.1"]["scale"] == 1).all()
    assert (params["features.1"]["bias"] == 0).all()


@pytest.mark.slow
def test_features_of_vgg_are_after_each_relu_in_order():
    model = created("cifar10/VGG11")
    variables = model.init(jax.random.key(0))
    x = images(3)
    everything = model.features(variables, x, pre_activations=True, pooled=True)
    assert isinstance(everything, OrderedDict)  # compiled, which would sort a dict
    plain = jax.eval_shape(model.features, variables, x)
    features = OrderedDict((layer, everything[layer]) for layer in plain)
    assert list(features) == [f"features.{n}" for n in (0, 3, 6, 8, 11, 13, 16, 18)]
    sizes = [f.shape[1:] for f in features.values()]
    assert sizes == [
        *((32, 32, 64), (16, 16, 128), (8, 8, 256), (8, 8, 256)),
        *((4, 4, 512), (4, 4, 512), (2, 2, 512), (2, 2, 512)),
    ]
    for layer, f in features.items():
        assert f.min() == 0, layer
        assert f.max() > 0, layer
    assert list(models.kernels(variables)) == list(features)

    kinds = ["features.0:pre", "features.0", "features.2:pool", "features.3:pre", "features.3"]
    assert list(everything)[:5] == kinds
    np.testing.assert_array_equal(
        np.maximum(everything["features.3:pre"], 0), everything["features.3"]
    )
    windows = everything["features.18"].reshape(3, 1, 2, 1, 2, 512)
    np.testing.assert_array_equal(windows.max((2, 4)), everything["features.20:pool"])
    np.testing.assert_allclose(
        everything["classifier:pre"], model.apply(variables, x), rtol=1e-5, atol=1e-6
    )


def test_features_of_every_network_end_with_what_the_output_layer_sees():
    for name, first, last, count in (
        ("AlexNet", "features.0", "classifier.4", 7),
        ("LeNet", "conv1", "fc2", 4),
        ("ResNet18", "conv1", "layer4.1.conv2", 17),
        ("ResNet50", "conv1", "layer4.2.conv3", 49),
        ("EfficientNetB0", "conv1", "layers.15.conv3", 48),
        ("DenseNetL6", "fcn.0", "fcn.4", 5),
        ("vgg16_bn", "features.0", "classifier.3", 15),
    ):
        model = create(name, num_classes=10, image_size=32, channels=3)
        variables = jax.eval_shape(model.init, jax.random.key(0))
        layers = list(jax.eval_shape(model.features, variables, jnp.zeros((1, 32, 32, 3))))
        assert (layers[0], layers[-1], len(layers)) == (first, last, count)


@pytest.mark.slow
def test_features_of_a_residual_block_are_after_the_sum():
    model = create("ResNet18", num_classes=10, image_size=8, channels=3)
    variables = model.init(jax.random.key(0))
    shown = functools.partial(model.features, pre_activations=True)
    features = shown(variables, images(2, size=8))
    np.testing.assert_array_equal(
        features["layer1.0.conv2"], np.maximum(features["layer1.0.conv2:pre"], 0)
    )
    assert [layer for layer in features if layer.startswith("layer2.0")] == [
        *("layer2.0.conv1:pre", "layer2.0.conv1", "layer2.0.conv2:pre", "layer2.0.conv2")
    ]
    # The second block adds its input: without its own filters, it passes on the first's.
    silent = jax.tree.map(lambda x: x, variables)
    silent["params"]["layer1.1"] = jax.tree.map(jnp.zeros_like, variables["params"]["layer1.1"])
    features = shown(silent, images(2, size=8))
    np.testing.assert_array_equal(features["layer1.1.conv2"], features["layer1.0.conv2"])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["LeNet", "VGG11bn"])
def test_all_seeds_of_a_family_run_under_vmap(name):
    model = create(name, num_classes=10, image_size=32, channels=3)
    keys = jax.random.split(jax.random.key(0), 3)
    x = images(2)
    seeds = jax.jit(jax.vmap(model.init))(keys)
    forward = jax.jit(
        lambda variables, x: (model.apply(variables, x), model.features(variables, x))
    )
    outputs, features = jax.jit(jax.vmap(forward, in_axes=(0, None)))(seeds, x)
    assert outputs.shape == (3, 2, 10)
    for n, key in enumerate(keys):
        alone = jax.tree.map(lambda x, n=n: x[n], seeds)
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), alone, model.init(key)
        )
        expected, expected_features = forward(alone, x)
        np.testing.assert_allclose(outputs[n], expected, rtol=1e-4, atol=1e-5)
        for layer, f in expected_features.items():
            np.testing.assert_allclose(features[layer][n], f, rtol=1e-4, atol=1e-4)


def test_one_value_a_channel_cannot_train_batch_norm():
    for size, images_needed in ((16, 1), (8, 2)):  # the last maps are 2×2, and 1×1
        model = create("ResNet18", num_classes=10, image_size=size, channels=3)
        variables = jax.eval_shape(model.init, jax.random.key(0))
        for P in (1, 2):
            arguments = (variables, images(P, size=size), jax.random.key(0))
            if images_needed <= P:
                jax.eval_shape(model.train, *arguments)
                continue
            with pytest.raises(InputError, match="one value per channel"):
                jax.eval_shape(model.train, *arguments)


@pytest.mark.slow
def test_statistics_are_synchronised_under_pmap():
    model = models.create("ResNet18", num_classes=10, image_size=16, channels=3)
    variables = model.init(jax.random.key(0))
    x = images(8, size=16) * jnp.arange(1.0, 9)[:, None, None, None]  # no shard like another
    key = jax.random.key(1)
    outputs, trained = jax.jit(model.train)(variables, x, key)

    def step(variables, x):
        return model.train(variables, x, key, axis_name="device")

    shards = x.reshape(4, 2, 16, 16, 3)
    spread, synchronised = jax.pmap(step, axis_name="device", in_axes=(None, 0))(variables, shards)
    np.testing.assert_allclose(spread.reshape(8, 10), outputs, rtol=1e-3, atol=1e-3)
    for device in range(4):
        jax.tree.map(
            lambda a, b, device=device: np.testing.assert_allclose(
                a[device], b, rtol=1e-3, atol=1e-5
            ),
            synchronised["batch_stats"],
            trained["batch_stats"],
        )


@pytest.mark.slow
def test_dropout_draws_from_the_key_in_training_only():
    model = create("AlexNet", num_classes=10, image_size=32, channels=3)
    variables = model.init(jax.random.key(0))
    x = images(2)
    train = model.train
    first, same, other = (train(variables, x, jax.random.key(n))[0] for n in (1, 1, 2))
    np.testing.assert_array_equal(first, same)
    assert abs(first - other).max() > 1e-3
    np.testing.assert_array_equal(model.apply(variables, x), model.apply(variables, x))


@pytest.mark.slow
def test_drop_connect_skips_whole_blocks_of_single_examples():
    x = jnp.tile(images(1, size=4, channels=16), (64, 1, 1, 1))  # alike: only the draws differ
    norm = functools.partial(layers.BatchNorm, train=False)
    drop = functools.partial(layers.Dropout, train=True)
    block = efficientnet.Block(6, 16, 3, 1, drop_connect=0.25, norm=norm, drop=drop)
    rngs = {"params": jax.random.key(0), "dropout": jax.random.key(1)}
    y, variables = block.init_with_output(rngs, x)
    changed = np.asarray(abs(y - x).max((1, 2, 3)) > 1e-6)
    assert 0.55 < changed.mean() < 0.95
    kept = block.clone(drop_connect=0.0).apply(variables, x) - x
    np.testing.assert_allclose((y - x)[changed], (kept / 0.75)[changed], rtol=1e-3, atol=1e-5)


def test_a_network_without_its_classifier():
    state = {
        name: np.zeros(shape, np.float32)
        for name, shape in GOLDEN["imagenet/vgg11"]["state"]
        if name.startswith("features.")
    }
    variables = models.from_torch("vgg11", state)
    model = create("vgg11", num_classes=0, image_size=64, channels=3)
    outputs = jax.eval_shape(model.apply, variables, images(2, size=64))
    assert outputs.shape == (2, 512 * 2 * 2)


@pytest.mark.slow
def test_timms_names_of_a_vgg():
    state = {
        name: np.full(shape, n, np.float32)
        for n, (name, shape) in enumerate(GOLDEN["imagenet/vgg11"]["state"])
    }
    timm = {name: x for name, x in state.items() if name.startswith("features.")}
    for ours, theirs, shape in (
        ("classifier.0", "pre_logits.fc1", (4096, 512, 7, 7)),
        ("classifier.3", "pre_logits.fc2", (4096, 4096, 1, 1)),
        ("classifier.6", "head.fc", (1000, 4096)),
    ):
        timm[f"{theirs}.weight"] = state[f"{ours}.weight"].reshape(shape)
        timm[f"{theirs}.bias"] = state[f"{ours}.bias"]
    ours, theirs = models.from_torch("vgg11", state), models.from_torch("vgg11", timm)
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)
