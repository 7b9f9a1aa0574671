import pytest
from ml_collections import ConfigDict

from relstab_jax.config import load, with_presets
from relstab_jax.errors import InputError

PRESETS = {"small": {"width": 4, "measure.copies": 1}, "long": {"epochs": 100}}


def config() -> ConfigDict:
    return ConfigDict({"width": 64, "epochs": 10, "measure": {"copies": 5}})


@pytest.mark.parametrize("words", ["small,long", "long,small"])
def test_presets_apply_in_any_order(words):
    found = with_presets(config(), words, PRESETS).to_dict()
    assert found == {"width": 4, "epochs": 100, "measure": {"copies": 1}}


def test_without_words_nothing_changes():
    assert with_presets(config(), "", PRESETS) == config()


def test_an_unknown_preset_lists_the_known_ones():
    with pytest.raises(InputError, match="unknown preset 'tiny': use small, long, or none"):
        with_presets(config(), "long,tiny", PRESETS)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, r"c\.py: there is no such file; give a Python file that defines get_config"),
        (
            "def get_config(:",
            r"c\.py cannot be read as a configuration \(invalid syntax \(c\.py, line 1\)\)",
        ),
        ("\0", r"c\.py cannot be read as a configuration"),
        ("import nothing_of_this_name", r"c\.py raises ModuleNotFoundError \(No module named"),
        (
            "def get_config():\n    return 1 / 0",
            r"c\.py raises ZeroDivisionError \(division by zero\)",
        ),
        ("x = 1", r"c\.py has no function get_config"),
        ("def get_config():\n    return {}", "returned a dict: it must return a ConfigDict"),
        (
            "from ml_collections import ConfigDict\nget_config = ConfigDict",
            "must name its experiment",
        ),
    ],
)
def test_a_file_that_is_not_a_configuration_is_one_sentence(tmp_path, text, message):
    path = tmp_path / "c.py"
    if text is not None:
        path.write_text(text)
    with pytest.raises(InputError, match=message) as error:
        load(str(path))
    assert "\n" not in str(error.value)
