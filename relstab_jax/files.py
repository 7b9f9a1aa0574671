"""Files of a run: written atomically or appended to, as strict JSON."""

import contextlib
import json
import math
import pathlib
from typing import Any

from relstab_jax.errors import writing


def write_atomically(path: pathlib.Path, text: str) -> None:
    """Writes a file completely or not at all.

    Raises:
        WriteError: if the disk is full or the folder cannot be written.
    """
    partial = path.with_suffix(".partial")
    with writing(path):
        try:
            partial.write_text(text)
            partial.replace(path)
        except OSError:
            with contextlib.suppress(OSError):
                partial.unlink(missing_ok=True)
            raise


def append(path: pathlib.Path, content: bytes) -> None:
    """Appends to a file; where the disk is full, perhaps only the first part of the content.

    Raises:
        WriteError: if the disk is full or the folder cannot be written.
    """
    with writing(path), path.open("ab") as file:
        file.write(content)


def strict_json(tree: Any, indent: int | None = None) -> str:
    """Encodes nested dicts and lists as a line of JSON, with null for NaN and infinities."""
    return json.dumps(_none_for_non_finite(tree), indent=indent, allow_nan=False) + "\n"


def nan_for_none(tree: Any) -> Any:
    """Replaces None by NaN in a number or in nested lists of numbers."""
    if isinstance(tree, list):
        return [nan_for_none(value) for value in tree]
    return math.nan if tree is None else tree


def _none_for_non_finite(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {name: _none_for_non_finite(value) for name, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [_none_for_non_finite(value) for value in tree]
    return None if isinstance(tree, float) and not math.isfinite(tree) else tree
