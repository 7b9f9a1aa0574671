"""Fields of configurations: what each may hold, and its value on a command line.

Every experiment declares a table {name: `Field`} of all fields of its configurations; the fields of
a group are named "group.field". The command line is parsed by this table, and `check` compares a
configuration with it. Conditions on several fields are checked by the experiments.
"""

import difflib
import math
import os
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from relstab_jax.errors import InputError, shown, some
from relstab_jax.keys import MAX_SEED

_KINDS = {bool: "True or False", int: "a whole number", float: "a finite number", str: "text"}
_BOOLEANS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


class Field(NamedTuple):
    """What a field of a configuration may hold.

    Attributes:
        kind: bool, int, float or str.
        low: the smallest number.
        high: the largest number.
        low_excluded: whether a number must be greater than `low`.
        choices: the allowed values; empty if any value of the type is allowed.
        optional: whether it may be None or, if it holds several values, none.
        several: whether it holds a tuple of different values, at least one unless it is optional.
        path: whether it names a local file or folder.
    """

    kind: type
    low: float = -math.inf
    high: float = math.inf
    low_excluded: bool = False
    choices: tuple[Any, ...] = ()
    optional: bool = False
    several: bool = False
    path: bool = False

    @property
    def element(self) -> "Field":
        """The field of each of several values."""
        return self._replace(several=False, optional=False)


def whole(low: int = 1, high: int = 2**31 - 1) -> Field:
    """Returns the field of a whole number from `low` to `high`."""
    return Field(int, low, high)


def real(low: float = 0, high: float = 1e38) -> Field:
    """Returns the field of a number from `low` to `high`; by default it fits into float32."""
    return Field(float, low, high)


def positive() -> Field:
    """Returns the field of a number greater than 0."""
    return real()._replace(low_excluded=True)


def choice(*choices: Any) -> Field:
    """Returns the field of one of several values of the same type."""
    return Field(type(choices[0]), choices=choices)


def optional(field: Field) -> Field:
    """Returns a field that may also be None or, if it is one of several values, ()."""
    return field._replace(optional=True)


def several(field: Field) -> Field:
    """Returns the field of a tuple of values of `field`."""
    return field._replace(several=True)


FLAG, TEXT, PATH = Field(bool), Field(str), Field(str, path=True)
SEED = whole(0, MAX_SEED)
SEEDS = several(SEED)


def check(config: ConfigDict, fields: Mapping[str, Field], absent: Collection[str] = ()) -> None:
    """Checks every field of a configuration.

    Args:
        config: the configuration.
        fields: {name: field} of all fields of the experiment.
        absent: names of fields that this configuration may lack.

    Raises:
        InputError: if a field is missing or unknown, or its value has another type or is out of
            range.
    """
    values = flattened(config.to_dict())
    values.pop("experiment", None)
    if unknown := sorted(values.keys() - fields.keys()):
        raise _unknown_field(unknown[0], fields)
    if missing := sorted(fields.keys() - values.keys() - set(absent)):
        raise InputError(f"the configuration lacks the field {missing[0]!r}: add it to the file")
    for name, value in values.items():
        _check_value(name, value, fields[name])


def flattened(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Returns a configuration, as a dict, without nesting: {"field" or "group.field": value}."""
    flat = {}
    for name, value in tree.items():
        if isinstance(value, Mapping):
            flat |= flattened(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat


def _unknown_field(name: str, known: Collection[str]) -> InputError:
    text = f"the configuration has no field {shown(name)}"
    if close := difflib.get_close_matches(name, known, 1):
        return InputError(f"{text}: did you mean {close[0]!r}?")
    return InputError(f"{text}: its file lists the fields that it has")


def _check_value(name: str, value: object, field: Field) -> None:
    given = f"{name}={shown(value)}"
    if field.several:
        if not isinstance(value, tuple | list):
            raise InputError(f"{given} must be a tuple, as in --config.{name}=2,3")
        if not value and not field.optional:
            raise InputError(f"{given} is empty: give at least one value, as in --config.{name}=2")
        for element in value:
            _check_value(name, element, field.element)
        if repeated := sorted({element for element in value if value.count(element) > 1}):
            raise InputError(f"{given} repeats {shown(repeated)}: give each value once")
        return
    if value is None and field.optional:
        return
    types = (int, float) if field.kind is float else (field.kind,)
    is_finite = not isinstance(value, float) or math.isfinite(value)
    if type(value) not in types or not is_finite:
        raise InputError(f"{given} must be {_KINDS[field.kind]}")
    if field.choices and value not in field.choices:
        allowed = some(map(repr, field.choices), at_most=12)
        raise InputError(f"{given} is not known: use one of {allowed}")
    if field.path:
        local_path(name, str(value))
    if isinstance(value, int | float):
        if value < field.low or (field.low_excluded and value == field.low):
            bound = "more than" if field.low_excluded else "at least"
            raise InputError(f"{given} must be {bound} {field.low:g}")
        if value > field.high:
            high = int(field.high) if field.kind is int else f"{field.high:g}"
            raise InputError(f"{given} must be at most {high}")


def local_path(name: str, text: str) -> str:
    """Returns the path of a file or folder on this machine, with ~ expanded.

    Args:
        name: of the field or flag, for messages.
        text: its value.

    Raises:
        InputError: if it is a remote address, such as gs://bucket/folder, or the home folder of an
            unknown user.
    """
    if re.match(r"\w[\w+.-]+:/", text):
        raise InputError(
            f"{name}={shown(text)} is a remote address: copy or mount it (gcsfuse mounts gs://), "
            "and give the local path"
        )
    path = os.path.expanduser(text)
    if path.startswith("~"):
        raise InputError(
            f"{name}={shown(text)} starts with ~, but there is no such user: give the full path"
        )
    return path


def parse(name: str, text: str, field: Field) -> Any:
    """Converts text from the command line to the type of a field; `check` checks the range.

    Args:
        name: of the field, for messages.
        text: the value. The elements of a tuple are separated by commas. "none" is None, unless it
            is one of the choices.
        field: what the field may hold.

    Raises:
        InputError: if the text is not of the field's type.
    """
    if field.several:
        inner = text.strip("()[] ").removesuffix(",")
        parts = inner.split(",") if inner else []
        return tuple(parse(name, part.strip(), field.element) for part in parts)
    if field.optional and text.lower() == "none" and text not in field.choices:
        return None
    try:
        if field.kind is bool:
            return _BOOLEANS[text.lower()]
        value = field.kind(text)
    except (ValueError, KeyError):
        raise InputError(f"{name}={shown(text)} must be {_KINDS[field.kind]}") from None
    return local_path(name, value) if field.path else value


def set_fields(config: ConfigDict, assignments: Sequence[str], fields: Mapping[str, Field]) -> None:
    """Sets fields of a configuration, in place.

    Args:
        config: the configuration.
        assignments: "field=value" each.
        fields: {name: field} of all fields of the experiment.

    Raises:
        InputError: if the configuration has no such field, or a value is of another type.
    """
    known = flattened(config.to_dict()).keys() & fields.keys()
    for assignment in assignments:
        name, _, text = assignment.partition("=")
        if name not in known:
            raise _unknown_field(name, known)
        config.update_from_flattened_dict({name: parse(name, text, fields[name])})
