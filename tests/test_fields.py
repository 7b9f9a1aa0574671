"""Tries values that are not allowed in every field of every configuration."""

import importlib
import math
import pathlib

import pytest
from ml_collections import ConfigDict

from relstab_jax import fields, problems
from relstab_jax.config import load
from relstab_jax.errors import InputError
from relstab_jax.main import EXPERIMENTS, experiment_of

ROOT = pathlib.Path(__file__).parents[1]
FILES = sorted(path.name for path in (ROOT / "configs").glob("*.py"))


def loaded(file):
    config = load(str(ROOT / "configs" / file))
    return config, experiment_of(config)


def with_value(config, name, value):
    tree = config.to_dict()
    *groups, field = name.split(".")
    of = tree
    for group in groups:
        of = of[group]
    of[field] = value
    return ConfigDict(tree, convert_dict=True)


def not_allowed(field):
    """Yields values that a field does not allow."""
    if field.several:
        yield from (3, None, "0,1", *((value,) for value in not_allowed(field.element)))
        if not field.optional:
            yield ()
        yield (field.high if math.isfinite(field.high) else 1,) * 2
        return
    yield from ([], (1, 2), b"1", 1j)
    if not field.optional:
        yield None
    if field.kind is not str:
        yield from ("", "text")
    if field.kind is not bool:
        yield from (True, False)
    if field.kind is not float:
        yield from (0.5, math.nan, math.inf)
    if field.kind in (int, float):
        yield from (math.nan, math.inf, -math.inf, 10**40, -(10**40), 1e300)
    if math.isfinite(field.low):
        yield field.kind(field.low - max(1, abs(field.low)))
        if field.low_excluded:
            yield field.kind(field.low)
    if field.choices:
        yield "nosuch"
        yield field.kind(10**6)
    if field.path:
        yield from ("gs://bucket/folder", "s3://a", "https://a.b/c", "~nobody-of-this-name/x")


@pytest.mark.parametrize("file", FILES)
def test_a_value_that_is_not_allowed_is_refused_in_one_sentence(file):
    config, experiment = loaded(file)
    for name in fields.flattened(config.to_dict()).keys() - {"experiment"}:
        for value in not_allowed(experiment.FIELDS[name]):
            changed = with_value(config, name, value)
            with pytest.raises(InputError) as error:
                experiment.check(changed)
            assert name in str(error.value), (name, value)
            assert len(str(error.value)) < 300, (name, value)
            assert "\n" not in str(error.value)


@pytest.mark.parametrize("file", FILES)
def test_the_configurations_are_valid_and_complete(file):
    config, experiment = loaded(file)
    absent = () if config.get("data") == problems.SCALE_DETECTION else problems.OF_SCALE_DETECTION
    fields.check(config, experiment.FIELDS, {*absent, *problems.DEFORMATIONS})
    smaller = config.copy_and_resolve_references().unlock()
    field = next(name for name in smaller if "seed" in name or name == "sigmas")
    del smaller[field]
    with pytest.raises(InputError, match=f"lacks the field '{field}'"):
        experiment.check(smaller)
    with pytest.raises(InputError, match="has no field 'sedes'"):
        experiment.check(with_value(config, "sedes", 1))


def test_fields_of_the_measurement_are_fields_of_the_experiment():
    for name in EXPERIMENTS:
        experiment = importlib.import_module(f"relstab_jax.experiments.{name}")
        assert set(experiment.MEASUREMENT) <= set(experiment.FIELDS)


@pytest.mark.parametrize(
    ("text", "field", "value"),
    [
        ("3", fields.whole(), 3),
        ("3", fields.real(), 3.0),
        ("1e-3", fields.real(), 1e-3),
        ("none", fields.optional(fields.whole()), None),
        ("none", fields.optional(fields.choice("cifar10", "none")), "none"),
        ("False", fields.FLAG, False),
        ("true", fields.FLAG, True),
        ("4", fields.SEEDS, (4,)),
        ("(0, 1,)", fields.SEEDS, (0, 1)),
        ("", fields.SEEDS, ()),
        ("0,8", fields.optional(fields.several(fields.whole(0))), (0, 8)),
        ("", fields.optional(fields.several(fields.whole(0))), ()),
        ("a/b", fields.PATH, "a/b"),
        ("~/b", fields.PATH, str(pathlib.Path("~/b").expanduser())),
        ("hf:timm/vgg16.tv_in1k", fields.PATH, "hf:timm/vgg16.tv_in1k"),
    ],
)
def test_a_value_is_converted_to_the_type_of_its_field(text, field, value):
    found = fields.parse("field", text, field)
    assert found == value
    assert type(found) is type(value)
