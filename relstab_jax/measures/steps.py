"""What `driver.measure` does with a batch of images, compiled.

It is one program, or, around a network that JAX cannot trace, several.
"""

from collections.abc import Callable
from functools import lru_cache, partial
from operator import itemgetter
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, Float, Int, Key, PyTree, Shaped

from relstab_jax.measures import representations
from relstab_jax.measures.noise import Noise
from relstab_jax.measures.sensitivity import Distances, in_full, squared_norms

REFERENCE_IMAGES = 32  # whose mean is the reference of the distances; the first counts twice

Perturbation = Callable[[Key[Array, ""], Array], Array]


class Copies(NamedTuple):
    """How the copies of an image are made: `number` perturbed ones, and as many noisy ones."""

    perturbation: Perturbation
    noise: Noise
    number: int

    def keys(self, key: Key[Array, ""]) -> Key[Array, " t"]:
        """Returns the keys with which the perturbed copies of an image are made."""
        return self._keys(key)[:, 0]

    def perturbed(self, key: Key[Array, ""], image: Float[Array, "*x"]) -> Float[Array, "t *x"]:
        """Returns the perturbed copies of an image; copy t does not depend on their number."""
        return jax.vmap(lambda keys: self.perturbation(keys[0], image))(self._keys(key))

    def both(
        self, key: Key[Array, ""], image: Float[Array, "*x"], variance: Float[Array, ""]
    ) -> tuple[Float[Array, "t *x"], Float[Array, "t *x"]]:
        """Returns the perturbed and the noisy copies of an image."""

        def copy(keys: Key[Array, "2"]) -> tuple[Array, Array]:
            perturbed = self.perturbation(keys[0], image)
            return perturbed, self.noise(keys[1], image, perturbed, variance)

        return jax.vmap(copy)(self._keys(key))

    def _keys(self, key: Key[Array, ""]) -> Key[Array, "t 2"]:
        keys = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(self.number))
        return jax.vmap(jax.random.split)(keys)


@lru_cache(maxsize=4)
def compile_steps(
    features_fn: Callable[..., PyTree],
    stacked: bool,
    paired: bool,
    copies: Copies,
    mesh: Mesh,
    traced: bool,
    map_axis: int | None,
) -> tuple[Callable[..., Any], Callable[..., Any], Callable[..., Any]]:
    """Compiles what `measure` does with a batch of images; kept for the next call.

    Returns:
        (networks, images) -> the share of some images in the reference of each representation, and
        the representation of the first of them. (variance, key, images, index, share) -> the
        variance of the perturbation with that of some images added to it. And, on batches spread
        over the devices, (networks, reference, offset, key, variance, images, index, counts) -> the
        new offset, and (spread, perturbed, noisy) of each representation, with the mean square
        change of the images. The last two consume the variance and the offset.
    """
    everywhere, spread = PartitionSpec(), PartitionSpec("image")
    of_each = PartitionSpec(None, "image")
    each = lax.map if traced else _one_by_one
    # E is measured if the axis of the channels of maps is given.
    deform = None if map_axis is None else partial(_deviation, copies.perturbation, map_axis)

    def features(network: PyTree | None, images: Array) -> list[Shaped[Array, "b ..."]]:
        f = features_fn(images) if network is None else features_fn(network, images)
        return [jnp.asarray(x) for x in representations.named(f).values()]

    def over_networks(function: Callable[..., Any], of_network: Any, of_images: Any) -> Any:
        """Applies (network's arguments, images' arguments) -> result to each network in turn.

        One after the other, their representations need not be in memory together.
        """
        if not stacked:
            return function(of_network, of_images)
        if paired:
            return each(lambda both: function(*both), (of_network, of_images))
        return each(lambda one: function(one, of_images), of_network)

    def share_of_reference(networks, images):
        def of_one(network: PyTree | None, images: Array) -> tuple[list[Array], list[Array]]:
            return _share_and_first(features(network, images))

        return over_networks(of_one, networks, jnp.asarray(images))

    def keys_of(key: Key[Array, ""], index: Int[Array, " b"]) -> Key[Array, " b"]:
        return jax.vmap(jax.random.fold_in, (None, 0))(key, index)

    def change_of(images: Array, perturbed: Array) -> Float[Array, " b"]:
        return ((perturbed - images[:, None]) ** 2).mean(axis=tuple(range(1, perturbed.ndim)))

    def add_to_variance(variance, key, images, index, share):
        def of_one(variance: Array, key: Key[Array, ""], images: Array) -> Array:
            perturbed = jax.vmap(copies.perturbed)(keys_of(key, index), images)
            return variance + share @ change_of(images, perturbed)

        over = jax.vmap(of_one) if paired else of_one
        return over(variance, key, images)

    @jax.jit
    def copied(key, variance, images, index):
        def of_one(key: Key[Array, ""], variance: Array, images: Array) -> Any:
            make = partial(copies.both, variance=variance)
            perturbed, noisy = jax.vmap(make)(keys_of(key, index), images)
            keys = jax.vmap(copies.keys)(keys_of(key, index))
            return (images, perturbed, noisy, keys), change_of(images, perturbed)

        return (jax.vmap(of_one) if paired else of_one)(key, variance, images)

    def found(networks, reference, key, variance, images, index, counts):
        def of_one(one: tuple[PyTree | None, list[Array]], batch: tuple[Array, ...]) -> Any:
            network, reference = one
            images, perturbed, noisy, keys = batch
            deviation = deform and partial(deform, images.shape[1])
            of_network = partial(features, network)
            found = distances(
                of_network, reference, images, perturbed, noisy, keys, counts, deviation, each
            )
            return [d[1:] for d in found]

        batch, change = copied(key, variance, images, index)
        return over_networks(of_one, (networks, reference), batch), change

    def step(networks, reference, offset, key, variance, images, index, counts):
        new, change = found(networks, reference, key, variance, images, index, counts)
        if traced:
            new = [(lax.psum(d[0], "image"), *d[1:]) for d in new]
        return sums(offset, [d[0] for d in new]), ([d[1:] for d in new], change)

    def step_of_untraced(*arguments):
        # Waits: distances that ran beside the next forward pass would take a core from it, and all
        # of its threads would wait for that one.
        return jax.block_until_ready(step(*arguments))

    if not traced:
        return share_of_reference, jax.jit(add_to_variance, donate_argnums=0), step_of_untraced
    sharded_step = jax.shard_map(
        step,
        mesh=mesh,
        in_specs=(everywhere,) * 5 + (of_each if paired else spread, spread, spread),
        out_specs=(everywhere, (of_each if stacked else spread, of_each if paired else spread)),
        check_vma=False,
    )
    return (
        jax.jit(share_of_reference),
        jax.jit(add_to_variance, donate_argnums=0),
        jax.jit(sharded_step, donate_argnums=2),
    )


def _one_by_one(function: Callable[[Any], Any], arguments: PyTree) -> PyTree:
    """Does what `lax.map` does, for a function that JAX cannot trace."""
    n = len(jax.tree.leaves(arguments)[0])
    results = [function(jax.tree.map(itemgetter(i), arguments)) for i in range(n)]
    return jax.tree.map(lambda *of_each: jnp.stack(of_each), *results)


def distances(
    features: Callable[[Float[Array, "b *x"]], list[Shaped[Array, "b ..."]]],
    reference: list[Array],
    images: Float[Array, "b *x"],
    perturbed: Float[Array, "b t *x"],
    noisy: Float[Array, "b t *x"],
    keys: Key[Array, "b t"],
    counts: Float[Array, " b"],
    deviation: Callable[..., list[Float[Array, " b"]]] | None,
    each: Callable[..., Any],
) -> list[Distances]:
    """Computes the `Distances` of each representation of one batch.

    Takes one copy of every image at a time, so that memory does not grow with their number t.

    Args:
        features: images -> representations.
        reference: c of each representation.
        images: of the batch.
        perturbed: t perturbed copies of each.
        noisy: t noisy copies of each.
        keys: of the perturbed copies.
        counts: 1 for images, 0 for padding, which `Distances.offset` leaves out.
        deviation: (keys, f, f of the perturbed copies first) -> ‖f(τx) - τf(x)‖² of each
            representation, if it is to be measured.
        each: (function, arguments) -> results of the function at each index of their first axis.
    """
    f = features(images)

    def of_copy(copy: tuple[Array, Array, Array]) -> tuple[list[Array], list[Array] | None]:
        perturbed, noisy, keys = copy
        f_copies = features(jnp.concatenate([perturbed, noisy]))
        return _changes(f, f_copies), deviation and deviation(keys, f, f_copies)

    copies = (perturbed.swapaxes(0, 1), noisy.swapaxes(0, 1), keys.swapaxes(0, 1))
    return _distances(reference, f, *each(of_copy, copies), counts)


# These are compiled even where the network is not.


@jax.jit
def _share_and_first(f: list[Array]) -> tuple[list[Array], list[Array]]:
    """Returns what some images add to the reference, and the representation of the first."""
    f = [in_full(x) for x in f]
    # As `_offset`, because XLA sums over a few images at 1 GB/s on a CPU.
    sums_of = [_offset(jnp.zeros_like(x[0]), x, jnp.ones(len(x), x.dtype)) for x in f]
    return [x / REFERENCE_IMAGES for x in sums_of], [x[0] for x in f]


@jax.jit
def relative_changes(xs: list[Array], ys: list[Array]) -> list[Float[Array, ""]]:
    """Returns ‖x - y‖ / ‖x‖ of each pair."""
    norms = [jnp.linalg.norm(x.ravel()) for x in xs]
    changes = [jnp.linalg.norm((x - y).ravel()) for x, y in zip(xs, ys, strict=True)]
    return [change / norm for change, norm in zip(changes, norms, strict=True)]


@jax.jit
def _changes(f: list[Array], f_copies: list[Array]) -> list[Float[Array, "2 b"]]:
    """Returns ‖f(copy) - f(x)‖² of two copies, one after the other, of b images."""
    # At once takes a third of the time on a CPU, but twice the memory on a TPU.
    changes = partial(lax.platform_dependent, cpu=changes_at_once, default=changes_in_turn)
    return [changes(in_full(x), in_full(copies)) for x, copies in zip(f, f_copies, strict=True)]


def changes_at_once(x: Array, copies: Array) -> Float[Array, "2 b"]:
    """Returns ‖copy - x‖² of two copies of b arrays."""
    return jax.vmap(squared_norms)(copies.reshape(2, *x.shape) - x[None])


def changes_in_turn(x: Array, copies: Array) -> Float[Array, "2 b"]:
    """Returns what `changes_at_once` does."""
    return jnp.stack([squared_norms(copy - x) for copy in jnp.split(copies, 2)])


@partial(jax.jit, static_argnums=(0, 1, 2))
def _deviation(
    perturbation: Any,
    channel_axis: int,
    size: int,
    keys: Key[Array, " b"],
    f: list[Array],
    f_copies: list[Array],
) -> list[Float[Array, " b"]]:
    """Returns ‖f(τx) - τf(x)‖² of b images of `size` pixels, NaN for other than square maps."""
    found = []
    for x, x_copies in zip(map(in_full, f), map(in_full, f_copies), strict=True):
        maps, of_perturbed = (
            jnp.moveaxis(y, channel_axis, -1) if y.ndim == 4 else y for y in (x, x_copies[: len(x)])
        )
        if maps.ndim == 4 and maps.shape[1] == maps.shape[2]:
            deformed = jax.vmap(partial(perturbation.of_map, size=size))(keys, maps)
            found.append(squared_norms(of_perturbed - deformed))
        else:
            found.append(jnp.full(len(x), jnp.nan, x.real.dtype))
    return found


@jax.jit
def _distances(
    reference: list[Array],
    f: list[Array],
    changes: list[Float[Array, "t 2 b"]],
    deviations: list[Float[Array, "t b"]] | None,
    counts: Float[Array, " b"],
) -> list[Distances]:
    """Computes `Distances` from the representations of a batch and what copies change."""
    found = []
    for n, (c, x, change) in enumerate(zip(reference, f, changes, strict=True)):
        x = in_full(x)
        mean = change.mean(axis=0)
        deviation = None if deviations is None else deviations[n].mean(axis=0)
        offset, spread = _offset(c, x, counts.astype(x.dtype)), squared_norms(x - c[None])
        found.append(Distances(c, offset, spread, mean[0], mean[1], deviation))
    return found


def _offset(c: Array, x: Array, counts: Array) -> Array:
    # On a CPU, writing all differences to memory takes longer than all else that is done with them.
    return lax.platform_dependent(c, x, counts, cpu=offset_one_by_one, default=offset_as_product)


def offset_as_product(c: Array, x: Array, counts: Array) -> Array:
    """Returns the sum of x - c over those of b arrays that count."""
    return jnp.tensordot(counts, x - c[None], axes=1)


def offset_one_by_one(c: Array, x: Array, counts: Array) -> Array:
    """Returns what `offset_as_product` does."""

    def add(offset: Array, image: tuple[Array, Array]) -> tuple[Array, None]:
        f, count = image
        return offset + count * (f - c), None

    return lax.scan(add, jnp.zeros_like(c), (x, counts))[0]


@partial(jax.jit, donate_argnums=0)
def sums(xs: list[Array], ys: list[Array]) -> list[Array]:
    """Adds two lists of arrays, and consumes the first."""
    return [x + y for x, y in zip(xs, ys, strict=True)]
