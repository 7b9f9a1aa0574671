"""What a run says: messages through one logger, and progress bars that suit where they are shown.

A program that imports the library hears nothing unless it asks for the logger "relstab_jax", as
with `logging.basicConfig(level="INFO")`.
"""

import logging
import sys
from typing import Any

import tqdm.auto
import tqdm.autonotebook
import tqdm.std

log = logging.getLogger("relstab_jax")


class _Console(logging.Handler):
    """Prints messages above progress bars; warnings on the standard error."""

    def emit(self, record: logging.LogRecord) -> None:
        stream = sys.stderr if record.levelno >= logging.WARNING else sys.stdout
        tqdm.std.tqdm.write(self.format(record), stream)
        stream.flush()


def show(verbosity: int) -> None:
    """Prints messages and shows progress bars; at a verbosity below 0, prints warnings alone."""
    log.setLevel(logging.WARNING if verbosity < 0 else logging.INFO)
    log.propagate = False  # to a handler that another library may have given the root logger
    if not any(isinstance(handler, _Console) for handler in log.handlers):
        log.addHandler(_Console())


def progress_bar(*arguments: Any, shown: bool = True, **options: Any) -> tqdm.std.tqdm:
    """Makes a tqdm bar on a terminal, or a widget in a notebook.

    Shows nothing in a log file, which would get a line at every step, where `show` was asked for
    warnings alone, or if not `shown`.
    """
    in_notebook = tqdm.autonotebook.tqdm is not tqdm.std.tqdm
    # With None, tqdm hides the bar unless its stream is a terminal; a notebook's never is.
    hidden = not shown or log.level > logging.INFO or (False if in_notebook else None)
    return tqdm.auto.tqdm(*arguments, disable=hidden, dynamic_ncols=True, **options)
