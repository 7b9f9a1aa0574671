"""Errors of reading a user's file become one sentence."""

import pytest

from relstab_jax.errors import InputError, reading, shown, some


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (FileNotFoundError(2, "No such file"), "x.png: there is no such file; give another"),
        (PermissionError(13, "denied"), "x.png may not be read: change its permissions, or give"),
        (ZeroDivisionError(), r"x.png cannot be read as an image \(ZeroDivisionError\): give"),
        (OSError(5, "Input/output error"), r"as an image \(Input/output error\): give another"),
        (ValueError("first line.\nsecond line"), r"as an image \(first line\): give another"),
        (MemoryError("x" * 9000), r"as an image \(x+…\): give another"),
        (InputError("said already"), "^said already$"),
    ],
)
def test_errors_of_reading_are_one_sentence(error, message):
    with (
        pytest.raises(InputError, match=message) as raised,
        reading("x.png", "an image", "give another"),
    ):
        raise error
    assert len(str(raised.value)) < 300
    assert "\n" not in str(raised.value)


def test_long_paths_texts_and_lists_are_shortened():
    with (
        pytest.raises(InputError, match=r"^…x+/x\.png") as raised,
        reading("x" * 4000 + "/x.png", "a", "b"),
    ):
        raise ValueError("y" * 4000)
    assert len(str(raised.value)) < 300
    assert len(shown("z" * 4000)) == 60
    assert some("abc") == "a, b, c"
    assert some("abcdefg", "; ", at_most=2) == "a; b; and 5 more"
    assert some([]) == ""
