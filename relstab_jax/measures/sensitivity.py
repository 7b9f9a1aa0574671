"""Sensitivities to diffeomorphisms D, to noise G and their ratio R (Eq. 1).

For a representation f of P examples x_i, their deformed copies τx_i and noisy copies x_i + η_i,

    D = mean_i ‖f(τx_i) - f(x_i)‖² / N,   G = mean_i ‖f(x_i + η_i) - f(x_i)‖² / N,   R = D / G,

with N the mean of ‖f(x_i) - f(x_j)‖² over all P² pairs. N = 2 · mean_i ‖f(x_i) - mean f‖² exactly:
that takes O(P) work and streams over batches. Distances are taken to a reference c near the mean,
the mean of a few of the examples, and corrected at the end,

    mean_i ‖f(x_i) - mean f‖² = mean_i ‖f(x_i) - c‖² - ‖mean f - c‖²,

so that a mean far from zero costs no digits.
"""

import math
from collections import OrderedDict
from collections.abc import Callable, Mapping
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jax.tree_util import DictKey, keystr, tree_flatten_with_path
from jaxtyping import Array, Float, Inexact, Int, Key, Num, PyTree, Shaped
from tqdm import tqdm

from relstab_jax.errors import InputError
from relstab_jax.measures import diffeomorphism, noise

_REFERENCE_EXAMPLES = 32  # whose mean is the reference c

# Bytes of representations at a time for which batches are chosen, on a CPU: larger ones are no
# faster. Elsewhere it is a part of the device's memory.
_CPU_BYTES = 2**29
_DEVICE_PART = 0.2


class Sensitivity(NamedTuple):
    """D, G and R of Eq. 1; NaN where a constant representation leaves them undefined."""

    D: Float[Array, "*stack"]
    G: Float[Array, "*stack"]
    R: Float[Array, "*stack"]


class Measurement(NamedTuple):
    """D, G and R of Eq. 1 and their standard errors over images and their copies."""

    D: Float[Array, "*stack"]
    G: Float[Array, "*stack"]
    R: Float[Array, "*stack"]
    D_error: Float[Array, "*stack"]
    G_error: Float[Array, "*stack"]
    R_error: Float[Array, "*stack"]


class Distances(NamedTuple):
    """What Eq. 1 needs to know about one representation of P examples.

    Attributes:
        reference: c [*d].
        offset: sum over examples of f - c [*d].
        spread: ‖f - c‖² of each example.
        deformed: mean over its copies of ‖f(τx) - f(x)‖².
        noisy: mean over its copies of ‖f(x + η) - f(x)‖².
    """

    reference: Inexact[Array, "*d"]
    offset: Inexact[Array, "*d"]
    spread: Float[Array, " P"]
    deformed: Float[Array, " P"]
    noisy: Float[Array, " P"]


def full(dtype: Any) -> np.dtype:
    """Returns the type in which representations of a type are compared: float32 or wider."""
    wide = jnp.issubdtype(dtype, jnp.inexact) and jnp.finfo(dtype).bits >= 32
    return np.dtype(dtype if wide else np.float32)


def in_full(f: Shaped[Array, "*d"]) -> Inexact[Array, "*d"]:
    """Returns a representation in float32, or in its own type where that is wider or complex."""
    return f.astype(full(f.dtype))


def squares(f: Inexact[Array, "*d"]) -> Float[Array, "*d"]:
    """Returns |f|², of complex numbers too."""
    return jnp.square(f.real) + jnp.square(f.imag) if jnp.iscomplexobj(f) else jnp.square(f)


def squared_norms(f: Inexact[Array, "P *d"]) -> Float[Array, " P"]:
    """Returns ‖f‖² of each example."""
    return jnp.sum(squares(f), axis=tuple(range(1, f.ndim)))


def mean_squares(distances: Distances) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Returns N / 2 and the mean of ‖f‖², over examples, as far as its rounding matters."""
    mean_offset = distances.offset / len(distances.spread)
    mean = distances.reference + mean_offset
    return distances.spread.mean() - jnp.sum(squares(mean_offset)), jnp.sum(squares(mean))


def normalisation(distances: Distances) -> Float[Array, ""]:
    """Returns N, or NaN where the representations differ by no more than rounding."""
    half_N, magnitude = mean_squares(distances)
    rounding = 32 * jnp.finfo(half_N.dtype).eps
    return jnp.where(half_N <= rounding**2 * magnitude, jnp.nan, 2 * half_N)


def finish(distances: Distances) -> Sensitivity:
    """Returns D, G and R, each a scalar."""
    N = normalisation(distances)
    D, G = distances.deformed.mean() / N, distances.noisy.mean() / N
    return Sensitivity(D, G, D / jnp.where(G > 0, G, jnp.nan))


def standard_errors(distances: Distances) -> Sensitivity:
    """Returns the standard errors of D, G and R over examples, copies included.

    All three are ratios of means over examples, a / b, whose variance is to first order that of
    the mean of (a_i - (a / b) b_i) / b. In N an example counts by twice its distance from c.
    """
    P = len(distances.spread)
    N = normalisation(distances)
    deformed, noisy = distances.deformed, distances.noisy

    def error(a: Float[Array, " P"], b: Float[Array, " P"], mean_b: Float[Array, ""]) -> Array:
        return jnp.std(a - a.mean() / mean_b * b, ddof=1) / mean_b / P**0.5

    G = jnp.where(noisy.mean() > 0, noisy.mean(), jnp.nan) + 0 * N
    twice = 2 * distances.spread
    return Sensitivity(error(deformed, twice, N), error(noisy, twice, N), error(deformed, noisy, G))


@jax.jit
def _summaries(distances: list[Distances]) -> list[Measurement]:
    return [Measurement(*finish(d), *standard_errors(d)) for d in distances]


def sensitivities(
    f: Num[Array, "P *d"], f_deformed: Num[Array, "P *d"], f_noisy: Num[Array, "P *d"]
) -> Sensitivity:
    """Returns D, G and R (Eq. 1), each a scalar, from one representation of all examples.

    Args:
        f: representation of the examples, real or complex.
        f_deformed: representation of their deformed copies.
        f_noisy: representation of their noisy copies.
    """
    f, f_deformed, f_noisy = (in_full(jnp.asarray(x)) for x in (f, f_deformed, f_noisy))
    mean = f.mean(axis=0)
    about_mean = squared_norms(f - mean[None])
    moved = squared_norms(f_deformed - f), squared_norms(f_noisy - f)
    return finish(Distances(mean, jnp.zeros_like(mean), about_mean, *moved))


def _reference_examples(examples: int) -> Int[np.ndarray, " n"]:
    """Returns the indices of those examples, far apart, whose mean is the reference."""
    return np.linspace(0, examples - 1, _REFERENCE_EXAMPLES).round().astype(int)


def of_batch(
    features: Callable[[Float[Array, "b *x"]], PyTree[Shaped[Array, "b ..."]]],
    reference: PyTree,
    images: Float[Array, "b *x"],
    deformed: Float[Array, "b t *x"],
    noisy: Float[Array, "b t *x"],
    weights: Float[Array, " b"],
) -> PyTree:
    """Returns the pytree of `features` with `Distances` of one batch in its leaves.

    One copy of every example at a time, so that memory does not grow with their number t.
    Examples of weight 0 do not count in `Distances.offset`.
    """
    f = jax.tree.map(in_full, features(images))

    def of_copy(copies: tuple[Float[Array, "b *x"], Float[Array, "b *x"]]) -> PyTree:
        f_copies = jax.tree.map(in_full, features(jnp.concatenate(copies)))
        return jax.tree.map(
            lambda f, f_copies: squared_norms(f_copies - jnp.concatenate([f, f])).reshape(2, -1),
            f,
            f_copies,
        )

    moved = lax.map(of_copy, (deformed.swapaxes(0, 1), noisy.swapaxes(0, 1)))

    def distances(c: Array, f: Array, moved: Float[Array, "t 2 b"]) -> Distances:
        about = f - c[None]
        return Distances(
            c,
            jnp.tensordot(weights.astype(f.dtype), about, axes=1),
            squared_norms(about),
            *moved.mean(axis=0),
        )

    return jax.tree.map(distances, reference, f, moved)


def streamed(
    features: Callable[[Float[Array, "b *x"]], PyTree[Shaped[Array, "b ..."]]],
    images: Float[Array, "P *x"],
    deformed: Float[Array, "P t *x"],
    noisy: Float[Array, "P t *x"],
    *,
    batch_size: int,
) -> PyTree:
    """Returns the sensitivities of many representations of copies that are at hand.

    It is one traced loop over batches, in memory that does not grow with P: call it under `jit`,
    and `vmap` it over a stack of networks.

    Args:
        features: images -> any pytree of representations f [b, ...].
        images: the P examples.
        deformed: t deformed copies of each.
        noisy: t noisy copies of each.
        batch_size: number of examples whose representations exist at one time, beside those of
            one deformed and one noisy copy of each.

    Returns:
        The pytree of `features`, with a `Sensitivity` in the place of each representation.
    """
    P = len(images)
    b = min(batch_size, P)
    batches = -(-P // b)
    reference = jax.tree.map(
        lambda f: in_full(f).mean(axis=0), features(images[_reference_examples(P)])
    )

    def batched(x: Array) -> Array:
        padding = [(0, batches * b - P)] + [(0, 0)] * (x.ndim - 1)
        return jnp.pad(x, padding, mode="edge").reshape(batches, b, *x.shape[1:])

    def is_distances(node: Any) -> bool:
        return isinstance(node, Distances)

    def add_batch(offset: PyTree, batch: tuple[Array, ...]) -> tuple[PyTree, PyTree]:
        new = of_batch(features, reference, *batch)
        offset = jax.tree.map(lambda o, d: o + d.offset, offset, new)
        return offset, jax.tree.map(lambda d: d[2:], new, is_leaf=is_distances)

    weights = (jnp.arange(batches * b) < P).astype(images.dtype).reshape(batches, b)
    zero = jax.tree.map(jnp.zeros_like, reference)
    offset, per_example = lax.scan(
        add_batch, zero, (batched(images), batched(deformed), batched(noisy), weights)
    )

    def sensitivity(c: Array, offset: Array, per_example: tuple[Array, ...]) -> Sensitivity:
        return finish(Distances(c, offset, *(x.reshape(-1)[:P] for x in per_example)))

    return jax.tree.map(sensitivity, reference, offset, per_example)


class Copies(NamedTuple):
    """How the copies of an image are made.

    Attributes:
        temperature: T of the diffeomorphisms.
        cut: c of the diffeomorphisms.
        interpolation: of the deformed images.
        number: of diffeomorphisms and of noises for each image.
    """

    temperature: float
    cut: int
    interpolation: str
    number: int

    def __call__(
        self, key: Key[Array, ""], image: Float[Array, "size size C"]
    ) -> tuple[Float[Array, "t size size C"], Float[Array, "t size size C"]]:
        """Returns deformed and noisy copies; copy t is the same however many there are."""

        def copy(t: Int[Array, ""]) -> tuple[Array, Array]:
            key_deform, key_noise = jax.random.split(jax.random.fold_in(key, t))
            field = diffeomorphism.displacement(key_deform, len(image), self.cut, self.temperature)
            deformed = diffeomorphism.warp(image, *field, self.interpolation)
            norm = jnp.linalg.norm((deformed - image).ravel())
            return deformed, image + noise.isotropic(key_noise, image, norm)

        return jax.vmap(copy)(jnp.arange(self.number))


def measure(
    features_fn: Callable[..., PyTree],
    images: Any,
    key: Key[Array, ""],
    *,
    delta: float = 1.0,
    cut: int = 3,
    interpolation: str = "linear",
    transforms: int = 1,
    networks: PyTree | None = None,
    batch_size: float | None = None,
    progress: bool = False,
) -> dict[Any, Measurement]:
    """Measures D, G and R (Eq. 1) of every representation of a network, on all devices.

    The noise of G has, image by image, the norm of the deformation: ‖η_i‖ = ‖τx_i - x_i‖.

    Args:
        features_fn: images [b, size, size, C] -> {layer: f [b, ...]}, or any other pytree of
            representations, real or complex: any function that JAX can trace, from any library,
            such as `partial(model.features, variables)`. With `networks` it is (network, images)
            -> representations.
        images: P of them [P, size, size, C], an array or anything with `len`, `shape` and items
            that are arrays, such as a memory-mapped file: a batch of them is read at a time.
        key: root of the randomness. Every copy of every image has a key of its own: results
            depend neither on the batch size nor on the number of devices.
        delta: δ, the typical displacement in pixels, which sets the temperature.
        cut: c, the cut-off of the diffeomorphisms.
        interpolation: of the deformed images: "linear", "nearest" or "gaussian".
        transforms: number of diffeomorphisms, and of noises, for each image.
        networks: a stack of networks, any pytree of arrays with a leading axis [S]. All of them
            see the same copies of the images, in one compiled call.
        batch_size: images at a time on each device, a whole number; by default as many as memory is
            good for.
        progress: whether to show a progress bar.

    Returns:
        {layer: Measurement}, in the order of `features_fn`: scalars, or arrays [S] for a stack. The
        layer is the key in a mapping, or, for other pytrees, the path, such as "blocks/0/conv"; it
        is "output" where there is one array alone.

    Raises:
        InputError: for images that are not square, not finite or fewer than two, for no
            representation or one without an axis for the images, and for what
            `diffeomorphism.checked_temperature` refuses.
    """
    _check(images, cut, transforms, batch_size, interpolation)
    temperature = diffeomorphism.checked_temperature(delta, cut, images.shape[1])
    copies = Copies(temperature, cut, interpolation, transforms)
    dtype = jnp.result_type(float)
    P = len(images)
    if isinstance(images, jax.Array):
        images = np.asarray(images)  # of which batches are cut at no cost

    def read(index: Int[np.ndarray, " n"]) -> Float[np.ndarray, "n size size C"]:
        return np.stack([np.asarray(images[min(int(i), P - 1)], dtype) for i in index])

    mesh = Mesh(np.array(jax.local_devices()), ("image",))
    everywhere = NamedSharding(mesh, PartitionSpec())
    add_to_reference, step = _compile(features_fn, networks is not None, copies, mesh)
    with jax.default_matmul_precision("highest"):
        layers = _layers(features_fn, networks, read(np.arange(1)))
        each = -(-P // mesh.size)
        b = min(int(batch_size or _batch_size(list(layers.values()), each)), each)
        few = min(_REFERENCE_EXAMPLES, 2 ** (b.bit_length() - 1))
        stack = () if networks is None else jax.tree.leaves(networks)[0].shape[:1]
        reference = [jnp.zeros(stack + f.shape[1:], full(f.dtype)) for f in layers.values()]
        for index in _reference_examples(P).reshape(-1, few):
            reference = add_to_reference(networks, reference, read(index))
        networks, reference, offset, key = jax.device_put(
            (networks, reference, jax.tree.map(jnp.zeros_like, reference), key), everywhere
        )
        parts = []
        with tqdm(total=P, unit="image", disable=None if progress else True) as bar:
            for start in range(0, P, b * mesh.size):
                index = np.arange(start, start + b * mesh.size)
                weights = (index < P).astype(dtype)
                offset, part = step(networks, reference, offset, key, read(index), index, weights)
                if parts:  # waits for the batch before this one, so that few are under way
                    parts[-1] = jax.tree.map(np.asarray, parts[-1])
                    bar.update(start - bar.n)
                parts.append(part)
            per_example = jax.tree.map(lambda *x: np.concatenate(x, axis=-1)[..., :P], *parts)
            bar.update(P - bar.n)
    distances = [
        Distances(c, o, *rest) for c, o, rest in zip(reference, offset, per_example, strict=True)
    ]
    found = _summaries(distances) if networks is None else jax.vmap(_summaries)(distances)
    return dict(zip(layers, found, strict=True))


def _check(images: Any, cut: Any, transforms: Any, batch_size: Any, interpolation: str) -> None:
    if not hasattr(images, "shape"):
        raise InputError(
            f"images are a {type(images).__name__}, and must be one array [P, size, size, "
            "channels], such as np.stack makes of a list"
        )
    shape = tuple(images.shape)
    if len(shape) != 4 or shape[1] != shape[2]:
        raise InputError(f"images of shape {shape} must be [P, size, size, channels], square")
    if shape[0] < 2:
        raise InputError(f"P={shape[0]} images do not do: N is their mean distance, of at least 2")
    for name, value in (("cut", cut), ("transforms", transforms), ("batch_size", batch_size)):
        whole = isinstance(value, int | np.integer) and value >= 1
        if not whole and not (name == "batch_size" and value is None):
            raise InputError(f"{name}={value} must be at least 1, and a whole number")
    if interpolation not in diffeomorphism.INTERPOLATIONS:
        known = ", ".join(diffeomorphism.INTERPOLATIONS)
        raise InputError(f"interpolation={interpolation!r} is not known: use one of {known}")
    if isinstance(images, np.ndarray | jax.Array):  # others are read when they are needed
        if not any(jnp.issubdtype(images.dtype, kind) for kind in (bool, int, jnp.floating)):
            raise InputError(f"images of type {images.dtype} must be real numbers")
        for start in range(0, shape[0], 256):
            finite = np.isfinite(np.asarray(images[start : start + 256])).all(axis=(1, 2, 3))
            if not finite.all():
                raise InputError(
                    f"image {start + int(finite.argmin())} has values that are not finite"
                )


def _named(representations: PyTree) -> OrderedDict[Any, Array]:
    """Returns {layer: f} of a pytree of representations, in its order, named as by `measure`."""

    def ordered(tree: PyTree) -> PyTree:  # JAX sorts the keys of a dict, but not of an OrderedDict
        def of_node(node: Any) -> Any:
            if not isinstance(node, Mapping):
                return node
            return OrderedDict((key, ordered(value)) for key, value in node.items())

        return jax.tree.map(of_node, tree, is_leaf=lambda node: isinstance(node, Mapping))

    named = OrderedDict()
    for path, f in tree_flatten_with_path(ordered(representations))[0]:
        name: Any = keystr(path, simple=True, separator="/") or "output"
        if len(path) == 1 and isinstance(path[0], DictKey):
            name = path[0].key
        if name in named:
            raise InputError(f"features_fn returns two representations {name!r}: rename one")
        if not isinstance(f, jax.Array | np.ndarray):
            raise InputError(
                f"features_fn returns a {type(f).__name__} as {name!r}, and must return arrays "
                "[P, ...] alone"
            )
        named[name] = f
    if not named:
        raise InputError("features_fn returns no representation: it must return arrays [P, ...]")
    return named


def _layers(
    features_fn: Callable[..., PyTree],
    networks: PyTree | None,
    image: Float[np.ndarray, "1 size size C"],
) -> dict[Any, jax.ShapeDtypeStruct]:
    """Returns the shapes of a network's representations of one image, in their order."""
    names: list[Any] = []

    def representations(networks: PyTree | None, image: Array) -> list[Array]:
        if networks is None:
            f = _named(features_fn(image))
        else:
            f = _named(features_fn(jax.tree.map(lambda leaf: leaf[0], networks), image))
        names[:] = f
        return [jnp.asarray(x) for x in f.values()]

    shapes = jax.eval_shape(representations, networks, image)
    for name, f in zip(names, shapes, strict=True):
        if f.shape[:1] != (1,):
            raise InputError(
                f"the representation {name!r} of one image has shape {f.shape}; the first axis "
                "of what features_fn returns must be that of the images"
            )
    return dict(zip(names, shapes, strict=True))


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
    # Even batches, so that the last is not mostly padding, of sizes that a convolution can cut.
    batches = math.ceil(P / (at_most // 8 * 8))
    return math.ceil(P / (batches * 8)) * 8


@lru_cache(maxsize=4)
def _compile(
    features_fn: Callable[..., PyTree], stacked: bool, copies: Copies, mesh: Mesh
) -> tuple[Callable[..., list[Array]], Callable[..., tuple[list[Array], list[Any]]]]:
    """Compiles what `measure` does with a batch of images; kept for the next call.

    Returns:
        (networks, reference, images) -> the reference with the share of some images added to it;
        and, on batches spread over the devices, (networks, reference, offset, key, images, index,
        weights) -> the new offset, and (spread, deformed, noisy) of each representation. The first
        consumes `reference`, the second `offset`.
    """
    everywhere, spread = PartitionSpec(), PartitionSpec("image")

    def features(network: PyTree | None, images: Array) -> list[Shaped[Array, "b ..."]]:
        f = features_fn(images) if network is None else features_fn(network, images)
        return [jnp.asarray(x) for x in _named(f).values()]

    def over_networks(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
        # One after the other: their representations need not be in memory together.
        return partial(lax.map, function) if stacked else function

    def add_to_reference(networks, reference, images):
        def of_network(network: tuple[PyTree | None, list[Array]]) -> list[Array]:
            f = features(network[0], images)
            total = [in_full(x).sum(axis=0) for x in f]
            return [c + x / _REFERENCE_EXAMPLES for c, x in zip(network[1], total, strict=True)]

        return over_networks(of_network)((networks, reference))

    def step(networks, reference, offset, key, images, index, weights):
        keys = jax.vmap(jax.random.fold_in, (None, 0))(key, index)
        deformed, noisy = jax.vmap(copies)(keys, images)

        def of_network(network: tuple[PyTree | None, list[Array]]) -> list[tuple[Array, ...]]:
            f = partial(features, network[0])
            distances = of_batch(f, network[1], images, deformed, noisy, weights)
            return [d[1:] for d in distances]

        new = over_networks(of_network)((networks, reference))
        offset = [o + lax.psum(d[0], "image") for o, d in zip(offset, new, strict=True)]
        return offset, [d[1:] for d in new]

    sharded_step = jax.shard_map(
        step,
        mesh=mesh,
        in_specs=(everywhere,) * 4 + (spread,) * 3,
        out_specs=(everywhere, PartitionSpec(None, "image") if stacked else spread),
        check_vma=False,
    )
    return jax.jit(add_to_reference, donate_argnums=1), jax.jit(sharded_step, donate_argnums=2)
