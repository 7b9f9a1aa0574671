"""The exceptions that speak to the user, and the one way in which a user's file is read."""

import contextlib
import errno
import os
import shutil
from collections.abc import Iterable, Iterator

_OF_FULL_DISKS = errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS


class InputError(ValueError):
    """A request that cannot be met: says what was given, what is allowed and what to do.

    Raised before anything is compiled or written; the command line prints it without a traceback.
    """


class Diverged(Exception):
    """A training whose loss is not finite any more; the command line prints it as one sentence."""


@contextlib.contextmanager
def reading(path: str | os.PathLike[str], expected: str, advice: str) -> Iterator[None]:
    """Turns whatever goes wrong while a user's file is read into one sentence.

    Nothing but the reading, decoding and unpacking of the file belongs in the block: a fault of
    the program in it would be blamed on the file.

    Args:
        path: of the file or folder.
        expected: what it should be, such as "an image".
        advice: what to do where it is not, such as "give another file".

    Raises:
        InputError: in place of any other exception, which is its cause. One that the block raises
            itself passes.
    """
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # of Pillow, NumPy, zipfile, json, safetensors, PyTorch, Orbax, …
        text = f"{_end_of(path)} cannot be read as {expected} ({reason(error)}): {advice}"
        if isinstance(error, FileNotFoundError) and not os.path.exists(path):
            text = f"{_end_of(path)}: there is no such file; {advice}"
        elif isinstance(error, PermissionError):
            text = f"{_end_of(path)} may not be read: change its permissions, or {advice}"
        raise InputError(text) from error


def reason(error: BaseException, at_most: int = 90) -> str:
    """Returns the beginning of the first line of what an exception says, or else its name."""
    text = (getattr(error, "strerror", None) or str(error)).strip().partition("\n")[0]
    text = text.rstrip(". ") or type(error).__name__
    return text if len(text) <= at_most else f"{text[: at_most - 1]}…"


def some(items: Iterable[object], separator: str = ", ", at_most: int = 4) -> str:
    """Returns the first few items of a list in a sentence, and how many more there are."""
    named = list(map(str, items))
    more = [f"and {len(named) - at_most} more"] if len(named) > at_most else []
    return separator.join(named[:at_most] + more)


def _end_of(path: str | os.PathLike[str], at_most: int = 90) -> str:
    text = os.fspath(path)
    return text if len(text) <= at_most else f"…{text[1 - at_most :]}"


class Unwritten(Exception):
    """A file of a run that cannot be written; the command line prints it as one sentence."""


@contextlib.contextmanager
def writing(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turns an error of writing a file into one sentence.

    Raises:
        Unwritten: for any OSError.
    """
    try:
        yield
    except OSError as error:
        raise Unwritten(
            f"cannot write {path} ({error.strerror or type(error).__name__}): make room or give "
            "another --workdir; the same command goes on from the last checkpoint"
        ) from error


@contextlib.contextmanager
def noticing_a_full_disk(folder: str | os.PathLike[str]) -> Iterator[None]:
    """Turns whatever libraries raise where a disk is full, or a file too large, into one sentence.

    Raises:
        Unwritten: for an error that comes of it, and any error while the disk is full.
    """
    try:
        yield
    except Unwritten:
        raise
    except Exception as error:
        with writing(folder):
            if isinstance(error, OSError) and error.errno in _OF_FULL_DISKS:
                raise
            if shutil.disk_usage(folder).free < 2**16:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from error
        raise
