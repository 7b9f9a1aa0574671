"""Keys of random numbers, derived from names and numbers."""

import zlib
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Integer, Key

MAX_SEED = 2**32 - 1  # JAX reduces larger seeds modulo 2³²


def key_of(root: int | Key[Array, ""], *path: str | int | Integer[Array, ""]) -> Key[Array, ""]:
    """Derives a key from names and numbers, such as (config.seed, "measure", seed, "noise").

    Keys of different paths are independent. A key from which others are derived must not itself be
    split or used to draw numbers, because `fold_in(key, 0)` equals `split(key)[0]`.

    Args:
        root: a seed between 0 and `MAX_SEED`, or a key returned by this function.
        path: names, and numbers between 0 and `MAX_SEED`, which may be traced. They are folded in
            one after the other, a name as its CRC-32.
    """
    key = jax.random.key(root) if isinstance(root, int) else root
    for part in path:
        number = zlib.crc32(part.encode()) if isinstance(part, str) else part
        key = jax.random.fold_in(key, number)
    return key


def keys_of(root: int | Key[Array, ""], *path: Any) -> Key[Array, " N"]:
    """Derives a key for each of N numbers, such as seeds, which `path` ends with.

    The key of a number is `key_of` the path that ends with it alone.
    """
    *names, numbers = path
    of_number = jax.vmap(lambda number: key_of(root, *names, number))
    return of_number(np.asarray(numbers, np.uint32))
