"""Times the training of the scale-detection sweep, per seed, against plain PyTorch.

    python -m tests.benchmarks.sweep                            # on a CPU, with the torch extra
    python -m tests.benchmarks.sweep --widths=1000 --steps=300  # on an accelerator
    python -m tests.benchmarks.sweep --widths=1000 --seeds=1 --epochs=100  # after interpolation too

Both train the CNN of Section 4 at batch 8 with the paper's settings. First a step at
initialisation, where all are computed. Rounds of the two are interleaved; printed are medians of
the times and of the ratios of a round. Without torch, and beside it, achieved FLOP/s are set
against a large matrix product of the same precision. With `--epochs`, then an epoch after
interpolation, where few steps are computed: its mean over so many epochs after the first look at
which all seeds have interpolated, against an epoch of steps of both.
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
from relstab_jax.training.devices import one_device_per_core, seed_sharding
from relstab_jax.training.sweep_state import Metrics

# Dense matrix products in TFLOP/s, from the makers' data sheets. GPUs multiply float32 arrays by
# TF32 at either of the lower precisions.
PEAK = {
    ("H100", "float32"): 67, ("H100", "tensorfloat32"): 495, ("H100", "bfloat16"): 495,
    ("H200", "float32"): 67, ("H200", "tensorfloat32"): 495, ("H200", "bfloat16"): 495,
    ("A100", "float32"): 19.5, ("A100", "tensorfloat32"): 156, ("A100", "bfloat16"): 156,
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


class Training:
    """The sweep of a configuration, from initialisation on."""

    def __init__(self, config):
        sharding = seed_sharding(len(config.seeds))
        keys, _, self._data = scale_detection.prepare(config, sharding)
        self._look_every = config.look_every
        self._sweep = scale_detection.make_sweep(config, sharding)
        self._state, self._step = self._sweep.start(keys), 0

    def run(self, steps: int) -> float:
        """Trains all seeds for so many steps and returns the seconds it took."""
        began = time.perf_counter()
        until = self._step + steps
        self._state = self._sweep.advance(self._state, self._data, self._step, until)
        jax.block_until_ready(self._state)
        self._step = until
        return time.perf_counter() - began

    def epochs(self, number: int) -> tuple[float, Metrics]:
        """Trains to the first look from `number` epochs on; returns the seconds and the look."""
        E, every = self._sweep.steps_per_epoch, self._look_every
        last = -(-(self._step // E + number) // every) * every
        began = time.perf_counter()
        for epoch in range(self._step // (E * every) * every + every, last + 1, every):
            self.run(epoch * E - self._step)
            self._state, look = self._sweep.look(self._state, self._data, epoch)
        look = jax.device_get(look)
        return time.perf_counter() - began, look

    def interpolate(self) -> int:
        """Trains until a look at which every seed has interpolated; returns its epoch."""
        while not (self.epochs(self._look_every)[1].interpolation_epoch > 0).all():
            pass
        return self._step // self._sweep.steps_per_epoch


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


def matrix_product_rate() -> float:
    """Returns the FLOP/s of a large matrix product on all devices together."""
    devices = len(jax.devices())
    n = 2048 if jax.default_backend() == "cpu" else 8192
    sharding = seed_sharding(devices)
    a = jax.device_put(jax.random.normal(jax.random.key(0), (devices, n, n)), sharding)
    multiply = jax.jit(jnp.matmul, out_shardings=sharding)
    multiply(a, a).block_until_ready()
    times = []
    for _ in range(5):
        began = time.perf_counter()
        multiply(a, a).block_until_ready()
        times.append(time.perf_counter() - began)
    return 2 * devices * n**3 / statistics.median(times)


def after_interpolation(training, config, epochs, mine, other):
    """Prints what an epoch of a seed takes after interpolation; times in s a step beforehand."""
    first = training.interpolate()
    _, before = training.epochs(config.look_every)
    seconds, look = training.epochs(epochs)
    S, E = len(config.seeds), config.train_points // config.batch_size
    each = seconds / S / epochs
    computed = (look.computed_steps - before.computed_steps).mean() / epochs
    print(
        f"    an epoch of a seed, {epochs} from epoch {first + config.look_every} on: {each:.3f} s "
        f"with its look, {computed:.1f} of {E} steps computed; "
        f"{E * mine / each:.1f} × as fast as all steps, {E * other / each:.1f} × as torch",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tasks", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--widths", type=int, nargs="+", default=[64, 256, 1000])
    parser.add_argument("--steps", type=int, default=0, help="a round; by default about a second")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument(
        "--epochs", type=int, default=0, help="after interpolation; by default none"
    )
    parser.add_argument("--precision", default="float32")
    arguments = parser.parse_args()
    one_device_per_core()
    jax.config.update("jax_default_matmul_precision", arguments.precision)
    try:
        import torch

        print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
    except ImportError:
        torch = None
        print("torch is not installed: no baseline")
    device = jax.devices()[0].device_kind
    rate = matrix_product_rate()
    print(f"jax {jax.__version__} on {jax.device_count()} × {device}; a large matrix product in "
          f"{arguments.precision} runs at {rate / 1e12:.3g} TFLOP/s")  # fmt: skip
    print("task width seeds   jax ms/step/seed   torch ms/step   ratio   GFLOP/s   of product"
          "   of peak")  # fmt: skip
    for number in arguments.tasks:
        for width in arguments.widths:
            config = importlib.import_module(f"configs.task{number}").get_config()
            config.width, config.precision = width, arguments.precision
            config.seeds = tuple(range(arguments.seeds))
            training = Training(config)
            ours = training.run
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
            if arguments.epochs:
                after_interpolation(training, config, arguments.epochs, mine, other)


if __name__ == "__main__":
    main()
