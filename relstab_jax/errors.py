"""Exceptions that the command line prints as one sentence, and helpers to word them."""

import contextlib
import errno
import os
import reprlib
from collections.abc import Iterable, Iterator

_FULL_DISK_ERRORS = errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS


class InputError(ValueError):
    """A request that cannot be met; says what was given, what is allowed and what to do.

    Raised before anything is compiled or written.
    """


class Diverged(Exception):
    """The loss of a training is no longer finite."""


class WriteError(Exception):
    """A file of a run cannot be written, for example because the disk is full."""


@contextlib.contextmanager
def reading(path: str | os.PathLike[str], expected: str, advice: str) -> Iterator[None]:
    """Converts any error of reading a user's file into an `InputError`.

    The block should only read, decode and unpack the file, so that no bug of this program is
    blamed on the file.

    Args:
        path: of the file or folder.
        expected: what it should contain, such as "an image".
        advice: what the user can do, such as "give another file".

    Raises:
        InputError: in place of any other exception. An InputError raised in the block is passed on.
    """
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # of Pillow, NumPy, zipfile, json, safetensors, PyTorch, Orbax, …
        name = end_of_path(path)
        if isinstance(error, FileNotFoundError) and not os.path.exists(path):
            text = f"{name}: there is no such file; {advice}"
        elif isinstance(error, PermissionError):
            text = f"{name} may not be read: change its permissions, or {advice}"
        else:
            text = f"{name} cannot be read as {expected} ({reason(error)}): {advice}"
        raise InputError(text) from error


@contextlib.contextmanager
def writing(path: str | os.PathLike[str]) -> Iterator[None]:
    """Converts any OSError of writing a file into a `WriteError`."""
    try:
        yield
    except OSError as error:
        raise _cannot_write(path, reason(error)) from error


@contextlib.contextmanager
def reporting_full_disk(folder: str | os.PathLike[str]) -> Iterator[None]:
    """Converts whatever a library raises when the disk of `folder` is full into a `WriteError`.

    Any other exception is passed on.
    """
    try:
        yield
    except (InputError, WriteError):
        raise
    except Exception as error:  # Orbax raises a ValueError with the text of the system's error
        if text := _full_disk(error):
            raise _cannot_write(folder, text) from error
        raise


def reason(error: BaseException, at_most: int = 90) -> str:
    """Returns the first line of an exception's message, cut to a length, or else its type."""
    text = (getattr(error, "strerror", None) or str(error)).strip().partition("\n")[0]
    text = text.rstrip(". ") or type(error).__name__
    return text if len(text) <= at_most else f"{text[: at_most - 1]}…"


def some(items: Iterable[object], separator: str = ", ", at_most: int = 4) -> str:
    """Joins the first few items of a list, and says how many more there are."""
    texts = [str(item) for item in items]
    if len(texts) > at_most:
        texts = [*texts[:at_most], f"and {len(texts) - at_most} more"]
    return separator.join(texts)


def shown(value: object, at_most: int = 60) -> str:
    """Returns the `repr` of a value with long strings, numbers and collections shortened."""
    short = reprlib.Repr()
    short.maxstring = short.maxother = short.maxlong = at_most
    return short.repr(value)


def end_of_path(path: str | os.PathLike[str]) -> str:
    """Returns a path, shortened at its beginning to 90 characters."""
    text = os.fspath(path)
    return text if len(text) <= 90 else f"…{text[-89:]}"


def _cannot_write(path: str | os.PathLike[str], why: str) -> WriteError:
    return WriteError(
        f"cannot write {end_of_path(path)} ({why}): make room, and the same command goes on from "
        "the last checkpoint; or give another --workdir"
    )


def _full_disk(error: BaseException | None) -> str | None:
    """Returns what an exception, or one that it came from, says of a full disk, or None."""
    while error is not None:
        for text in map(os.strerror, _FULL_DISK_ERRORS):
            if text in str(error):
                return text
        error = error.__cause__ or error.__context__
    return None
