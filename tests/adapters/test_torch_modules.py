"""Modules of PyTorch, torchvision and timm against our own networks and plain NumPy."""

import jax.numpy as jnp
import numpy as np
import pytest

import relstab_jax as rs
from relstab_jax.adapters import from_torch_module
from relstab_jax.errors import InputError

try:
    import timm
    import torch
    import torchvision
except (ImportError, RuntimeError):  # RuntimeError: torchvision was built for another torch
    pytest.skip("needs the extra `torch`", allow_module_level=True)

IMAGES = np.random.default_rng(0).normal(size=(6, 64, 64, 3)).astype(np.float32)


def randomised(module):
    """Gives batch-norm statistics that matter, and puts a module into evaluation mode."""
    generator = torch.Generator().manual_seed(1)
    for part in module.modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            part.running_mean.copy_(torch.randn(part.num_features, generator=generator) / 10)
            part.running_var.copy_(0.5 + torch.rand(part.num_features, generator=generator))
    return module.eval()


# Our names of layers by PyTorch's: after the activation, and after the sum of a block.
TWINS = {
    "vgg11": {"features.1": "features.0", "features.12": "features.11", "output": "output"},
    "resnet18": {
        "relu": "conv1", "layer1.0.relu": "layer1.0.conv1", "layer3.0.relu#2": "layer3.0.conv2",
        "layer4.1.relu#2": "layer4.1.conv2", "output": "output",
    },
}  # fmt: skip


@pytest.mark.parametrize("name", TWINS)
def test_torchvisions_networks_are_measured_as_our_own(name):
    torch.manual_seed(0)
    module = randomised(getattr(torchvision.models, name)(num_classes=10))
    tensors = {key: x.numpy() for key, x in module.state_dict().items()}
    model = rs.create(name, num_classes=10, image_size=64, channels=3)
    options = {"channels": ("all", "shuffled", "mean"), "shuffles": 1}
    ours = rs.measure(model.bind(rs.from_torch(name, tensors)), IMAGES, 3, **options)
    theirs = rs.measure(from_torch_module(module), IMAGES, 3, layers=list(TWINS[name]), **options)
    same = ours.sel(layer=[TWINS[name][layer] for layer in theirs.layer.values])
    for variable in ("D", "G", "R", "D_error", "R_error"):
        np.testing.assert_allclose(theirs[variable], same[variable], rtol=1e-4, err_msg=variable)


def test_only_the_chosen_layers_are_kept_in_memory():
    torch.manual_seed(0)
    network = from_torch_module(torchvision.models.resnet18(num_classes=10).eval())
    images = jnp.asarray(IMAGES)
    everything = network(images)
    chosen = network.select(("layer1.*.relu", "output"))
    assert network.select(("layer1.*.relu", "output")) is chosen  # so that nothing compiles again
    chosen(network.variables, images)  # finds out which they are
    kept = chosen(network.variables, images)
    assert list(kept) == ["layer1.0.relu", "layer1.1.relu", "output"]
    for layer, x in kept.items():
        np.testing.assert_array_equal(x, everything[layer])


def test_a_block_goes_by_its_own_name_too():
    """In a residual network, a block returns what its last activation does."""
    torch.manual_seed(0)
    module = timm.create_model("resnet18", num_classes=5).eval()
    network = from_torch_module(module)
    images = jnp.asarray(IMAGES)
    inner = network.select(("layer*.act2",))
    outer = network.select(("layer?.?",))
    for _ in range(2):  # all are kept the first time
        of_inner, of_outer = inner(network.variables, images), outer(network.variables, images)
    blocks = [f"layer{stage}.{block}" for stage in (1, 2, 3, 4) for block in (0, 1)]
    assert list(of_outer) == blocks
    assert list(of_inner) == [f"{block}.act2" for block in blocks]
    for a, b in zip(of_inner.values(), of_outer.values(), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("name", "options", "maps"),
    [("convnext_atto", {}, True), ("vit_tiny_patch16_224", {"img_size": 64}, False)],
)
def test_timms_networks_have_the_sensitivity_that_numpy_finds(name, options, maps):
    torch.manual_seed(0)
    module = timm.create_model(name, num_classes=5, **options).eval()
    block = {"convnext_atto": "stages.1.blocks.0", "vit_tiny_patch16_224": "blocks.3"}[name]
    network = from_torch_module(module)

    def shift(key, image):
        del key
        return jnp.roll(image, 2, axis=1)

    found = rs.measure(
        network, IMAGES, 0, perturbation=shift, channels=("all", "mean"), layers=[block, "output"]
    )

    def outputs(images):
        kept = []
        hook = module.get_submodule(block).register_forward_hook(lambda *of: kept.append(of[-1]))
        with torch.no_grad():
            logits = module(torch.from_numpy(images.transpose(0, 3, 1, 2).copy()))
        hook.remove()
        return [x.reshape(len(images), -1).double().numpy() for x in (kept[0], logits)]

    pairs = zip(outputs(IMAGES), outputs(np.roll(IMAGES, 2, axis=2)), strict=True)
    for D, (f, moved) in zip(found.D.sel(channels="all").values, pairs, strict=True):
        N = np.mean([((a - b) ** 2).sum() for a in f for b in f])
        np.testing.assert_allclose(D, ((moved - f) ** 2).sum(axis=1).mean() / N, rtol=1e-4)
    assert bool(found.D.sel(channels="mean", layer=block).notnull()) == maps


def test_operations_in_place_change_no_layer_and_the_module_stays_as_it_is():
    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU(inplace=True)).eval()
    found = from_torch_module(module)(jnp.asarray(IMAGES))
    assert list(found) == ["0", "1", "output"]
    assert float(found["0"].min()) < 0 == float(found["output"].min())
    assert module[1].inplace
    assert not module[0]._forward_hooks


def test_a_module_in_training_mode_or_that_mixes_images_is_refused():
    module = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4)).eval()
    module[1].train()
    with pytest.raises(InputError, match=r"1 is in training mode: call eval\(\)"):
        from_torch_module(module)

    class Mixing(torch.nn.Module):
        def forward(self, x):
            return torch.relu(x - x.mean(dim=0, keepdim=True))

    with pytest.raises(
        InputError, match="'all/output' of an image depends on the images beside it"
    ):
        rs.measure(from_torch_module(Mixing().eval()), IMAGES, 0)
