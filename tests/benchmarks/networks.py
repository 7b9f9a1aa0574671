"""Prints the time of a training step, forward and backward, against PyTorch's on the same device.

    python -m tests.benchmarks.networks [--batch 128] [--repeats 5] [VGG11 ResNet18 ...]

The two take turns, so that what else the machine does falls on both. Networks are the CIFAR forms
at 32×32 with 3 channels, in float32; on a GPU both multiply in TF32, and a time is that of a step
among 20.
"""

import argparse
import statistics
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch

from relstab_jax import models
from tests import torch_networks

ON_GPU = torch.cuda.is_available() and jax.default_backend() != "cpu"
STEPS = 20 if ON_GPU else 1  # timed together
DEVICE = "cuda" if ON_GPU else "cpu"

NETWORKS = {
    "VGG11": lambda: torch_networks.VGG(batch_norm=False),
    "VGG11bn": lambda: torch_networks.VGG(batch_norm=True),
    "ResNet18": torch_networks.ResNet18,
    "AlexNet": torch_networks.AlexNet,
    "EfficientNetB0": torch_networks.EfficientNetB0,
}


def jax_step(name, images, labels):
    model = models.create(name, num_classes=10, image_size=32, channels=3)
    variables = model.init(jax.random.key(0))

    @jax.jit
    def step(params, images, key):
        def loss(params):
            logits, _ = model.train({**variables, "params": params}, images, key)
            return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

        return jax.value_and_grad(loss)(params)

    images = jnp.asarray(images)

    def steps():
        with jax.default_matmul_precision("tensorfloat32"):
            for _ in range(STEPS):
                done = step(variables["params"], images, jax.random.key(1))
            jax.block_until_ready(done)

    return steps


def torch_step(name, images, labels):
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    torch.backends.cudnn.benchmark = True
    net = NETWORKS[name]().to(DEVICE)
    images = torch.tensor(images.transpose(0, 3, 1, 2)).contiguous().to(DEVICE)
    labels = torch.tensor(labels).to(DEVICE)

    def steps():
        for _ in range(STEPS):
            net.zero_grad()
            torch.nn.functional.cross_entropy(net(images), labels).backward()
        if ON_GPU:
            torch.cuda.synchronize()

    return steps


def seconds(steps):
    start = time.perf_counter()
    steps()
    return (time.perf_counter() - start) / STEPS


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", default=["VGG11", "ResNet18"], metavar="NAME")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()

    random = np.random.default_rng(0)
    images = random.standard_normal((args.batch, 32, 32, 3), np.float32)
    labels = random.integers(0, 10, args.batch)
    for name in args.names:
        ours, theirs = jax_step(name, images, labels), torch_step(name, images, labels)
        compiling = seconds(ours)
        theirs()
        times = [(seconds(ours), seconds(theirs)) for _ in range(args.repeats)]
        jax_times, torch_times = zip(*times, strict=True)
        print(
            f"{name}: JAX {min(jax_times) * 1e3:.3g} ms, PyTorch {min(torch_times) * 1e3:.3g} ms, "
            f"ratio of the best {min(jax_times) / min(torch_times):.2f}, of the medians "
            f"{statistics.median(jax_times) / statistics.median(torch_times):.2f} "
            f"(compiled in {compiling * STEPS:.0f} s)",
            flush=True,
        )


if __name__ == "__main__":
    main()
