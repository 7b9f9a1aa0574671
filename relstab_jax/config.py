"""Configurations and their presets, the words after the colon of ``configs/task2.py:laptop``."""

from collections.abc import Mapping
from typing import Any

from relstab_jax.errors import InputError

Config = Any  # an ml_collections.ConfigDict, whose fields no type checker knows


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
