import pytest
from ml_collections import ConfigDict

from relstab_jax import presets
from relstab_jax.errors import InputError

PRESETS = {"small": {"width": 4, "measure.copies": 1}, "long": {"epochs": 100}}


def config() -> ConfigDict:
    return ConfigDict({"width": 64, "epochs": 10, "measure": {"copies": 5}})


@pytest.mark.parametrize("words", ["small,long", "long,small"])
def test_words_set_fields_in_any_order(words):
    found = presets.apply(config(), words, PRESETS).to_dict()
    assert found == {"width": 4, "epochs": 100, "measure": {"copies": 1}}


def test_no_word_changes_nothing():
    assert presets.apply(config(), "", PRESETS) == config()


def test_an_unknown_word_names_the_known():
    with pytest.raises(InputError, match="unknown preset 'tiny': use small, long, or none"):
        presets.apply(config(), "long,tiny", PRESETS)
