import os
import pathlib

import jax
import numpy as np
import pytest

from relstab_jax import models
from relstab_jax.errors import InputError
from relstab_jax.measures import filters
from relstab_jax.models import weights

safetensors = pytest.importorskip("safetensors.numpy", reason="needs the extra `pretrained`")


@pytest.fixture
def state():
    """A LeNet's state dict, in PyTorch's names and shapes."""
    random = np.random.default_rng(0)
    shapes = {"conv1": (6, 3, 5, 5), "conv2": (16, 6, 5, 5), "fc1": (120, 400), "fc2": (84, 120)}
    shapes["fc3"] = (10, 84)
    tensors = {}
    for layer, shape in shapes.items():
        tensors[f"{layer}.weight"] = random.standard_normal(shape, np.float32)
        tensors[f"{layer}.bias"] = random.standard_normal(shape[0], np.float32)
    return tensors


def test_safetensors(state, tmp_path):
    safetensors.save_file(state, tmp_path / "lenet.safetensors")
    read = weights.read(tmp_path / "lenet.safetensors")
    assert read.keys() == state.keys()
    variables = models.from_torch("LeNet", read)
    np.testing.assert_array_equal(
        variables["params"]["conv1"]["kernel"][1, 2, 0], state["conv1.weight"][:, 0, 1, 2]
    )
    np.testing.assert_array_equal(variables["params"]["fc1"]["kernel"], state["fc1.weight"].T)


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


def test_pth_reads_tensors_and_nothing_else(state, tmp_path):
    torch = pytest.importorskip("torch", reason="needs the extra `torch`")
    torch.save({name: torch.tensor(x) for name, x in state.items()}, tmp_path / "lenet.pth")
    read = weights.read(tmp_path / "lenet.pth")
    for name, x in state.items():
        np.testing.assert_array_equal(read[name], x)

    torch.save({"net": {}, "epoch": 3}, tmp_path / "checkpoint.pth")
    with pytest.raises(InputError, match="instead of one state dict"):
        weights.read(tmp_path / "checkpoint.pth")

    class Trap:
        def __reduce__(self):
            return pathlib.Path.touch, (tmp_path / "sprung",)

    torch.save({"x": Trap()}, tmp_path / "trap.pth")
    with pytest.raises(InputError, match="not unpickled"):
        weights.read(tmp_path / "trap.pth")
    assert not (tmp_path / "sprung").exists()


def test_bad_files_are_refused(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        weights.read(tmp_path / "absent.safetensors")
    (tmp_path / "weights.h5").touch()
    with pytest.raises(InputError, match=r"must end in \.safetensors"):
        weights.read(tmp_path / "weights.h5")
    (tmp_path / "broken.safetensors").write_bytes(b"\x00" * 16)
    with pytest.raises(InputError, match="cannot be read as a safetensors file"):
        weights.read(tmp_path / "broken.safetensors")


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
