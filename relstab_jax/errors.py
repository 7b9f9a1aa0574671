"""The exceptions that speak to the user."""

import contextlib
import os
from collections.abc import Iterator


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
    """Turns an error of writing a file, such as a full disk, into one sentence.

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
