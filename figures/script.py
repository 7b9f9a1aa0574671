"""What the scripts of the figures share: their command line."""

import argparse
import os
import pathlib
import sys
from collections.abc import Callable, Sequence

from relstab_jax import plots, results
from relstab_jax.errors import InputError

RESULTS = pathlib.Path(__file__).parent / "results"
OUTPUT = pathlib.Path(__file__).parent / "output"

Draw = Callable[..., plots.Picture]


def of_results(plot: Draw) -> Draw:
    """Returns a function of results files that draws what they hold."""

    def draw(*files: str | os.PathLike[str]) -> plots.Picture:
        return plot(*map(results.load, files))

    return draw


def main(description: str | None, draw: Draw, committed: Sequence[str]) -> None:
    """Draws the files of the command line, or those in figures/results.

    Args:
        description: the docstring of the script.
        draw: (files...) -> the figure.
        committed: names of the files in figures/results.
    """
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("files", nargs="*", help="default: those committed")
    parser.add_argument("--output", default=OUTPUT, help="folder of the PNG and the PDF")
    arguments = parser.parse_args()
    name = pathlib.Path(sys.argv[0]).stem
    files = arguments.files or [RESULTS / file for file in committed]
    try:
        print(plots.save(draw(*files), pathlib.Path(arguments.output, f"{name}.png")))
    except InputError as error:
        sys.exit(f"error: {error}")
