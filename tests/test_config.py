import pytest
from ml_collections import ConfigDict

from relstab_jax.config import with_presets
from relstab_jax.errors import InputError

PRESETS = {"small": {"width": 4, "measure.copies": 1}, "long": {"epochs": 100}}


def config() -> ConfigDict:
    return ConfigDict({"width": 64, "epochs": 10, "measure": {"copies": 5}})


@pytest.mark.parametrize("words", ["small,long", "long,small"])
def test_words_set_fields_in_any_order(words):
    found = with_presets(config(), words, PRESETS).to_dict()
    assert found == {"width": 4, "epochs": 100, "measure": {"copies": 1}}


def test_no_word_changes_nothing():
    assert with_presets(config(), "", PRESETS) == config()


def test_an_unknown_word_names_the_known():
    with pytest.raises(InputError, match="unknown preset 'tiny': use small, long, or none"):
        with_presets(config(), "long,tiny", PRESETS)
