"""Prints the time in which D, G and R of every layer of VGG11 are measured on CIFAR-10.

    python -m tests.benchmarks.sensitivity [--images 500] [--repeats 3] [--tfds FOLDER]

Baselines in the same run, taking turns: this program's own three forward passes, and the published
program in eager PyTorch: images deformed one by one, all of them at once through the network, all
pairs of representations for the denominator of D and again for that of G; in float64 as published,
and in float32. It takes the layers that we measure; the published one takes all nodes of its graph.
A module of PyTorch is measured by us, too, and by a loop in PyTorch that is given the copies and
the mean representations, and computes only the distances. The last lines are the times of
measurements over those of their three forward passes. Without a TFDS folder the images are Gaussian
noise.
"""

import argparse
import math
import statistics
import time
from functools import partial

import jax
import numpy as np
import torch

from relstab_jax import layerwise, models
from relstab_jax.adapters import from_torch_module
from relstab_jax.data import images as image_sets
from relstab_jax.measures.driver import measure
from tests import torch_networks

BATCH = 100  # images of a forward pass
ON_GPU = torch.cuda.is_available() and jax.default_backend() != "cpu"
DEVICE = "cuda" if ON_GPU else "cpu"  # of PyTorch


def deform(image: torch.Tensor, cut: int = 3, delta: float = 1.0) -> torch.Tensor:
    """One maximum-entropy diffeomorphism of one image [C, n, n], bilinear."""
    n = image.shape[-1]
    like = {"dtype": image.dtype, "device": image.device}
    x = torch.linspace(0, 1, n, **like)
    k = torch.arange(1, cut + 1, **like)
    i, j = torch.meshgrid(k, k, indexing="ij")
    r = (i**2 + j**2).sqrt()
    e = (r < cut + 0.5) / r
    s = torch.sin(math.pi * x[:, None] * k[None])
    T = 4 * delta**2 / (math.pi * n**2 * math.log(cut))
    dx, dy = (
        T**0.5 * n * torch.einsum("ij,xi,yj->yx", torch.randn(cut, cut, **like) * e, s, s)
        for _ in range(2)
    )
    rows, columns = torch.meshgrid(torch.arange(n, **like), torch.arange(n, **like), indexing="ij")
    xn, yn = (columns - dx).clamp(0, n - 1), (rows - dy).clamp(0, n - 1)
    xf, yf, xc, yc = xn.floor().long(), yn.floor().long(), xn.ceil().long(), yn.ceil().long()
    xv, yv = xn - xf, yn - yf
    return (
        (1 - yv) * (1 - xv) * image[..., yf, xf]
        + (1 - yv) * xv * image[..., yf, xc]
        + yv * (1 - xv) * image[..., yc, xf]
        + yv * xv * image[..., yc, xc]
    )


def stability(f: torch.Tensor, f_perturbed: torch.Tensor) -> float:
    """Sensitivity of one layer; the denominator comes anew with every perturbation."""
    return ((f_perturbed - f) ** 2).mean(0).sum().item() / (torch.cdist(f, f) ** 2).mean().item()


def published(images: np.ndarray, dtype: torch.dtype) -> float:
    """Returns the seconds of the published way."""
    network = torch_networks.VGG(batch_norm=False).to(DEVICE, dtype).eval()
    kept: list[torch.Tensor] = []
    for module in network.modules():
        if isinstance(module, torch.nn.ReLU):
            module.register_forward_hook(lambda _, __, f: kept.append(f.clone()))
    x = torch.tensor(images.transpose(0, 3, 1, 2), dtype=dtype, device=DEVICE)
    began = time.perf_counter()
    with torch.no_grad():
        deformed = torch.stack([deform(image) for image in x])
        eta = torch.randn_like(x)
        norm = (deformed - x).flatten(1).norm(dim=1) / eta.flatten(1).norm(dim=1)
        noisy = x + eta * norm[:, None, None, None]

        def features(x: torch.Tensor) -> list[torch.Tensor]:
            kept.clear()
            network(x)
            return [f.flatten(1) for f in kept]

        for f, f_deformed, f_noisy in zip(
            features(x), features(deformed), features(noisy), strict=True
        ):
            stability(f, f_deformed)
            stability(f, f_noisy)
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--tfds", help="folder of a prepared CIFAR-10")
    arguments = parser.parse_args()
    P = arguments.images
    if arguments.tfds:
        x, _ = image_sets.load("cifar10", f"test[:{P}]", arguments.tfds)
        x = np.asarray(image_sets.normalise(x, image_sets.CIFAR10_MEAN, image_sets.CIFAR10_STD))
    else:
        x = np.random.default_rng(0).normal(size=(P, 32, 32, 3)).astype(np.float32)

    model = models.create("VGG11", num_classes=10, image_size=32, channels=3)
    variables = jax.jit(model.init)(jax.random.key(0))
    stack = jax.tree.map(lambda a: a[None], variables)
    forward = jax.jit(lambda v, x: [f.mean() for f in model.features(v, x).values()])

    def three_forward_passes() -> float:
        began = time.perf_counter()
        for _ in range(3):
            for start in range(0, P, BATCH):
                done = forward(variables, x[start : start + BATCH])
        jax.block_until_ready(done)
        return time.perf_counter() - began

    def ours() -> float:
        began = time.perf_counter()
        jax.block_until_ready(measure(model.features, x, jax.random.key(1), networks=stack))
        return time.perf_counter() - began

    module = torch_networks.VGG(batch_norm=False).eval().to(DEVICE)
    relus = [name for name, part in module.named_modules() if isinstance(part, torch.nn.ReLU)]
    of_torch = from_torch_module(module)

    def its_forward_passes() -> float:
        began = time.perf_counter()
        with torch.no_grad():
            for _ in range(3):
                for start in range(0, P, BATCH):
                    some = torch.from_numpy(x[start : start + BATCH]).to(DEVICE)
                    module(some.permute(0, 3, 1, 2).contiguous())
            if ON_GPU:
                torch.cuda.synchronize()
        return time.perf_counter() - began

    def its_distances() -> float:
        """Hooks, three forward passes and the sums of Eq. 1, with all else made before."""
        kept: list[torch.Tensor] = []
        hooks = [
            module.get_submodule(name).register_forward_hook(lambda *call: kept.append(call[2]))
            for name in relus
        ]

        def features(start: int) -> list[torch.Tensor]:
            kept.clear()
            some = torch.from_numpy(x[start : start + BATCH]).to(DEVICE)
            module(some.permute(0, 3, 1, 2).contiguous())
            return [f.flatten(1) for f in kept]

        with torch.no_grad():
            means = [f.mean(0) for f in features(0)]
            began = time.perf_counter()
            for start in range(0, P, BATCH):
                f, f_perturbed, f_noisy = features(start), features(start), features(start)
                for c, a, b, d in zip(means, f, f_perturbed, f_noisy, strict=True):
                    ((b - a) ** 2).sum(1), ((d - a) ** 2).sum(1)
                    (a - c).sum(0), ((a - c) ** 2).sum(1)
            if ON_GPU:
                torch.cuda.synchronize()
            taken = time.perf_counter() - began
        for hook in hooks:
            hook.remove()
        return taken

    def module_by_us() -> float:
        began = time.perf_counter()
        layerwise.measure(of_torch, x, 1, layers=relus)
        return time.perf_counter() - began

    ways = {
        "three forward passes of our own": three_forward_passes,
        "ours": ours,
        "PyTorch, float32": partial(published, x, torch.float32),
        "PyTorch, float64, as published": partial(published, x, torch.float64),
        "a module's three forward passes": its_forward_passes,
        "its passes and distances alone": its_distances,
        "the module, measured by us": module_by_us,
    }
    three_forward_passes()
    module_by_us()
    print(f"first call, which compiles: {ours():.2f} s", flush=True)
    rounds = [{name: way() for name, way in ways.items()} for _ in range(arguments.repeats)]
    mine = [r["ours"] for r in rounds]
    for name in ways:
        times = [r[name] for r in rounds]
        ratio = statistics.median(t / m for t, m in zip(times, mine, strict=True))
        print(f"{name:34s} {statistics.median(times):7.2f} s   {ratio:6.2f} × ours")
    own_passes, own, *_, passes, by_hand, by_us = ways
    for of, over in ((own, own_passes), (by_us, passes), (by_hand, passes)):
        ratio = statistics.median(r[of] / r[over] for r in rounds)
        print(f"{of}, over {over}: {ratio:.3f}")


if __name__ == "__main__":
    main()
