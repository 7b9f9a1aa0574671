"""Prints what a step costs on an accelerator: predicted from the compiled program, and measured.

    python -m tests.benchmarks.accelerators                        # on this machine's accelerator
    python -m tests.benchmarks.accelerators --compile-for=v5e:2x2  # without one, with the extra tpu
    python -m tests.benchmarks.accelerators --programs task2 VGG11bn

For each program: the operations and the bytes of memory traffic of a step that the compiler counts,
the memory of a device, and the time that they take at the least,

    predicted = max(operations / peak of the precision, bytes / bandwidth of the memory),

on each accelerator of the table `PEAKS`; and what a device sends to others, which takes about
2 x bytes / bandwidth of the links more. Programs are trainings with a batch of their configuration
on each device, at bfloat16, and sweeps (a seed on each, without looking ahead) and
measurements, at float32. The compiler counts what a call does but once as part of a step. For a TPU
that is not here it compiles at bfloat16: it counts the same operations in a fraction of the time.
Measured is the median of five calls, each of as many steps as take a second.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from relstab_jax.training.devices import one_device_per_core
from tests.accelerators import programs
from tests.accelerators.programs import sizes


class Peak(NamedTuple):
    """Of a device: operations/s of matrix products by precision, and bytes/s of its memory."""

    operations: dict[str, float]
    bandwidth: float


# From the makers' data sheets. A TPU multiplies in bfloat16, and makes float32 of six passes; a GPU
# multiplies float32 arrays by TF32 at that precision.
PEAKS = {
    "v5e": Peak({"bfloat16": 197e12, "float32": 197e12 / 6}, 819e9),
    "H100": Peak({"bfloat16": 495e12, "float32": 67e12}, 3.35e12),
}


class Case(NamedTuple):
    """A program, the precision of its products, and what takes steps of it.

    Attributes:
        precision: of its products.
        make: devices -> the program.
        run: (the program's function, arguments, steps) -> arguments for the next call.
    """

    precision: str
    make: Callable[[Any], programs.Program]
    run: Callable[[Any, tuple, int], tuple]


def training(name: str, batch: int) -> Case:
    def run(function: Any, arguments: tuple, steps: int) -> tuple:
        *others, _, _ = arguments
        state = function(*others, 0, steps)
        return state, *arguments[1:]

    def make(devices: Any) -> programs.Program:
        return programs.training(devices, name, batch * len(devices))

    return Case("bfloat16", make, run)


def measurement(name: str, batch: int) -> Case:
    def run(function: Any, arguments: tuple, steps: int) -> tuple:
        for _ in range(steps):
            offset, _ = function(*arguments)
            arguments = *arguments[:2], offset, *arguments[3:]
        return arguments

    return Case("float32", lambda devices: programs.measurement(devices, name, batch), run)


def sweep_of(task: int) -> Case:
    def make(devices: Any) -> programs.Program:
        return programs.sweep(devices, task, look_ahead=False)["advance"]

    def run(function: Any, arguments: tuple, steps: int) -> tuple:
        state, data, step, _ = arguments
        return function(state, data, step, step + steps), data, step + steps, 0

    return Case("float32", make, run)


CASES = {
    "training task2": sweep_of(2),
    "training task1": sweep_of(1),
    "training LeNet": training("LeNet", 128),
    "training VGG11bn": training("VGG11bn", 128),
    "training ResNet18": training("ResNet18", 128),
    "training resnet50": training("resnet50", 256),
    "measuring VGG11bn": measurement("VGG11bn", 500),
    "measuring resnet50": measurement("resnet50", 64),
    "measuring vgg16": measurement("vgg16", 64),
}


def filled(shape: jax.ShapeDtypeStruct) -> jax.Array:
    """Makes an array of a shape: small random numbers, or zeros for integers."""
    key = jax.random.key(0)
    if jnp.issubdtype(shape.dtype, jax.dtypes.prng_key):
        a = jax.random.split(key, shape.shape) if shape.shape else key
    elif jnp.issubdtype(shape.dtype, jnp.floating):
        a = abs(jax.random.normal(key, shape.shape, shape.dtype)) / 20
    else:
        a = jnp.zeros(shape.shape, shape.dtype)
    return a if shape.sharding is None else jax.device_put(a, shape.sharding)


def measured(case: Case, program: programs.Program) -> float:
    """Returns the seconds of a step."""
    arguments = jax.tree.map(
        lambda a: filled(a) if isinstance(a, jax.ShapeDtypeStruct) else a, program.arguments
    )

    def seconds(steps: int) -> float:
        nonlocal arguments
        began = time.perf_counter()
        arguments = jax.block_until_ready(case.run(program.function, arguments, steps))
        return (time.perf_counter() - began) / steps

    with jax.default_matmul_precision(case.precision):
        seconds(1)
        steps = max(1, round(1 / seconds(1)))
        return statistics.median(seconds(steps) for _ in range(5))


def row(
    name: str, operations: float, moved: float, held: float, sent: float, precision: str
) -> str:
    times = []
    for peak in PEAKS.values():
        of_operations, of_bytes = operations / peak.operations[precision], moved / peak.bandwidth
        bound = "operations" if of_operations > of_bytes else "bytes"
        times.append(f"{max(of_operations, of_bytes) * 1e3:10.3g} ms {bound:10s}")
    return (
        f"{name:20s} {operations / 1e9:10.4g} {moved / 1e9:10.4g} {held / 1e9:8.3g} "
        f"{sent / 1e6:8.3g} {precision:14s} {''.join(times)}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--compile-for", metavar="TOPOLOGY", help="a TPU slice, such as v5e:2x2")
    parser.add_argument("--programs", nargs="+", default=[], metavar="NAME", help="by default all")
    arguments = parser.parse_args()
    one_device_per_core()
    here = arguments.compile_for is None
    devices = jax.devices()[:1] if here else programs.chips(arguments.compile_for)
    print(f"jax {jax.__version__}, compiled for {len(devices)} × {devices[0].device_kind}")
    print(f"{'':20s} {'GFLOP':>10s} {'GB moved':>10s} {'GB held':>8s} {'MB sent':>8s} {'':14s} "
          + "".join(f"{name + ' predicted':>24s}" for name in PEAKS) + "    measured")  # fmt: skip
    wanted = arguments.programs or list(CASES)
    for name in [n for n in CASES if n in wanted or n.split()[-1] in wanted]:
        case = CASES[name]
        program = case.make(devices)
        lowered = program.lower(case.precision if here else "bfloat16")
        compiled = lowered.compile()
        cost, memory = compiled.cost_analysis(), compiled.memory_analysis()
        # Compiled for a GPU, calls of libraries have no operations; for a TPU, only compiled ones.
        operations, moved = (lowered.cost_analysis() or cost)["flops"], cost["bytes accessed"]
        sent = 4 * sum(n for line in programs.collectives(compiled.as_text()) for n in sizes(line))
        held = memory.argument_size_in_bytes + memory.temp_size_in_bytes
        text = row(name, operations, moved, held, sent, case.precision)
        if here:
            text += f"{measured(case, program) * 1e3:10.3g} ms"
        print(text, flush=True)


if __name__ == "__main__":
    main()
