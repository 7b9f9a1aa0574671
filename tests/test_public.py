"""The public names, and the rooms of the library that stand on JAX, NumPy and flax alone."""

import doctest
import importlib
import importlib.metadata
import subprocess
import sys

import pytest

import relstab_jax

ALONE = """
import importlib, pkgutil, sys

class Blocked:
    names = sys.argv[2].split(",")

    def find_spec(self, name, *_):
        if any(name == n or name.startswith(n + ".") for n in self.names):
            raise ImportError(f"{name} is blocked")

sys.meta_path.insert(0, Blocked())
package = importlib.import_module("relstab_jax." + sys.argv[1])
for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
    importlib.import_module(module.name)
"""
ABOVE = [f"relstab_jax.{room}" for room in (
    "config", "experiments", "fields", "files", "gathering", "grid", "layerwise", "main", "plots",
    "problems", "results", "runs", "tables", "training")]  # fmt: skip
PACKAGES = ["equinox", "grain", "matplotlib", "ml_collections", "optax", "orbax", "pandas", "PIL",
            "tensorflow_datasets", "torch", "xarray"]  # fmt: skip


@pytest.mark.parametrize("room", ["measures", "theory", "models", "adapters"])
def test_a_room_of_the_library_imports_with_the_others_blocked(room):
    command = [sys.executable, "-c", ALONE, room, ",".join(ABOVE + PACKAGES)]
    found = subprocess.run(command, capture_output=True, text=True)
    assert found.returncode == 0, found.stderr


def test_every_public_name_is_there():
    for name in relstab_jax.__all__:
        assert getattr(relstab_jax, name) is not None
    assert sorted(relstab_jax.__all__) == dir(relstab_jax)
    assert relstab_jax.__version__ == importlib.metadata.version("relstab_jax")
    with pytest.raises(AttributeError, match="no attribute 'mesure'"):
        relstab_jax.mesure  # noqa: B018


@pytest.mark.parametrize(
    "module",
    [
        *("adapters.flax", "adapters.nnx", "layerwise", "models"),
        *("measures.perturbations", "measures.sensitivity"),
    ],
)
def test_examples_of_docstrings_run(module):
    found = doctest.testmod(importlib.import_module(f"relstab_jax.{module}"))
    assert found.attempted > 0
    assert found.failed == 0
