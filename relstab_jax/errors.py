"""The exceptions that speak to the user."""

import contextlib
import errno
import os
import shutil
from collections.abc import Iterator

_OF_FULL_DISKS = errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS


class InputError(ValueError):
    """A request that cannot be met: says what was given, what is allowed and what to do.

    Raised before anything is compiled or written; the command line prints it without a traceback.
    """


class Diverged(Exception):
    """A training whose loss is not finite any more; the command line prints it as one sentence."""


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
