"""Measurement of networks: any representations of any images under any perturbation.

Images are read a batch at a time and spread over the devices; each representation is reduced to
the distances of Eq. 1 where it is computed, so that memory does not grow with their number. All of
it is one compiled program; a network that JAX cannot trace is called between compiled parts of it.
"""

import math
import warnings
from collections.abc import Callable
from functools import lru_cache, partial
from operator import itemgetter
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Float, Int, Key, PyTree, Shaped
from tqdm import tqdm

from relstab_jax.errors import InputError
from relstab_jax.measures import representations
from relstab_jax.measures.noise import EqualNorm, Noise
from relstab_jax.measures.perturbations import Diffeomorphism
from relstab_jax.measures.sensitivity import (
    Distances,
    MapMeasurement,
    Measurement,
    full_precision,
    in_full,
    measurement,
    squared_norms,
)

_REFERENCE_IMAGES = 32  # whose mean is the reference of the distances
_MIXED = 0.01  # relative change of a sum over images that no rounding explains

# Bytes of representations at a time. Larger batches are no faster on a CPU; elsewhere it is a part
# of the device's memory.
_CPU_BYTES = 2**29
_DEVICE_PART = 0.2

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


def measure(
    features_fn: Callable[..., PyTree],
    images: Any,
    key: Key[Array, "..."],
    *,
    perturbation: Perturbation = Diffeomorphism(),
    noise: Noise = EqualNorm(),
    copies: int = 1,
    network: PyTree | None = None,
    networks: PyTree | None = None,
    paired: bool = False,
    equivariance: bool = False,
    channel_axis: int = -1,
    traced: bool = True,
    batch_size: float | None = None,
    progress: bool = False,
) -> dict[Any, Measurement | MapMeasurement]:
    """Measures D, G and R (Eq. 1) of every representation of a network, on all local devices.

    Args:
        features_fn: images [b, ...] -> {layer: f [b, ...]}, or any other pytree of representations,
            real or complex: any function that JAX can trace, from any library, such as
            `partial(model.features, variables)`. With `network` or `networks` it is (network,
            images) -> representations.
        images: P of them [P, ...], an array or anything with `len`, `shape` and items that are
            arrays, such as a memory-mapped file, of which a batch is read at a time.
        key: root of the randomness. Every copy of every image has a key of its own: results depend
            neither on the batch size nor on the number of devices.
        perturbation: (key, image) -> image of the same shape, which D is the sensitivity to.
        noise: which G is the sensitivity to. By default it has, image by image, the norm of the
            perturbation: ‖η_i‖ = ‖τx_i - x_i‖.
        copies: number of perturbed, and of noisy, copies of each image.
        network: its weights, any pytree of arrays. Networks that differ in their weights alone
            share a compiled program.
        networks: a stack of networks, any pytree of arrays with a leading axis [S]. They are
            measured one after the other by one compiled program, on the same copies of the images.
        paired: whether each network has its own images [S, P, ...], an array, and key [S].
        equivariance: whether to measure, too, how far each layer is from moving with the image, E
            of `sensitivity.measurement`: NaN for all but square maps, representations with four
            axes. The perturbation must be a `perturbations.Deformation`, or have its `of_map`.
        channel_axis: of the maps.
        traced: whether JAX can trace `features_fn`, and so compile it. If not, it is called with
            JAX arrays of concrete values on one device, and the leaves of `network` are of any
            type, such as PyTorch's tensors.
        batch_size: images at a time on each device, a whole number; by default as many as memory is
            good for.
        progress: whether to show a progress bar.

    Returns:
        {layer: Measurement}, or MapMeasurement with `equivariance`, in the order of `features_fn`:
        scalars, or arrays [S] for a stack. The layer is the key in a mapping, or, for other
        pytrees, the path, such as "blocks/0/conv"; it is "output" where there is one array alone.

    Raises:
        InputError: for fewer than two images, or images that are not finite; for no representation,
            one without an axis for the images, or one of an image that depends on the images beside
            it; for a perturbation that changes the shape of an image, or gives values that are not
            finite; and whatever the perturbation raises.

    Warns:
        UserWarning: if the perturbation changes no image at all.
    """
    _check(images, networks, paired, copies, batch_size)
    if equivariance and not hasattr(perturbation, "of_map"):
        raise InputError(
            "equivariance needs a perturbation of maps, such as a perturbations.Deformation: give "
            f"{getattr(perturbation, '__name__', type(perturbation).__name__)} a method of_map"
        )
    dtype = jnp.result_type(float)
    P = images.shape[1] if paired else len(images)
    if isinstance(images, jax.Array):
        images = np.asarray(images)  # of which batches are cut at no cost

    def read(index: Int[np.ndarray, " n"]) -> Float[np.ndarray, "..."]:
        index = index.clip(max=P - 1)
        if paired:
            return np.asarray(images[:, index], dtype)
        return np.stack([np.asarray(images[int(i)], dtype) for i in index])

    mesh = Mesh(np.array(jax.local_devices()[: None if traced else 1]), ("image",))
    everywhere = NamedSharding(mesh, PartitionSpec())
    made = Copies(perturbation, noise, copies)
    stacked = networks is not None
    weights = networks if stacked else network
    add_to_reference, add_to_variance, step = _compile(
        features_fn, stacked, paired, made, mesh, traced, channel_axis if equivariance else None
    )
    with jax.default_matmul_precision("highest"):
        first = read(np.arange(1))
        _check_perturbation(perturbation, first[0, 0] if paired else first[0])
        one = jax.tree.map(itemgetter(0), networks) if stacked else network
        layers = representations.shapes(features_fn, one, first[0] if paired else first, traced)
        each = math.ceil(P / mesh.size)
        b = min(int(batch_size or _batch_size(list(layers.values()), each)), each)
        stack = jax.tree.leaves(networks)[0].shape[:1] if stacked else ()
        reference = _reference(
            partial(add_to_reference, weights),
            lambda: [
                jnp.zeros(stack + f.shape[1:], full_precision(f.dtype)) for f in layers.values()
            ],
            read,
            np.linspace(0, P - 1, _REFERENCE_IMAGES).round().astype(int),
            max(n for n in (1, 2, 4) if n <= b),
            list(layers),
        )
        variance = jnp.zeros(stack if paired else (), dtype)
        batches = [np.arange(start, start + b * mesh.size) for start in range(0, P, b * mesh.size)]
        if noise.needs_variance:
            for index in batches:
                share = (index < P).astype(dtype) / P
                variance = add_to_variance(variance, key, read(index), index, share)
        offset = jax.tree.map(jnp.zeros_like, reference)
        reference, offset, key, variance = jax.device_put(
            (reference, offset, key, variance), everywhere
        )
        if traced:
            weights = jax.device_put(weights, everywhere)
        parts = []
        with tqdm(total=P, unit="image", disable=None if progress else True) as bar:
            for index in batches:
                counts = jnp.asarray(index < P, dtype)
                offset, part = step(
                    weights, reference, offset, key, variance, read(index), index, counts
                )
                if parts:  # waits for the batch before this one, so that few are under way
                    parts[-1] = jax.tree.map(np.asarray, parts[-1])
                    _check_change(parts[-1][1], int(index[0]) - len(index), read)
                    bar.update(int(index[0]) - bar.n)
                parts.append(part)
            per_image, change = jax.tree.map(lambda *x: np.concatenate(x, axis=-1)[..., :P], *parts)
            _check_change(change, 0, read)
            bar.update(P - bar.n)
    if not change.any():
        warnings.warn(
            "the perturbation changes none of the images: D is 0, and R = D/G is undefined",
            stacklevel=3,
        )
    distances = [
        Distances(c, o, *rest) for c, o, rest in zip(reference, offset, per_image, strict=True)
    ]
    summarise = jax.vmap(_measurements) if stacked else _measurements
    return dict(zip(layers, summarise(distances), strict=True))


@jax.jit
def _measurements(distances: list[Distances]) -> list[Measurement | MapMeasurement]:
    return [measurement(d) for d in distances]


def _check(
    images: Any, networks: PyTree | None, paired: bool, copies: Any, batch_size: Any
) -> None:
    if not hasattr(images, "shape"):
        raise InputError(
            f"images are a {type(images).__name__}, and must be one array [P, size, size, "
            "channels], such as np.stack makes of a list"
        )
    shape = tuple(images.shape)
    if paired:
        S = 0 if networks is None else len(jax.tree.leaves(networks)[0])
        if shape[:1] != (S,):
            raise InputError(
                "paired=True needs images [S, P, ...] for a stack of S networks: images have shape "
                f"{shape} for {S} networks"
            )
        shape = shape[1:]
    if len(shape) < 2 or shape[0] < 2:
        raise InputError(
            f"need at least 2 images [P, size, size, channels], got shape {shape}: N is the mean "
            "distance between two of them"
        )
    for name, value in (("copies", copies), ("batch_size", batch_size)):
        whole = isinstance(value, int | np.integer) and value >= 1
        if not whole and not (name == "batch_size" and value is None):
            raise InputError(f"{name}={value} must be at least 1, and a whole number")
    if isinstance(images, np.ndarray | jax.Array):  # others are read when they are needed
        if not any(jnp.issubdtype(images.dtype, kind) for kind in (bool, int, jnp.floating)):
            raise InputError(f"images of type {images.dtype} must be real numbers")
        for start in range(0, len(images), 256):
            some = np.asarray(images[start : start + 256])
            finite = np.isfinite(some).all(axis=tuple(range(1, some.ndim)))
            if not finite.all():
                raise InputError(
                    f"images[{start + int(finite.argmin())}] has values that are not finite"
                )


def _check_perturbation(perturbation: Perturbation, image: Float[np.ndarray, "*x"]) -> None:
    made = jax.eval_shape(perturbation, jax.random.key(0), image)
    if getattr(made, "shape", None) != image.shape:
        raise InputError(
            f"the perturbation makes an image of shape {getattr(made, 'shape', made)} of one of "
            f"shape {image.shape}: it must keep the shape"
        )


def _check_change(
    change: Float[np.ndarray, "... n"],
    start: int,
    read: Callable[[Int[np.ndarray, " n"]], np.ndarray],
) -> None:
    """Raises an InputError if the change of an image, from number `start` on, is not finite."""
    finite = np.isfinite(change).all(axis=tuple(range(change.ndim - 1)))
    if not finite.all():
        number = start + int(finite.argmin())
        of_image = np.isfinite(read(np.array([number]))).all()
        of = f"of images[{number}] the perturbation gives" if of_image else f"images[{number}] has"
        raise InputError(f"{of} values that are not finite")


def _reference(
    add: Callable[[list[Array], np.ndarray], list[Array]],
    zeros: Callable[[], list[Array]],
    read: Callable[[Int[np.ndarray, " n"]], np.ndarray],
    images: Int[np.ndarray, " n"],
    b: int,
    layers: list[Any],
) -> list[Array]:
    """Adds up the shares of some images in the reference, b at a time.

    Args:
        add: (reference, images) -> the reference with the share of some images added to it, which
            consumes what it adds to.
        zeros: makes the reference without any image.
        read: indices -> images.
        images: their indices.
        b: images at a time, which divides half their number.
        layers: names of the representations.

    Raises:
        InputError: if a representation of an image depends on the images beside it, as two batches
            show whose images are grouped in another way.
    """
    halves = images.reshape(2, -1, b)
    two, *others = halves.swapaxes(0, 1)  # batches from far apart come first
    reference, regrouped = zeros(), zeros()
    for index, again in zip(two, two.T.reshape(2, b), strict=True):
        reference = add(reference, read(index))
        regrouped = add(regrouped, read(again))
    for layer, change in zip(layers, _relative_changes(reference, regrouped), strict=True):
        if change > _MIXED:
            raise InputError(
                f"the representation {layer!r} of an image depends on the images beside it: put "
                "the network in evaluation mode, batch-norm with running statistics, no dropout"
            )
    for index in np.concatenate(others):
        reference = add(reference, read(index))
    return reference


def _batch_size(shapes: list[jax.ShapeDtypeStruct], P: int) -> int:
    """Returns how many of P images a device takes at a time, from one network's representations."""
    devices = jax.local_devices()
    stats = devices[0].memory_stats() or {}
    if "bytes_limit" in stats:
        memory = _DEVICE_PART * stats["bytes_limit"]
    else:
        memory = _CPU_BYTES / len(devices)
    bytes_of_one = 3 * sum(f.size * f.dtype.itemsize for f in shapes)  # with two copies of it
    at_most = max(1, int(memory / bytes_of_one))
    if at_most < 8:
        return at_most
    # Batches of even size, so that the last is not mostly padding, in multiples of eight.
    batches = math.ceil(P / (at_most // 8 * 8))
    return math.ceil(P / (batches * 8)) * 8


@lru_cache(maxsize=4)
def _compile(
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
        (networks, reference, images) -> the reference with the share of some images added to it.
        (variance, key, images, index, share) -> the variance of the perturbation with that of some
        images added to it. And, on batches spread over the devices, (networks, reference, offset,
        key, variance, images, index, counts) -> the new offset, and (spread, perturbed, noisy) of
        each representation, with the mean square change of the images. Each consumes what it adds
        to.
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

    def add_to_reference(networks, reference, images):
        def of_one(one: tuple[PyTree | None, list[Array]], images: Array) -> list[Array]:
            network, reference = one
            return _with_share(reference, features(network, images))

        return over_networks(of_one, (networks, reference), jnp.asarray(images))

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
        return _sums(offset, [d[0] for d in new]), ([d[1:] for d in new], change)

    if not traced:
        return add_to_reference, jax.jit(add_to_variance, donate_argnums=0), step
    sharded_step = jax.shard_map(
        step,
        mesh=mesh,
        in_specs=(everywhere,) * 5 + (of_each if paired else spread, spread, spread),
        out_specs=(everywhere, (of_each if stacked else spread, of_each if paired else spread)),
        check_vma=False,
    )
    return (
        jax.jit(add_to_reference, donate_argnums=1),
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


# Compiled also where the network is not.


@jax.jit
def _with_share(reference: list[Array], f: list[Array]) -> list[Array]:
    """Adds the share of some images to the reference."""
    return [
        c + in_full(x).sum(axis=0) / _REFERENCE_IMAGES for c, x in zip(reference, f, strict=True)
    ]


@jax.jit
def _relative_changes(xs: list[Array], ys: list[Array]) -> list[Float[Array, ""]]:
    """Returns ‖x - y‖ / ‖x‖ of each pair."""
    norms = [jnp.linalg.norm(x.ravel()) for x in xs]
    changes = [jnp.linalg.norm((x - y).ravel()) for x, y in zip(xs, ys, strict=True)]
    return [change / norm for change, norm in zip(changes, norms, strict=True)]


@jax.jit
def _changes(f: list[Array], f_copies: list[Array]) -> list[Float[Array, "2 b"]]:
    """Returns ‖f(copy) - f(x)‖² of two copies, one after the other, of b images."""
    return [
        squared_norms(x_copies - jnp.concatenate([x, x])).reshape(2, -1)
        for x, x_copies in zip(map(in_full, f), map(in_full, f_copies), strict=True)
    ]


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
        about = in_full(x) - c[None]
        offset = jnp.tensordot(counts.astype(about.dtype), about, axes=1)
        mean = change.mean(axis=0)
        deviation = None if deviations is None else deviations[n].mean(axis=0)
        found.append(Distances(c, offset, squared_norms(about), mean[0], mean[1], deviation))
    return found


@partial(jax.jit, donate_argnums=0)
def _sums(xs: list[Array], ys: list[Array]) -> list[Array]:
    return [x + y for x, y in zip(xs, ys, strict=True)]
