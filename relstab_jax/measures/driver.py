"""Measurement of networks: any representations of any images under any perturbation.

Images are read a batch at a time and spread over the devices; each representation is reduced to
the distances of Eq. 1 where it is computed, so that memory does not grow with their number. All of
it is one compiled program; a network that JAX cannot trace is called between compiled parts of it.
"""

import math
import warnings
from collections.abc import Callable
from functools import partial
from operator import itemgetter
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Float, Int, Key, PyTree

from relstab_jax.errors import InputError
from relstab_jax.measures import representations
from relstab_jax.measures.noise import EqualNorm, Noise
from relstab_jax.measures.perturbations import Diffeomorphism
from relstab_jax.measures.sensitivity import (
    Distances,
    MapMeasurement,
    Measurement,
    measurement,
)
from relstab_jax.measures.steps import (
    REFERENCE_IMAGES,
    Copies,
    Perturbation,
    compile_steps,
    relative_changes,
    sums,
)
from relstab_jax.messages import progress_bar

_MIXED = 0.01  # relative change of a representation that no rounding explains

# Bytes of representations at a time. Larger batches are no faster on a CPU, but PyTorch is slow on
# single images; elsewhere it is a part of the device's memory.
_CPU_BYTES = 2**29
_DEVICE_PART = 0.2


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
    share_of_reference, add_to_variance, step = compile_steps(
        features_fn, stacked, paired, made, mesh, traced, channel_axis if equivariance else None
    )
    with jax.default_matmul_precision("highest"):
        first = read(np.arange(1))
        _check_perturbation(perturbation, first[0, 0] if paired else first[0])
        one = jax.tree.map(itemgetter(0), networks) if stacked else network
        layers = representations.shapes(features_fn, one, first[0] if paired else first, traced)
        each = math.ceil(P / mesh.size)
        b = min(int(batch_size or _batch_size(list(layers.values()), each)), each)
        reference = _reference(
            partial(share_of_reference, weights),
            read,
            np.linspace(0, P - 1, REFERENCE_IMAGES - 1).round().astype(int),
            max(n for n in (2, 4, 8, 16) if n <= 2 * b),  # a step takes 2 b, too
            list(layers),
        )
        variance = jnp.zeros(images.shape[:1] if paired else (), dtype)
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
        with progress_bar(total=P, unit="image", shown=progress) as bar:
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
    share: Callable[[np.ndarray], tuple[list[Array], list[Array]]],
    read: Callable[[Int[np.ndarray, " n"]], np.ndarray],
    images: Int[np.ndarray, " n"],
    b: int,
    layers: list[Any],
) -> list[Array]:
    """Adds up the shares of some images in the reference, b at a time.

    Args:
        share: images -> their share in the reference, and the representation of the first of them.
        read: indices -> images.
        images: their indices. The first counts twice.
        b: images at a time, which divides their number and one.
        layers: names of the representations.

    Raises:
        InputError: if a representation of an image depends on the images beside it: that of the
            first image is compared in the first batch and in the last.
    """
    batches = np.append(images, images[0]).reshape(-1, b)
    batches[-1] = batches[-1, ::-1]
    reference, of_first = share(read(batches[0]))
    of_last = of_first
    for index in batches[1:]:
        part, of_last = share(read(index))
        reference = sums(reference, part)
    for layer, change in zip(layers, relative_changes(of_first, of_last), strict=True):
        if change > _MIXED:
            raise InputError(
                f"the representation {layer!r} of an image depends on the images beside it: put "
                "the network in evaluation mode, batch-norm with running statistics, no dropout"
            )
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
