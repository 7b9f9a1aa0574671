"""Which functions JAX compiles."""

import contextlib
import logging
import re
from collections.abc import Iterator

import jax


@contextlib.contextmanager
def compilations() -> Iterator[list[str]]:
    """Collects the names of the functions that are compiled in its block, one for each program."""
    names: list[str] = []
    handler = logging.Handler()

    def emit(record: logging.LogRecord) -> None:
        if found := re.match(r"Compiling jit\((\w+)\)", record.getMessage()):
            names.append(found[1])

    handler.emit = emit
    logger = logging.getLogger("jax")
    logger.addHandler(handler)
    try:
        with jax.log_compiles():
            yield names
    finally:
        logger.removeHandler(handler)
