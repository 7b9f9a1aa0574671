"""Prints what a training comes to when its matrix products have an accelerator's precision.

    python -m tests.benchmarks.precision --config=configs/task2.py:laptop [--config.FIELD=VALUE ...]

Trains and measures three times, with each value of the configuration's field `precision`. A CPU
computes products in float32 always; here their operands are first rounded as a device would, to the
10 bits after the point of a GPU's TF32 ("tensorfloat32") or to the 7 of one pass of a TPU
("bfloat16"), forwards and backwards. D, G and R are measured at full float32.
"""

import argparse
import pathlib
import tempfile

import jax
from jax import lax
from jax.extend.core import Primitive
from jax.interpreters import mlir

from relstab_jax import main as command
from relstab_jax import tables

MANTISSA_BITS = {lax.Precision.DEFAULT: 7, lax.Precision.HIGH: 10}


def emulate(product: Primitive) -> None:
    """Rounds the operands of a product whose precision is not the highest."""
    exact = mlir._platform_specific_lowerings["cpu"][product].rule

    def rounded(*operands: jax.Array, bits: int, **parameters) -> jax.Array:
        operands = [lax.reduce_precision(x, exponent_bits=8, mantissa_bits=bits) for x in operands]
        return product.bind(*operands, **parameters | {"precision": (lax.Precision.HIGHEST,) * 2})

    def lower(context: mlir.LoweringRuleContext, *operands, **parameters):
        precision = parameters["precision"] or (lax.Precision.DEFAULT,)
        if bits := MANTISSA_BITS.get(precision[0]):
            rule = mlir.lower_fun(rounded, multiple_results=False)
            return rule(context, *operands, bits=bits, **parameters)
        return exact(context, *operands, **parameters)

    mlir.register_lowering(product, lower, platform="cpu")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", required=True)
    known, others = parser.parse_known_args()
    emulate(lax.dot_general_p)
    emulate(lax.conv_general_dilated_p)
    for precision in ("float32", "tensorfloat32", "bfloat16"):
        config, _ = command.configuration(
            [f"--config={known.config}", *others, f"--config.precision={precision}"]
        )
        experiment = command.experiment_of(config)
        experiment.check(config)
        with tempfile.TemporaryDirectory() as workdir:
            found = experiment.run(config, pathlib.Path(workdir))
        found.attrs["config"] = {"experiment": config.experiment}
        print(precision, tables.summary(found), sep="\n", flush=True)


if __name__ == "__main__":
    main()
