"""Times a training step of the scale-detection sweep, per seed, against plain PyTorch.

    python -m tests.benchmarks.sweep                            # on a CPU, with the torch extra
    python -m tests.benchmarks.sweep --widths=1000 --steps=300  # on an accelerator

Both train the CNN of Section 4 at batch 8 with the paper's settings. Rounds of the two are
interleaved; printed are medians of the times and of the ratios of a round. Without torch, and
beside it, achieved FLOP/s are set against a large matrix product of the same precision.
"""

import argparse
import importlib
import math
import statistics
import time

import jax
import jax.numpy as jnp
import numpy as np

from relstab_jax.data import scale_detection as task
from relstab_jax.experiments import scale_detection
from relstab_jax.training import sweep

# Dense matrix products in TFLOP/s, from the makers' data sheets.
PEAK = {
    ("H100", "float32"): 67, ("H100", "tensorfloat32"): 495, ("H100", "bfloat16"): 989,
    ("H200", "float32"): 67, ("H200", "tensorfloat32"): 495, ("H200", "bfloat16"): 989,
    ("A100", "float32"): 19.5, ("A100", "tensorfloat32"): 156, ("A100", "bfloat16"): 312,
}  # fmt: skip


def flops_per_step(config) -> float:
    """Counts multiplications and additions of the convolutions, forward and backward."""
    total, channels = 0, 1
    # With a stride, two patches for each point and the background's (see simple_cnn).
    rows = config.batch_size * config.size if config.stride == 1 else 2 * config.batch_size + 1
    for layer in range(config.depth):
        products = 2 * rows * config.filter_size * channels * config.width
        total += products * (2 if layer == 0 else 3)  # no gradient by the input
        channels = config.width
    return total


def jax_steps(config):
    """Returns a function that runs n steps of all seeds and returns the seconds it took."""
    seeds, sharding = len(config.seeds), sweep.seed_sharding(len(config.seeds))
    positions, labels = task.points(config.task, config.size, config.xi, config.gap)
    rules = sweep.Rules(config.look_every, config.patience, config.max_epochs)
    made = scale_detection.compile_training(config, rules, sharding)
    keys = jax.random.split(jax.random.key(0), seeds)
    chosen = np.random.default_rng(0).choice(len(labels), (seeds, config.train_points))
    train = task.images(jnp.asarray(positions[chosen]), config.size), jnp.asarray(labels[chosen])
    data = jax.device_put(sweep.Data(keys, train, train), sharding)
    state = made.start(keys)
    step = 0

    def run(steps: int) -> float:
        nonlocal state, step
        began = time.perf_counter()
        with jax.default_matmul_precision(config.precision):
            state = jax.block_until_ready(made.advance(state, data, step, step + steps))
        step += steps
        return time.perf_counter() - began

    return run


def torch_steps(config):
    """The same for one seed in eager PyTorch, the way one would write it down."""
    import torch
    from torch import nn
    from torch.nn import functional

    F, H, s = config.filter_size, config.width, config.stride

    class Conv(nn.Module):
        def __init__(self, channels):
            super().__init__()
            self.w = nn.Parameter(torch.randn(H, channels, F))
            self.b = nn.Parameter(torch.randn(H))

        def forward(self, x):
            left = (F - 1) // 2
            x = functional.pad(x, (left, F - 1 - left), mode="circular")
            scale = math.sqrt(F * x.shape[1])
            return math.sqrt(F) * functional.relu(
                functional.conv1d(x, self.w / scale, self.b, stride=s)
            )

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Sequential(*(Conv(1 if k == 0 else H) for k in range(config.depth)))
            self.beta = nn.Parameter(torch.randn(H, 1))
            self.c = nn.Parameter(torch.randn(1))

        def forward(self, x):
            return self.conv(x).mean(2) @ self.beta / H + self.c

    device = "cuda" if torch.cuda.is_available() else "cpu"
    positions, labels = task.points(config.task, config.size, config.xi, config.gap)
    chosen = np.random.default_rng(0).choice(len(labels), config.train_points)
    x = torch.zeros(config.train_points, 1, config.size)
    x.scatter_(2, torch.as_tensor(positions[chosen])[:, None], math.sqrt(config.size / 2))
    points = torch.utils.data.TensorDataset(x, torch.as_tensor(labels[chosen]).float())
    loader = torch.utils.data.DataLoader(points, batch_size=config.batch_size, shuffle=True)
    net = Net().to(device)
    optimizer = torch.optim.SGD(net.parameters(), lr=config.learning_rate * H)

    def batches():
        while True:
            yield from loader

    visited = batches()

    def run(steps: int) -> float:
        began = time.perf_counter()
        for _ in range(steps):
            inputs, labels = (a.to(device) for a in next(visited))
            optimizer.zero_grad()
            loss = functional.relu(1 - labels * net(inputs)[:, 0]).mean()
            loss = loss + config.ridge * sum((c.w**2).sum() for c in net.conv) / H / config.depth
            loss.backward()
            optimizer.step()
        if device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - began

    return run


def matrix_product_rate(precision: str) -> float:
    """Returns the FLOP/s of a large matrix product on all devices together."""
    devices = len(jax.devices())
    n = 2048 if jax.default_backend() == "cpu" else 8192
    sharding = sweep.seed_sharding(devices)
    a = jax.device_put(jax.random.normal(jax.random.key(0), (devices, n, n)), sharding)
    with jax.default_matmul_precision(precision):
        multiply = jax.jit(jnp.matmul, out_shardings=sharding)
        multiply(a, a).block_until_ready()
        times = []
        for _ in range(5):
            began = time.perf_counter()
            multiply(a, a).block_until_ready()
            times.append(time.perf_counter() - began)
    return 2 * devices * n**3 / statistics.median(times)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tasks", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--widths", type=int, nargs="+", default=[64, 256, 1000])
    parser.add_argument("--steps", type=int, default=0, help="a round; by default about a second")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--precision", default="tensorfloat32")
    arguments = parser.parse_args()
    sweep.one_device_per_core()
    try:
        import torch

        print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
    except ImportError:
        torch = None
        print("torch is not installed: no baseline")
    device = jax.devices()[0].device_kind
    rate = matrix_product_rate(arguments.precision)
    print(f"jax {jax.__version__} on {jax.device_count()} × {device}; a large matrix product in "
          f"{arguments.precision} runs at {rate / 1e12:.3g} TFLOP/s")  # fmt: skip
    print("task width seeds   jax ms/step/seed   torch ms/step   ratio   GFLOP/s   of product"
          "   of peak")  # fmt: skip
    for number in arguments.tasks:
        for width in arguments.widths:
            config = importlib.import_module(f"configs.task{number}").get_config()
            config.width, config.precision = width, arguments.precision
            config.seeds = tuple(range(4)) if device == "cpu" else config.seeds
            ours = jax_steps(config)
            ours(2)
            steps = arguments.steps or max(2, round(2 / ours(2)))
            theirs = torch_steps(config) if torch else lambda steps: math.nan
            theirs(2)
            rounds = [
                (ours(steps) / steps / len(config.seeds), theirs(steps) / steps)
                for _ in range(arguments.rounds)
            ]
            mine, other = (statistics.median(column) for column in zip(*rounds, strict=True))
            ratio = statistics.median(b / a for a, b in rounds)
            achieved = flops_per_step(config) / mine
            peaks = [v for (name, p), v in PEAK.items() if name in device and p == config.precision]
            of_peak = f"{achieved / peaks[0] / 1e12:9.1%}" if peaks else f"{'—':>9s}"
            print(
                f"{number:4d}{width:6d}{len(config.seeds):6d}{mine * 1e3:19.3f}{other * 1e3:16.3f}"
                f"{ratio:8.2f}{achieved / 1e9:10.1f}{achieved / rate:13.1%}{of_peak}",
                flush=True,
            )


if __name__ == "__main__":
    main()
