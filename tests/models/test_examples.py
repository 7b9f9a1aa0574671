"""The examples in docstrings run."""

import doctest

from relstab_jax import models


def test_examples():
    found = doctest.testmod(models)
    assert found.failed == 0
    assert found.attempted > 0
