"""The benchmarks are not run by the tests, which only see that they start."""

import importlib
import pathlib
import sys

import pytest

NAMES = sorted({path.stem for path in pathlib.Path(__file__).parent.glob("*.py")} - {"test_help"})
NEED_TORCH = {"networks", "sensitivity"}


@pytest.mark.parametrize("name", NAMES)
def test_every_benchmark_prints_what_it_does(name, monkeypatch, capsys):
    if name in NEED_TORCH:
        pytest.importorskip("torch")
    benchmark = importlib.import_module(f"tests.benchmarks.{name}")
    monkeypatch.setattr(sys, "argv", [name, "--help"])
    with pytest.raises(SystemExit, match=r"^0$"):
        benchmark.main()
    assert benchmark.__doc__.splitlines()[0] in capsys.readouterr().out
