"""Weights as people save them: all load to the same variables, or there is one sentence."""

import argparse
import json
import os
import pathlib

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from relstab_jax import models
from relstab_jax.errors import InputError
from relstab_jax.measures import filters
from relstab_jax.models import weights

safetensors = pytest.importorskip("safetensors.numpy", reason="needs the extra `pretrained`")

GOLDEN = json.loads((pathlib.Path(__file__).parents[1] / "golden" / "networks.json").read_text())
HEADS = {  # the output layer, and how many numbers it sees
    "LeNet": ("fc3.", 84),
    "DenseNetL2": ("fcn.1.", 64),
    "AlexNet": ("classifier.6.", 4096),
    "VGG11bn": ("classifier.", 512),
    "ResNet18": ("linear.", 512),
    "EfficientNetB0": ("linear.", 320),
}


def state_of(name):
    """A state dict whose numbers half precision has too."""
    return {
        tensor: np.full(shape, (n % 16 + 1) / 16, np.float32)
        for n, (tensor, shape) in enumerate(GOLDEN[f"cifar10/{name}"]["state"])
    }


@pytest.fixture(scope="module")
def state():
    return state_of("LeNet")


@pytest.fixture(scope="module")
def variables(state):
    return models.from_torch("LeNet", state)


def assert_same(found, expected):
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    jax.tree.map(np.testing.assert_array_equal, found, expected)
    assert {x.dtype for x in jax.tree.leaves(found)} == {jnp.dtype("float32")}


# Types.


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float64])
def test_weights_are_in_float32_whatever_their_file_is_in(dtype, state, variables, tmp_path):
    path = tmp_path / "lenet.safetensors"
    safetensors.save_file({name: x.astype(dtype) for name, x in state.items()}, path)
    read = weights.read(path)
    assert {x.dtype for x in read.values()} == {np.dtype(np.float32)}
    assert_same(models.from_torch("LeNet", read), variables)
    assert_same(
        models.from_torch("LeNet", {name: x.astype(dtype) for name, x in state.items()}), variables
    )


def test_what_is_no_weight_is_refused(state):
    with pytest.raises(InputError, match=r"fc1\.weight is int8: weights are floating-point"):
        models.from_torch("LeNet", state | {"fc1.weight": state["fc1.weight"].astype(np.int8)})
    with pytest.raises(InputError, match=r"fc1\.weight has values that are not finite"):
        models.from_torch("LeNet", state | {"fc1.weight": state["fc1.weight"] * np.nan})


# Names.


@pytest.mark.parametrize(
    "prefix",
    ["module.", "_orig_mod.", "model.", "net.", "module._orig_mod.", "model._orig_mod.module."],
)
def test_prefixes_of_wrappers_are_dropped(prefix, state, variables):
    assert_same(
        models.from_torch("LeNet", {prefix + name: x for name, x in state.items()}), variables
    )


def test_wrapped_parts_and_counters_of_wrappers():
    """DataParallel around the convolutions alone, as PyTorch's ImageNet example has it."""
    state = state_of("VGG11bn")
    wrapped = {name.replace("features.", "features.module."): x for name, x in state.items()} | {
        "n_averaged": np.array(3),
        "total_ops": np.zeros(1),
    }
    assert_same(models.from_torch("VGG11bn", wrapped), models.from_torch("VGG11bn", state))


def test_two_networks_in_one_file_are_not_mixed_up(state):
    both = {f"model.{name}": x for name, x in state.items()}
    both |= {f"module.{name}": x for name, x in state.items()}
    with pytest.raises(InputError, match=r"holds several networks, which all have conv1\.weight"):
        models.from_torch("LeNet", both)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: {"state_dict": state, "epoch": 3},
        lambda state: {"net": state, "acc": 93.1, "epoch": 3},
        lambda state: {"model": {"state_dict": state}, "optimizer": {"state": {0: {"step": 1}}}},
        lambda state: {"state_dict": state, "state_dict_ema": state, "arch": "lenet"},
        lambda state: {"my_network": state, "hyper_parameters": {"lr": 0.1}},
        lambda state: state | {"epoch": 3},
        lambda state: state,
    ],
)
def test_state_dicts_are_found_in_what_training_programs_save(wrap, state):
    assert weights.state_dict_in(wrap(state)) == state


@pytest.mark.parametrize(
    ("saved", "message"),
    [
        ([1, 2], "holds a list instead of a state dict"),
        ({}, "holds nothing instead of one state dict of tensors by name: save"),
        ({0: np.ones(2)}, "holds 0 instead of one state dict of tensors by name: save"),
        (
            {"net": {}, "epoch": 3},
            "holds net, epoch instead of one state dict of tensors by name: save",
        ),
        ({"a": {"x": np.ones(2)}, "b": {"x": np.ones(2)}}, "holds a, b instead of one state dict"),
    ],
)
def test_where_there_is_no_state_dict(saved, message):
    with pytest.raises(InputError, match=message):
        weights.state_dict_in(saved)


# Heads.


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(n, marks=pytest.mark.slow) if n in ("EfficientNetB0", "ResNet18") else n
        for n in HEADS
    ],
)
def test_networks_without_a_head_and_with_another_one(name):
    layer, inputs = HEADS[name]
    state = state_of(name)
    head = {tensor: x for tensor, x in state.items() if tensor.startswith(layer)}

    def shape_of_outputs(state):
        variables = models.from_torch(name, state)
        model = models.like(name, variables, image_size=32, channels=3)
        return jax.eval_shape(model.apply, variables, jnp.zeros((2, 32, 32, 3))).shape

    body = {tensor: x for tensor, x in state.items() if tensor not in head}
    assert shape_of_outputs(body) == (2, inputs)

    twice = {t: np.repeat(x, 2, axis=1 if t.endswith(".w") else 0) for t, x in head.items()}
    assert shape_of_outputs(state | twice) == (2, 20)


DENSE = {  # dense layers, first layer first
    "cifar10/LeNet": ("fc1", "fc2", "fc3"),
    "cifar10/AlexNet": ("classifier.1", "classifier.4", "classifier.6"),
    "imagenet/alexnet": ("classifier.1", "classifier.4", "classifier.6"),
    "imagenet/vgg11": ("classifier.0", "classifier.3", "classifier.6"),
    "imagenet/vgg11_bn": ("classifier.0", "classifier.3", "classifier.6"),
}


@pytest.mark.parametrize("kept", [0, 1, 2])
@pytest.mark.parametrize("variant", DENSE)
def test_any_number_of_dense_layers_may_be_missing_from_the_end(variant, kept):
    """The network then ends with the last that is there, or with its last maps."""
    name = variant.rpartition("/")[2]
    missing = DENSE[variant][kept:]
    state = {
        tensor: np.broadcast_to(np.float32(1), shape)
        for tensor, shape in GOLDEN[variant]["state"]
        if not tensor.startswith(missing)
    }
    variables = jax.eval_shape(lambda: models.from_torch(name, state))
    pixels = GOLDEN[variant]["image_size"]
    model = models.like(name, variables, image_size=pixels, channels=3)
    x = jnp.zeros((2, pixels, pixels, 3))
    shown = jax.eval_shape(lambda v, x: model.features(v, x, pooled=True), variables, x)
    whole = models.create(name, num_classes=10, image_size=pixels, channels=3)
    init = jax.eval_shape(whole.init, jax.random.key(0))
    expected = jax.eval_shape(lambda v, x: whole.features(v, x, pooled=True), init, x)
    assert list(shown) == [layer for layer in expected if layer not in missing]
    last = list(shown.values())[-1]
    outputs = jax.eval_shape(model.apply, variables, x)
    assert outputs.shape == (2, last.size // 2)
    if kept:
        gap = {t: x for t, x in state.items() if not t.startswith(DENSE[variant][kept - 1])}
        gap |= {f"{DENSE[variant][2]}.bias": np.zeros(10, np.float32)}
        with pytest.raises(InputError, match=rf"missing {DENSE[variant][kept - 1]}\.bias"):
            models.from_torch(name, gap)


def test_a_vgg_of_timm_without_its_head():
    """`num_classes=0` leaves `pre_logits`: what torchvision calls classifier.0 and classifier.3."""
    state = {
        name: np.zeros(shape, np.float32)
        for name, shape in GOLDEN["imagenet/vgg11"]["state"]
        if name.startswith("features.")
    }
    for layer, shape in (("fc1", (4096, 512, 7, 7)), ("fc2", (4096, 4096, 1, 1))):
        state[f"pre_logits.{layer}.weight"] = np.zeros(shape, np.float32)
        state[f"pre_logits.{layer}.bias"] = np.zeros(4096, np.float32)
    variables = models.from_torch("vgg11", state)
    model = models.like("vgg11", variables, image_size=64, channels=3)
    x = jnp.zeros((2, 64, 64, 3))
    assert jax.eval_shape(model.apply, variables, x).shape == (2, 4096)
    assert list(jax.eval_shape(model.features, variables, x))[-1] == "classifier.3"


# Differences.


def test_differences_are_the_first_few_and_how_many_more():
    with pytest.raises(InputError) as error:
        models.from_torch("ResNet50", state_of("VGG11bn"))
    message = str(error.value)
    assert len(message) < 300
    assert "missing bn1.running_mean [64], " in message
    assert "surplus features.0.weight [64, 3, 3, 3]" in message
    assert message.count(" more") == 2


def test_a_deeper_network_of_the_same_family_is_refused():
    with pytest.raises(InputError, match=r"surplus layer1\.2\.conv1\.weight"):
        models.from_torch("ResNet18", state_of("ResNet34"))


def test_variables_of_another_network_are_refused():
    model = models.create(
        "SimpleCNN", num_classes=1, image_size=8, channels=1, width=4, depth=2, filter_size=2,
        stride=2,
    )  # fmt: skip
    variables = jax.eval_shape(model.init, jax.random.key(0))
    with pytest.raises(InputError, match=r"not the weights of a LeNet .*surplus readout\.weight"):
        models.like("LeNet", variables, image_size=32, channels=3)
    flat = {"params": {"fc1": {"kernel": jnp.zeros(3)}}}
    with pytest.raises(InputError, match=r"fc1\.weight is \[3\] instead of \[120, 400\]"):
        models.like("LeNet", flat, image_size=32, channels=3)


def test_weights_for_images_of_another_size_are_refused(variables):
    with pytest.raises(InputError, match=r"fc1\.weight is \[120, 400\] instead of \[120, 784\]"):
        models.like("LeNet", variables, image_size=40, channels=3)


# Files.


def test_broken_and_foreign_files_are_one_sentence(state, tmp_path):
    path = tmp_path / "lenet.safetensors"
    safetensors.save_file(state, path)
    whole = path.read_bytes()
    for part in (whole[:-10], whole[:100], b"", b"\xff" * 100, b"<html>not found</html>"):
        path.write_bytes(part)
        with pytest.raises(InputError, match="cannot be read as a safetensors file") as error:
            weights.read(path)
        assert len(str(error.value)) < 300
    with pytest.raises(InputError, match="no such file"):
        weights.read(tmp_path / "absent.safetensors")
    for name in ("weights.h5", "weights.msgpack", "weights"):
        (tmp_path / name).touch()
        with pytest.raises(InputError, match=r"must end in \.safetensors, or, as a file of PyT"):
            weights.read(tmp_path / name)


def test_hub_is_read_from_its_cache_without_a_connection(state, tmp_path, monkeypatch):
    constants = pytest.importorskip("huggingface_hub.constants", reason="extra `pretrained`")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(InputError, match=r"cannot fetch model\.safetensors of someone/lenet"):
        weights.read("hf:someone/lenet")
    with pytest.raises(InputError, match="must be hf:<owner>/<repository>"):
        weights.read("hf:lenet")

    # The layout of the hub's cache: a reference to a revision, and a snapshot of it.
    repository = tmp_path / "models--someone--lenet"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("0123abc")
    snapshot = repository / "snapshots" / "0123abc"
    (snapshot / "old").mkdir(parents=True)
    safetensors.save_file(state, snapshot / "model.safetensors")
    safetensors.save_file({"x": np.ones(2)}, snapshot / "old" / "epoch3.safetensors")
    read = weights.read("hf:someone/lenet")
    np.testing.assert_array_equal(read["fc3.bias"], state["fc3.bias"])
    assert list(weights.read("hf:someone/lenet/old/epoch3.safetensors")) == ["x"]


def test_the_hub_out_of_reach_is_one_sentence(tmp_path, monkeypatch, caplog):
    """An address where nobody answers; the hub's own library would ask six times, for 25 s."""
    constants = pytest.importorskip("huggingface_hub.constants", reason="extra `pretrained`")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("time.sleep", lambda seconds: pytest.fail("it asks again"))
    with pytest.raises(InputError, match=r"cannot fetch model\.safetensors of timm/x") as error:
        weights.read("hf:timm/x")
    assert len(str(error.value)) < 300
    assert "\n" not in str(error.value)
    assert not caplog.records


# PyTorch's files.


@pytest.fixture
def torch():
    return pytest.importorskip("torch", reason="needs the extra `torch`")


@pytest.mark.parametrize("name", ["a.pth", "a.pt", "a.th", "a.bin", "a.ckpt", "a.pth.tar"])
@pytest.mark.parametrize("legacy", [False, True])
def test_files_of_pytorch_by_any_name(torch, name, legacy, state, variables, tmp_path):
    tensors = {f"module.{tensor}": torch.tensor(x) for tensor, x in state.items()}
    options = argparse.Namespace(lr=0.1, output=pathlib.Path("runs"))
    saved = {"state_dict": tensors, "epoch": 3, "args": options, "best": np.float64(93.1)}
    torch.save(saved, tmp_path / name, _use_new_zipfile_serialization=not legacy)
    assert_same(models.from_torch("LeNet", weights.read(tmp_path / name)), variables)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_parameters_of_any_type(torch, dtype, state, variables, tmp_path):
    parameters = {
        name: torch.nn.Parameter(torch.tensor(x).to(getattr(torch, dtype)))
        for name, x in state.items()
    }
    torch.save(parameters, tmp_path / "lenet.pth")
    assert_same(models.from_torch("LeNet", weights.read(tmp_path / "lenet.pth")), variables)


def test_broken_files_of_pytorch(torch, state, tmp_path):
    path = tmp_path / "lenet.pth"
    torch.save({name: torch.tensor(x) for name, x in state.items()}, path)
    whole = path.read_bytes()
    torch.save(torch.nn.Linear(2, 2), path)
    module = path.read_bytes()
    for part in (whole[:-100], whole[:100], b"", b"<html>not found</html>", module):
        path.write_bytes(part)
        with pytest.raises(InputError, match=r"lenet\.pth") as error:
            weights.read(path)
        assert len(str(error.value)) < 300
        assert "\n" not in str(error.value)


def test_no_code_in_a_file_of_pytorch_is_run(torch, tmp_path):
    class Trap:
        def __reduce__(self):
            return pathlib.Path.touch, (tmp_path / "sprung",)

    torch.save({"x": Trap()}, tmp_path / "trap.pth")
    with pytest.raises(InputError, match="not unpickled"):
        weights.read(tmp_path / "trap.pth")
    assert not (tmp_path / "sprung").exists()


# Trained weights.


@pytest.mark.skipif(
    "RELSTAB_VGG16" not in os.environ,
    reason="RELSTAB_VGG16 names no safetensors file of an ImageNet VGG16's convolutions",
)
def test_filters_of_vgg16_are_low_frequency_but_the_first_layers():
    """Figs. 4 and 13: the constant mode dominates in every layer but the first.

    White filters have 1/9 of their power in each mode. All layers but the first have more than
    twice that in the constant mode, and all have little in the highest.
    """
    state = weights.read(os.environ["RELSTAB_VGG16"])
    features = {name: x for name, x in state.items() if name.startswith("features.")}
    variables = models.from_torch("vgg16", features)
    kernels = models.kernels(variables)
    assert len(kernels) == 13
    spectra = np.array([filters.spectrum(kernel) for kernel in kernels.values()])
    shares = spectra / spectra.sum(axis=1, keepdims=True)
    assert shares[0, 0] < 2 / 9
    assert shares[0].argmax() != 0
    assert (shares[1:, 0] > 2 / 9).all()
    assert (shares[:, 8] < 0.25 / 9).all()
    white = models.kernels(
        models.create("vgg16", num_classes=0, image_size=32, channels=3).init(jax.random.key(0))
    )
    for kernel, initial in zip(kernels.values(), white.values(), strict=True):
        assert filters.frequency_content(kernel) < 0.6
        assert filters.frequency_content(initial) == pytest.approx(1, abs=0.1)
