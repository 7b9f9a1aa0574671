"""Sensitivities to diffeomorphisms D, to noise G and their ratio R (Eq. 1).

For a representation f of P examples x_i, their deformed copies τx_i and noisy copies x_i + η_i,

    D = mean_i ‖f(τx_i) - f(x_i)‖² / N,   G = mean_i ‖f(x_i + η_i) - f(x_i)‖² / N,   R = D / G,

with N the mean of ‖f(x_i) - f(x_j)‖² over all P² pairs. N = 2 · mean_i ‖f(x_i) - mean f‖² exactly:
that takes O(P) work, streams over batches and is well-conditioned.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, PyTree


class Sensitivity(NamedTuple):
    """D, G and R of Eq. 1; NaN where a constant representation leaves them undefined."""

    D: Float[Array, "*stack"]
    G: Float[Array, "*stack"]
    R: Float[Array, "*stack"]


class Sums(NamedTuple):
    """What Eq. 1 needs to know about one representation of some examples.

    Attributes:
        examples: their number.
        mean: mean representation [*d].
        spread: sum over examples of ‖f - mean‖².
        deformed: sum over examples of the mean over copies of ‖f(τx) - f(x)‖².
        noisy: sum over examples of the mean over copies of ‖f(x + η) - f(x)‖².
    """

    examples: Float[Array, ""]
    mean: Float[Array, "*d"]
    spread: Float[Array, ""]
    deformed: Float[Array, ""]
    noisy: Float[Array, ""]


def sums(
    f: Float[Array, "P *d"],
    f_deformed: Float[Array, "P t *d"],
    f_noisy: Float[Array, "P t *d"],
    weights: Float[Array, " P"],
) -> Sums:
    """Sums over one batch, t copies of each example; examples of weight 0 do not count."""

    def squared_norms(x: Array, batch_axes: int) -> Array:
        return jnp.sum(x**2, axis=tuple(range(batch_axes, x.ndim)))

    examples = weights.sum()
    mean = jnp.tensordot(weights, f, axes=1) / examples
    return Sums(
        examples,
        mean,
        weights @ squared_norms(f - mean, 1),
        weights @ squared_norms(f_deformed - f[:, None], 2).mean(axis=1),
        weights @ squared_norms(f_noisy - f[:, None], 2).mean(axis=1),
    )


def merge(a: Sums, b: Sums) -> Sums:
    """Joins the sums over two sets of examples (Chan, Golub and LeVeque 1979)."""
    examples, apart = a.examples + b.examples, b.mean - a.mean
    return Sums(
        examples,
        a.mean + apart * (b.examples / examples),
        a.spread + b.spread + jnp.sum(apart**2) * (a.examples * b.examples / examples),
        a.deformed + b.deformed,
        a.noisy + b.noisy,
    )


def finish(total: Sums) -> Sensitivity:
    """Divides by N; NaN where the representations differ by no more than rounding."""
    rounding = 32 * jnp.finfo(total.spread.dtype).eps
    constant = total.spread <= total.examples * rounding**2 * jnp.sum(total.mean**2)
    N_examples = jnp.where(constant, jnp.nan, 2 * total.spread)
    D, G = total.deformed / N_examples, total.noisy / N_examples
    return Sensitivity(D, G, D / jnp.where(G > 0, G, jnp.nan))


def sensitivities(
    f: Float[Array, "P *d"], f_deformed: Float[Array, "P *d"], f_noisy: Float[Array, "P *d"]
) -> Sensitivity:
    """Returns D, G and R (Eq. 1), each a scalar, from one representation of all examples.

    Args:
        f: representation of the examples.
        f_deformed: representation of their deformed copies.
        f_noisy: representation of their noisy copies.
    """
    return finish(sums(f, f_deformed[:, None], f_noisy[:, None], jnp.ones(len(f), f.dtype)))


def streamed(
    features: Callable[[Float[Array, "b *x"]], PyTree[Float[Array, "b ..."]]],
    images: Float[Array, "P *x"],
    deformed: Float[Array, "P t *x"],
    noisy: Float[Array, "P t *x"],
    *,
    batch_size: int,
) -> PyTree:
    """Returns the sensitivities of many representations, in memory that does not grow with P.

    It is one traced loop over batches: call it under `jit`, and `vmap` it over a stack of networks.

    Args:
        features: images -> any pytree of representations f [b, ...].
        images: the P examples.
        deformed: t deformed copies of each.
        noisy: t noisy copies of each.
        batch_size: number of examples whose representations exist at one time, beside those of
            their 2t copies.

    Returns:
        The pytree of `features`, with a `Sensitivity` in the place of each representation.
    """
    P, t = deformed.shape[:2]
    b = min(batch_size, P)
    batches = -(-P // b)

    def batched(x: Array) -> Array:
        padding = [(0, batches * b - P)] + [(0, 0)] * (x.ndim - 1)
        return jnp.pad(x, padding, mode="edge").reshape(batches, b, *x.shape[1:])

    def copies(x: Float[Array, "b t *x"]) -> PyTree[Float[Array, "b t ..."]]:
        f = features(x.reshape(b * t, *x.shape[2:]))
        return jax.tree.map(lambda leaf: leaf.reshape(b, t, *leaf.shape[1:]), f)

    def add_batch(total: PyTree, batch: tuple[Array, ...]) -> tuple[PyTree, None]:
        x, x_deformed, x_noisy, weights = batch
        new = jax.tree.map(
            lambda f, f_deformed, f_noisy: sums(f, f_deformed, f_noisy, weights),
            features(x),
            copies(x_deformed),
            copies(x_noisy),
        )
        return jax.tree.map(merge, total, new, is_leaf=lambda node: isinstance(node, Sums)), None

    def empty(f: jax.ShapeDtypeStruct) -> Sums:
        return Sums(*(jnp.zeros(shape, f.dtype) for shape in ((), f.shape[1:], (), (), ())))

    shapes = jax.eval_shape(features, jax.ShapeDtypeStruct((b, *images.shape[1:]), images.dtype))
    weights = jnp.where(jnp.arange(batches * b) < P, 1, 0).astype(images.dtype).reshape(batches, b)
    batches_of_all = (batched(images), batched(deformed), batched(noisy), weights)
    total, _ = lax.scan(add_batch, jax.tree.map(empty, shapes), batches_of_all)
    return jax.tree.map(finish, total, is_leaf=lambda node: isinstance(node, Sums))
