"""ResNets of Section 4.2 of He et al. (2016), and bottlenecks with their strides first."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from relstab_jax import models
from relstab_jax.models import pytorch, resnet
from tests.compiled import create

MILLIONS = {20: 0.27, 32: 0.46, 44: 0.66, 56: 0.85, 110: 1.7}  # Table 6 of He et al.


def shapes(depth):
    """The tensors that the names of He et al.'s layers and their widths give."""
    n = (depth - 2) // 6
    convolutions = {"conv1": ("bn1", 3, 16)}
    channels = 16
    for stage, width in enumerate((16, 32, 64), start=1):
        for block in range(n):
            for k in (1, 2):
                name = f"layer{stage}.{block}"
                convolutions[f"{name}.conv{k}"] = (f"{name}.bn{k}", channels, width)
                channels = width
    found = {"linear.weight": (10, 64), "linear.bias": (10,)}
    for conv, (norm, channels, width) in convolutions.items():
        found[f"{conv}.weight"] = (width, channels, 3, 3)
        for kind in ("weight", "bias", "running_mean", "running_var"):
            found[f"{norm}.{kind}"] = (width,)
    return found


def filled(shapes):
    random = np.random.default_rng(0)
    return {
        name: random.uniform(0.5, 1.5, shape)
        if name.endswith("running_var")
        else random.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))
        for name, shape in shapes.items()
    }


@pytest.mark.parametrize(("depth", "millions"), MILLIONS.items())
def test_names_shapes_and_counts(depth, millions):
    model = models.create(f"ResNet{depth}", num_classes=10, image_size=32, channels=3)
    variables = jax.eval_shape(model.init, jax.random.key(0))
    assert pytorch.shapes_of_variables(variables) == shapes(depth)
    count = sum(x.size for x in jax.tree.leaves(variables["params"]))
    assert count / 1e6 == pytest.approx(millions, abs=0.05 if depth == 110 else 0.005)
    features = jax.eval_shape(model.features, variables, jnp.zeros((2, 32, 32, 3)))
    assert len(features) == depth - 1
    assert [x.shape[1:] for x in features.values()] == [
        *[(32, 32, 16)] * (depth // 3 + 1),
        *[(16, 16, 32)] * (depth // 3),
        *[(8, 8, 64)] * (depth // 3),
    ]


def test_a_shortcut_without_parameters():
    x = np.random.default_rng(0).standard_normal((2, 5, 5, 3)).astype(np.float32)
    shortcut = resnet.subsampled(jnp.asarray(x), 2, 7)
    expected = np.zeros((2, 3, 3, 7))
    for i in range(3):
        for j in range(3):
            expected[:, i, j, 2:5] = x[:, 2 * i, 2 * j]
    np.testing.assert_array_equal(shortcut, expected)


def convolution(x, w, stride):
    """[P, C, H, W] with zeros around, filters [K, C, F, F] -> [P, K, H_out, W_out]."""
    around = w.shape[-1] // 2
    x = np.pad(x, ((0, 0), (0, 0), (around, around), (around, around)))
    windows = np.lib.stride_tricks.sliding_window_view(x, w.shape[2:], axis=(2, 3))
    return np.einsum("pchwij,kcij->pkhw", windows[:, :, ::stride, ::stride], w)


class InNumPy:
    """A ResNet of a state dict, in PyTorch's order of axes."""

    def __init__(self, tensors):
        self.tensors = tensors

    def norm(self, x, name):
        scale, bias, mean, var = (
            self.tensors[f"{name}.{kind}"][:, None, None]
            for kind in ("weight", "bias", "running_mean", "running_var")
        )
        return (x - mean) / np.sqrt(var + 1e-5) * scale + bias

    def convolved(self, x, name, k, stride=1):
        """Convolution k of a block, with its batch-norm."""
        z = convolution(x, self.tensors[f"{name}.conv{k}.weight"], stride)
        return self.norm(z, f"{name}.bn{k}")

    def logits_of_resnet20(self, x):
        f = np.maximum(self.norm(convolution(x, self.tensors["conv1.weight"], 1), "bn1"), 0)
        for name in (f"layer{stage}.{block}" for stage in (1, 2, 3) for block in range(3)):
            stride = 2 if name in ("layer2.0", "layer3.0") else 1
            z = np.maximum(self.convolved(f, name, 1, stride), 0)
            z = self.convolved(z, name, 2)
            if stride == 2:
                f, quarter = f[:, :, ::2, ::2], len(z[0]) // 4
                f = np.pad(f, ((0, 0), (quarter, quarter), (0, 0), (0, 0)))
            f = np.maximum(z + f, 0)
        pooled = f.mean((2, 3))
        return pooled @ self.tensors["linear.weight"].T + self.tensors["linear.bias"]


def images(count, size, channels):
    return np.random.default_rng(1).standard_normal((count, channels, size, size))


@pytest.mark.usefixtures("float64")
def test_logits_of_resnet20():
    tensors = filled(shapes(20))
    variables = models.from_torch("ResNet20", tensors)
    model = create("ResNet20", num_classes=10, image_size=9, channels=3)
    x = images(2, 9, 3)  # maps of odd sizes: 9, 5, 3
    logits = model.apply(variables, jnp.asarray(x.transpose(0, 2, 3, 1)))
    np.testing.assert_allclose(logits, InNumPy(tensors).logits_of_resnet20(x), rtol=1e-9)


def features(name):
    model = models.create(name, num_classes=10, image_size=64, channels=3)
    variables = jax.eval_shape(model.init, jax.random.key(0))
    return jax.eval_shape(model.features, variables, jnp.zeros((1, 64, 64, 3)))


def test_strides_of_bottlenecks():
    """First in the original's; torchvision's 1×1 convolutions see all pixels."""
    torchvision, original = features("resnet50"), features("resnet50_v1")
    differing = [
        (layer, torchvision[layer].shape[1], original[layer].shape[1])
        for layer in torchvision
        if torchvision[layer].shape != original[layer].shape
    ]
    assert differing == [
        ("layer2.0.conv1", 16, 8),
        ("layer3.0.conv1", 8, 4),
        ("layer4.0.conv1", 4, 2),
    ]
