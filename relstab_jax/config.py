"""Configurations: Python files that define `get_config(words) -> ConfigDict`."""

import contextlib
import json
import os
import pathlib
from collections.abc import Iterator, Mapping
from types import ModuleType
from typing import Any

from ml_collections import ConfigDict

from relstab_jax.errors import InputError, reading, reason, shown
from relstab_jax.fields import flattened, local_path

Config = Any  # of a ConfigDict whose fields are read: type checkers do not know their types


def load(argument: str) -> ConfigDict:
    """Loads the configuration that is named on a command line.

    Args:
        argument: FILE or FILE:WORDS, such as configs/task2.py:laptop.

    Returns:
        The result of the file's `get_config(WORDS)`, locked.

    Raises:
        InputError: if the file cannot be run, or does not return a configuration.
    """
    file, _, words = local_path("--config", argument).partition(":")
    path = pathlib.Path(file)
    module = load_module(path)
    if not callable(getattr(module, "get_config", None)):
        raise InputError(f"the configuration {path} has no function get_config: it must define one")
    with _running(path):
        config = module.get_config(words) if words else module.get_config()
    if not isinstance(config, ConfigDict):
        raise InputError(
            f"get_config of {path} returned a {type(config).__name__}: it must return a ConfigDict"
        )
    if not isinstance(config.get("experiment"), str):
        raise InputError(
            f"the configuration {path} must name its experiment, as in "
            'config.experiment = "scale_detection"'
        )
    return config.lock()


def load_module(path: str | os.PathLike[str]) -> ModuleType:
    """Runs the Python file of a configuration, which may be in any folder.

    Raises:
        InputError: if the file cannot be read, is not Python, or raises an exception.
    """
    path = pathlib.Path(path)
    with reading(path, "a configuration", "give a Python file that defines get_config"):
        code = compile(path.read_bytes(), str(path), "exec")
    module = ModuleType(path.stem)
    module.__file__ = str(path)
    with _running(path):
        exec(code, module.__dict__)
    return module


@contextlib.contextmanager
def _running(path: pathlib.Path) -> Iterator[None]:
    """Converts any exception of a configuration's code into an `InputError`."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        raise InputError(
            f"the configuration {path} raises {type(error).__name__} ({reason(error, 120)}): "
            "correct the file"
        ) from error


def sibling(file: str, name: str) -> ModuleType:
    """Loads another configuration of the same folder, for one that is derived from it.

    Args:
        file: `__file__` of the derived configuration.
        name: file name of the other one, such as "cifar10.py".

    Raises:
        InputError: as `load_module`.
    """
    return load_module(pathlib.Path(file).with_name(name))


def with_presets(
    config: ConfigDict, words: str, presets: Mapping[str, Mapping[str, Any]]
) -> ConfigDict:
    """Returns `config`, changed in place by the presets that `words` names.

    Args:
        config: the configuration without presets.
        words: names of presets, separated by commas, in any order; may be empty.
        presets: {preset: {"field" or "group.field": value}}. If two of them set the same field, the
            one that is listed later here wins.

    Raises:
        InputError: if a word is not the name of a preset.
    """
    given = [word for word in words.split(",") if word]
    for word in given:
        if word not in presets:
            known = f"use {', '.join(presets)}, or none" if presets else "there are none"
            raise InputError(f"unknown preset {shown(word)}: {known}")
    for name, fields in presets.items():
        if name in given:
            config.update_from_flattened_dict(fields)
    return config


def as_json(config: ConfigDict) -> dict[str, Any]:
    """Returns a configuration as JSON gives it back: tuples have become lists."""
    return json.loads(config.to_json())


def differences(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> dict[str, str]:
    """Compares the configuration in a folder with that of this command, both as of `as_json`.

    A field that is missing in one, because it was added later, counts as empty.

    Returns:
        {field: text such as "width: 8 there, 16 here"} for every field that differs.
    """
    theirs, ours = (
        {name: value for name, value in flattened(config).items() if value not in (None, "", [])}
        for config in (theirs, ours)
    )
    return {
        name: f"{name}: {shown(theirs.get(name), 30)} there, {shown(ours.get(name), 30)} here"
        for name in sorted(theirs.keys() | ours.keys())
        if theirs.get(name) != ours.get(name)
    }
