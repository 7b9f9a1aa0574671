"""Every benchmark can be imported, here without being run."""

import importlib
import pathlib

import pytest

THIS = pathlib.Path(__file__)
BENCHMARKS = sorted(file.stem for file in THIS.parent.glob("*.py") if file != THIS)


@pytest.mark.parametrize("name", BENCHMARKS)
def test_a_benchmark_finds_what_it_imports(name):
    try:
        importlib.import_module(f"tests.benchmarks.{name}")
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        pytest.skip("needs the extra `torch`")
