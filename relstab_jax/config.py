"""Configurations: their files, the words and fields of a command line, and what each may hold.

Every experiment has a table {field: `Field`} of all that its configurations hold, in which the
fields of a group are named "group.field". The command line is read by it, and `check` compares with
it, before anything else is looked at. What depends on several fields is left to the experiments.
"""

import contextlib
import difflib
import math
import os
import pathlib
import re
import reprlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from types import ModuleType
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from relstab_jax.errors import InputError
from relstab_jax.keys import MAX_SEED

Config = Any  # an ml_collections.ConfigDict, whose fields no type checker knows

_KINDS = {bool: "True or False", int: "a whole number", float: "a finite number", str: "text"}
_WORDS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


class Field(NamedTuple):
    """What a field of a configuration may hold.

    Attributes:
        kind: bool, int, float or str.
        low: the least number.
        high: the largest.
        above: whether a number has to be more than `low`.
        choices: the values there are; any for none.
        optional: whether it may be left out, as None.
        several: whether it holds a tuple, of at least one value and all different.
        path: whether it is the name of a file or folder.
    """

    kind: type
    low: float = -math.inf
    high: float = math.inf
    above: bool = False
    choices: tuple[Any, ...] = ()
    optional: bool = False
    several: bool = False
    path: bool = False


def whole(low: int = 1, high: int = 2**31 - 1) -> Field:
    """Returns the field of a whole number from `low` to `high`."""
    return Field(int, low, high)


def real(low: float = 0, high: float = 1e38) -> Field:
    """Returns the field of a number from `low` to `high`; float32 ends at 3.4e38."""
    return Field(float, low, high)


def positive() -> Field:
    """Returns the field of a number above 0."""
    return real()._replace(above=True)


def choice(*choices: Any) -> Field:
    """Returns the field of one of some values of one type."""
    return Field(type(choices[0]), choices=choices)


def optional(field: Field) -> Field:
    """Returns a field that may also be None."""
    return field._replace(optional=True)


def several(field: Field) -> Field:
    """Returns the field of a tuple of such values."""
    return field._replace(several=True)


FLAG, TEXT, PATH = Field(bool), Field(str), Field(str, path=True)
SEED = whole(0, MAX_SEED)
SEEDS = several(SEED)


def check(config: Config, fields: Mapping[str, Field], absent: Collection[str] = ()) -> None:
    """Checks that a configuration holds what it may, field by field.

    Args:
        config: the configuration.
        fields: {field: what it may hold} for all fields there are.
        absent: those among them that this configuration need not have.

    Raises:
        InputError: for a missing or unknown field, or a value of another type or out of range.
    """
    found = dict(_flat(config.to_dict()))
    found.pop("experiment", None)
    if unknown := sorted(found.keys() - fields.keys()):
        raise InputError(_no_field(unknown[0], fields))
    if missing := sorted(fields.keys() - found.keys() - set(absent)):
        raise InputError(f"the configuration lacks the field {missing[0]!r}, which it needs")
    for name, value in found.items():
        _check_value(name, value, fields[name])


def _flat(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def _no_field(name: str, fields: Collection[str]) -> str:
    close = difflib.get_close_matches(name, fields, 1)
    return f"the configuration has no field {shown(name)}" + (
        f": did you mean {close[0]!r}?" if close else ""
    )


def shown(value: Any, longest: int = 60) -> str:
    """Returns the representation of a value, cut where it is longer than so many characters."""
    short = reprlib.Repr()
    short.maxstring = short.maxother = short.maxlong = longest
    return short.repr(value)


def _check_value(name: str, value: object, field: Field) -> None:
    given = f"{name}={shown(value)}"
    if value is None and field.optional:
        return
    if field.several:
        if not isinstance(value, tuple | list):
            raise InputError(f"{given} must be a tuple, such as --config.{name}=2,3")
        if not value:
            raise InputError(f"{name}=() names none: give at least one, as in --config.{name}=2,3")
        for one in value:
            _check_value(name, one, field._replace(several=False))
        if twice := sorted({one for one in value if value.count(one) > 1}):
            raise InputError(f"{given} names {shown(twice)} more than once")
        return
    kinds = (int, float) if field.kind is float else (field.kind,)
    if type(value) not in kinds:
        raise InputError(f"{given} must be {_KINDS[field.kind]}")
    if isinstance(value, float) and not math.isfinite(value):
        raise InputError(f"{given} must be {_KINDS[float]}")
    if field.choices and value not in field.choices:
        raise InputError(f"{given} is not known: use one of {_list(field.choices)}")
    if field.path:
        local(name, str(value))
    if isinstance(value, int | float):
        if value < field.low or (field.above and value == field.low):
            bound = "more than" if field.above else "at least"
            raise InputError(f"{given} must be {bound} {field.low:g}")
        if value > field.high:
            high = int(field.high) if field.kind is int else f"{field.high:g}"
            raise InputError(f"{given} must be at most {high}")


def _list(choices: Sequence[Any]) -> str:
    """Returns the choices in a sentence, no more than a dozen of them."""
    few = ", ".join(map(repr, choices[:12]))
    return few if len(choices) <= 12 else f"{few} and {len(choices) - 12} others"


def local(name: str, text: str) -> str:
    """Returns the path of a file or folder on this machine, with ~ expanded.

    Raises:
        InputError: for the address of something elsewhere, such as gs://bucket/folder, or a ~ of
            an unknown user.
    """
    if re.match(r"\w[\w+.-]+:/", text):
        raise InputError(
            f"{name}={shown(text)} is an address: give a local path; copy or mount there what is "
            "elsewhere (gcsfuse mounts gs://)"
        )
    path = os.path.expanduser(text)
    if path.startswith("~"):
        raise InputError(f"{name}={shown(text)} has a ~ of no user: write the path out")
    return path


def parsed(name: str, text: str, field: Field) -> Any:
    """Returns the value that a field is given on a command line; `check` looks at its range.

    Args:
        name: of the field.
        text: the value. A tuple has commas between its values; none is None, unless it is a choice.
        field: what it may hold.

    Raises:
        InputError: where the text does not have the type of the field.
    """
    if field.optional and text.lower() == "none" and text not in field.choices:
        return None
    if field.several:
        one = field._replace(several=False)
        parts = text.strip("()[] ").removesuffix(",").split(",") if text.strip("()[] ") else []
        return tuple(parsed(name, part.strip(), one) for part in parts)
    try:
        if field.kind is bool:
            return _WORDS[text.lower()]
        value = field.kind(text)
    except (ValueError, KeyError):
        raise InputError(f"{name}={shown(text)} must be {_KINDS[field.kind]}") from None
    return local(name, value) if field.path else value


def set_fields(config: Config, settings: Sequence[str], fields: Mapping[str, Field]) -> None:
    """Sets fields of a configuration, each given as "field=value".

    Raises:
        InputError: for a field that the configuration does not have, or a value of another type.
    """
    names = [name for name, _ in _flat(config.to_dict())]
    for setting in settings:
        name, _, text = setting.partition("=")
        if name not in names or name not in fields:
            raise InputError(_no_field(name, names))
        config.update_from_flattened_dict({name: parsed(name, text, fields[name])})


def module(path: str | os.PathLike[str]) -> ModuleType:
    """Runs the file of a configuration, wherever it lies, and returns it as a module.

    Raises:
        InputError: where it cannot be read, is not Python, or raises.
    """
    path = pathlib.Path(path)
    try:
        code = compile(path.read_bytes(), str(path), "exec")
    except OSError as error:
        raise InputError(f"cannot read the configuration {path} ({error.strerror})") from error
    except (SyntaxError, ValueError) as error:
        line = f", line {error.lineno}" if isinstance(error, SyntaxError) else ""
        raise InputError(f"{path} is not a Python file: {_first(error)}{line}") from error
    made = ModuleType(path.stem)
    made.__file__ = str(path)
    with _running(path):
        exec(code, made.__dict__)
    return made


@contextlib.contextmanager
def _running(path: pathlib.Path) -> Iterator[None]:
    """Turns what the file of a configuration raises into one sentence."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        raise InputError(
            f"the configuration {path} raises {type(error).__name__}: {_first(error)}"
        ) from error


def _first(error: Exception) -> str:
    """Returns the beginning of what an exception says."""
    text = error.msg if isinstance(error, SyntaxError) else str(error)
    return (text.splitlines() or [""])[0][:120]


def sibling(file: str, name: str) -> ModuleType:
    """Returns another configuration's module for one that derives from it.

    Args:
        file: `__file__` of the one that derives.
        name: of the other, in the same folder, such as "cifar10.py".

    Raises:
        InputError: as `module`.
    """
    return module(pathlib.Path(file).with_name(name))


def load(argument: str) -> Config:
    """Loads the configuration that a command line names.

    Args:
        argument: FILE or FILE:WORDS, such as configs/task2.py:laptop.

    Returns:
        What `get_config(WORDS)` of the file returns, locked.

    Raises:
        InputError: as `module`, and where the file makes no configuration.
    """
    file, _, words = local("--config", argument).partition(":")
    path = pathlib.Path(file)
    made = module(path)
    if not callable(getattr(made, "get_config", None)):
        raise InputError(f"the configuration {path} has no function get_config: it must define one")
    with _running(path):
        config = made.get_config(words) if words else made.get_config()
    if not isinstance(config, ConfigDict):
        raise InputError(
            f"get_config of {path} returned a {type(config).__name__}: it must return a ConfigDict"
        )
    if not isinstance(config.get("experiment"), str):
        raise InputError(f"the configuration {path} must name its experiment, as text")
    return config.lock()


def with_presets(config: Config, words: str, presets: Mapping[str, Mapping[str, Any]]) -> Config:
    """Returns `config` with the fields that each preset named in `words` sets.

    Args:
        config: the setting without a preset.
        words: names of presets, separated by commas, in any order; may be empty.
        presets: for each name the fields it sets, as {"field" or "group.field": value}. Where two
            set the same field, the later one here counts.

    Raises:
        InputError: for a word that names no preset.
    """
    given = [word for word in words.split(",") if word]
    for word in given:
        if word not in presets:
            known = f"use {', '.join(presets)}, or none" if presets else "there are none"
            raise InputError(f"unknown preset {word!r}: {known}")
    for name, fields in presets.items():
        if name in given:
            config.update_from_flattened_dict(fields)
    return config
