"""Exact sensitivities of homogeneous networks, at every depth (Section 4, beyond Eqs. 5, 7, 8, 9).

A trained network of Section 4 acts in its first layers like one channel with filter 1/F and no
bias. On non-negative inputs that is a linear map: layer k averages patches of F pixels,

    f_k(x) = M^k x = φ_i + φ_j,   φ_i = √(L/2) M^k δ_i the representation of one active pixel,

for active pixels i, j. So does any channel whose filters have no negative tap: its layers are
weighted means, M^k becomes the product of its layers, and all else is the same. A factor of a
layer's filter multiplies this and all later representations, and leaves D, G and R as they are.

The averages of Eq. 1 are then finite sums over pixels and points:

    D   each pixel moves on its own, its representation by a random v_i = φ_i' - φ_i, so that
        E‖f(τx) - f(x)‖² = E‖v_i‖² + E‖v_j‖² + 2 E v_i · E v_j;
    G   the noise η has the variance of the deformation, σ² = E‖τx - x‖² / L, and second moments
        U = E η ηᵀ, so that E‖f(x + η) - f(x)‖² = tr(M^k U M^kᵀ);
    N   is 2 mean ‖f - mean f‖² over the points.

Rectified noise has independent pixels of mean σ/√(2π) and variance σ² (1/2 - 1/2π), and stays
non-negative. Noise that is not rectified meets the ReLU of the first layer: the second moments of
what is behind it are known too, and from there on the network is linear again. All sums are in
float64, and nothing is sampled.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Array, Float, Int

from relstab_jax.data import scale_detection
from relstab_jax.errors import InputError
from relstab_jax.measures.sensitivity import Sensitivity
from relstab_jax.models.simple_cnn import layer_strides
from relstab_jax.theory import rectified_gaussian

_ROUNDING = 32 * np.finfo(np.float64).eps


def sensitivities(
    task: int | str,
    *,
    size: int,
    xi: int,
    gap: int,
    filter_size: int,
    stride: int,
    depth: int,
    strided_layers: int | None = None,
    filters: Float[np.ndarray, "layer tap"] | None = None,
    positions: Int[Array, "n 2"] | Int[np.ndarray, "n 2"] | None = None,
    boundary: str = "wrap",
    rectified: bool = True,
) -> Sensitivity:
    """Computes the exact D, G and R of a network of one channel, arrays [depth] (Eq. 1).

    Args:
        task: 1 or 2.
        size: L, pixels of the input.
        xi: ξ, the characteristic scale in pixels.
        gap: g, in pixels.
        filter_size: F.
        stride: 1 or F.
        depth: K, number of layers.
        strided_layers: how many of the first layers have the stride; all by default.
        filters: of the one channel, for example the mean filters of a trained network (Tables 1,
            2); all taps 1/F by default, a homogeneous network. A factor of a layer's filter does
            not matter.
        positions: active pixels of the points to average over; beside measured values, the points
            of the measurement. By default all points of the task, and in Task 2, where one label
            is rare, both labels with the same total weight.
        boundary: of moves across the border in Task 1, "wrap" or "clamp".
        rectified: whether the noise passes a ReLU before it is added to the input.

    Returns:
        NaN in layers with a constant representation, where N = 0 to rounding; and from the first
        layer on whose filter has a negative tap or no positive one: its ReLU is not linear.

    Raises:
        InputError: if the task or the network is not defined, or a position lies outside the input.
    """
    strides = layer_strides(
        size=size,
        filter_size=filter_size,
        stride=stride,
        depth=depth,
        strided_layers=strided_layers,
    )
    w = _normalised(filters, filter_size, depth)
    positions, weights = _point_set(task, size, xi, gap, positions)
    moves = scale_detection.moved(
        np.arange(size), np.array([[-1], [1]]), task=task, size=size, xi=xi, boundary=boundary
    )
    pixels = _active_pixels(size)
    phi = _pooled(pixels, w, strides)

    sigma = (_mean_change(pixels, moves, positions, weights) / size) ** 0.5
    change = np.array([_mean_change(f, moves, positions, weights) for f in phi])
    if rectified:
        U = _rectified_noise(size, sigma)
        noise = _mean_squares(U, _pooled(np.eye(size), w, strides))
    else:
        patches = _patches(positions, weights, size, w[0], strides[0])
        U = _noise_behind_relu(patches, sigma, bias=0.0)
        noise = _mean_squares(U, _from_first_layer(np.eye(len(U)), w, strides))

    N = np.array([_mean_distance_of_points(f, positions, weights) for f in phi])
    D, G = change / N, noise / N
    return Sensitivity._make((D, G, D / np.where(G > 0, G, np.nan)))


def noise_sensitivity(
    task: int | str,
    *,
    size: int,
    xi: int,
    gap: int,
    filter_size: int,
    stride: int,
    depth: int,
    sigmas: Sequence[float],
    biases: Sequence[float],
    filters: Float[np.ndarray, "layer tap"] | None = None,
) -> Float[np.ndarray, "sigma bias depth"]:
    """Computes the exact G for noise of any magnitude in a network with a bias.

    The noise is Gaussian, not rectified, and the first layer is ReLU(M x + bias). A bias that lifts
    the noise above the threshold of the ReLU, or keeps all of it below, removes its rectification
    and with it the growth of G with depth. A bias ≥ 0 in the other layers cancels, so the result is
    also the G of a network with that bias in every layer. A negative bias in every layer has no
    closed form.

    Args:
        task: as for `sensitivities`; so are `size` to `depth`.
        size: L.
        xi: ξ.
        gap: g.
        filter_size: F.
        stride: 1 or F.
        depth: K.
        sigmas: standard deviations of the noise at each pixel, > 0; active pixels are √(L/2).
        biases: of the first layer, on the same scale, where its filter has sum 1.
        filters: as for `sensitivities`.

    Returns:
        NaN in layers where N = 0 to rounding, and where `sensitivities` has NaN for the filters.

    Raises:
        InputError: if the task or the network is not defined, or a sigma is not positive.
    """
    strides = layer_strides(size=size, filter_size=filter_size, stride=stride, depth=depth)
    if min(sigmas) <= 0:
        raise InputError(f"sigmas={tuple(sigmas)} must be positive")
    positions, weights = _point_set(task, size, xi, gap, None)
    w = _normalised(filters, filter_size, depth)
    patches = _patches(positions, weights, size, w[0], strides[0])
    neurons = size // strides[0]
    maps = _from_first_layer(np.eye(neurons), w, strides)
    first = pool(_of_points(_active_pixels(size), positions), w[0], strides[0])
    G = np.empty((len(sigmas), len(biases), depth))
    for b, bias in enumerate(biases):
        f = _from_first_layer(np.maximum(first + bias, 0), w, strides)
        N = np.array([_mean_distance(f_k, weights) for f_k in f])
        for s, sigma in enumerate(sigmas):
            U = _noise_behind_relu(patches, sigma, bias)
            G[s, b] = _mean_squares(U, maps) / N
    return G


def representations(
    x: Float[np.ndarray, "*P L"], *, filter_size: int, stride: int, depth: int
) -> list[Float[np.ndarray, "*P l"]]:
    """Returns f_1 .. f_K of a homogeneous network for non-negative inputs of L pixels (Fig. 6).

    Raises:
        InputError: for a filter larger than the input, a stride that is neither 1 nor F, or
            strides that do not divide L.
    """
    strides = layer_strides(size=x.shape[-1], filter_size=filter_size, stride=stride, depth=depth)
    return _pooled(x, _normalised(None, filter_size, depth), strides)


def pool(
    x: Float[np.ndarray, "*P L"], taps: Float[np.ndarray, " F"], stride: int
) -> Float[np.ndarray, "*P l"]:
    """Applies M, one layer: sums over patches of F pixels, times taps, with circular padding.

    The patch of output pixel o begins (F - 1) // 2 pixels left of pixel o * stride, as in the 1-D
    CNN, for odd and even F alike.
    """
    size, F = x.shape[-1], len(taps)
    first = np.arange(0, size, stride) - (F - 1) // 2
    return x[..., (first[:, None] + np.arange(F)) % size] @ taps


def _normalised(
    filters: Float[np.ndarray, "layer tap"] | None, filter_size: int, depth: int
) -> Float[np.ndarray, "depth F"]:
    """Returns filters of sum 1, equal ones for None; NaN from the first on with a negative tap.

    Raises:
        InputError: if there is not a filter of F taps for each layer.
    """
    if filters is None:
        return np.full((depth, filter_size), 1 / filter_size)
    if filters.shape != (depth, filter_size):
        raise InputError(
            f"filters of shape {filters.shape} do not fit: give one of filter_size={filter_size} "
            f"taps for each of depth={depth} layers"
        )
    w = filters.astype(float)
    linear = ((w >= 0) & (w < np.inf)).all(axis=1) & w.any(axis=1)
    w[~np.logical_and.accumulate(linear)] = np.nan
    return w / w.sum(axis=1, keepdims=True)


def _pooled(
    x: Float[np.ndarray, "*P L"], filters: Float[np.ndarray, "k F"], strides: tuple[int, ...]
) -> list[Float[np.ndarray, "*P l"]]:
    f = []
    for taps, stride in zip(filters, strides, strict=True):
        x = pool(x, taps, stride)
        f.append(x)
    return f


def _from_first_layer(
    first: Float[np.ndarray, "P l"], filters: Float[np.ndarray, "k F"], strides: tuple[int, ...]
) -> list[Float[np.ndarray, "P ..."]]:
    """Returns f_1 .. f_K from f_1."""
    return [first, *_pooled(first, filters[1:], strides[1:])]


def _point_set(
    task: int | str,
    size: int,
    xi: int,
    gap: int,
    positions: Int[Array, "n 2"] | Int[np.ndarray, "n 2"] | None,
) -> tuple[Int[np.ndarray, "n 2"], Float[np.ndarray, " n"]]:
    """Returns the points to average over and their weights, of sum 1."""
    all_positions, labels = scale_detection.points(task, size, xi, gap)
    if positions is not None:
        chosen = np.asarray(positions)
        if chosen.min() < 0 or chosen.max() >= size:
            raise InputError(f"positions must lie between 0 and {size - 1}")
        return chosen, np.full(len(chosen), 1 / len(chosen))
    if scale_detection.task_number(task) == 1:
        return all_positions, np.full(len(labels), 1 / len(labels))
    frequency = np.where(labels == 1, np.sum(labels == 1), np.sum(labels == -1))
    return all_positions, 0.5 / frequency


def _active_pixels(size: int) -> Float[np.ndarray, "L L"]:
    """Returns the L inputs √(L/2) δ_i."""
    return (size / 2) ** 0.5 * np.eye(size)


def _of_points(
    phi: Float[np.ndarray, "L l"], positions: Int[np.ndarray, "n 2"]
) -> Float[np.ndarray, "n l"]:
    i, j = positions.T
    return phi[i] + phi[j]


def _mean_change(
    phi: Float[np.ndarray, "L l"],
    moves: Int[np.ndarray, "2 L"],
    positions: Int[np.ndarray, "n 2"],
    weights: Float[np.ndarray, " n"],
) -> float:
    """Returns E‖f(τx) - f(x)‖² over points and moves; phi holds the representation of each pixel.

    The moves of the two active pixels are independent: E‖v_i + v_j‖² needs no joint moves.
    """
    v = phi[moves] - phi
    squares, mean = (v**2).sum(axis=2).mean(axis=0), v.mean(axis=0)
    i, j = positions.T
    return float(weights @ (squares[i] + squares[j] + 2 * (mean @ mean.T)[i, j]))


def _mean_distance(f: Float[np.ndarray, "n l"], weights: Float[np.ndarray, " n"]) -> float:
    """Returns N, the mean of ‖f(x) - f(x')‖² over all pairs of points; NaN where it is rounding."""
    mean = weights @ f
    spread = weights @ ((f - mean) ** 2).sum(axis=1)
    return 2 * float(spread) if spread > _ROUNDING**2 * (mean @ mean) else np.nan


def _mean_distance_of_points(
    phi: Float[np.ndarray, "L l"],
    positions: Int[np.ndarray, "n 2"],
    weights: Float[np.ndarray, " n"],
) -> float:
    """Returns N of f(x) = φ_i + φ_j from the L pixels, without computing n representations."""
    occupied = np.bincount(positions.ravel(), np.repeat(weights, 2), len(phi))
    mean = occupied @ phi
    centred = phi - mean / 2
    products = centred @ centred.T
    i, j = positions.T
    alone, together = products[i, i] + products[j, j], 2 * products[i, j]
    spread = weights @ (alone + together)
    rounding = max(_ROUNDING**2 * (mean @ mean), _ROUNDING * (weights @ alone))
    return 2 * float(spread) if spread > rounding else np.nan


def _mean_squares(
    U: Float[np.ndarray, "l l"], maps: list[Float[np.ndarray, "l ..."]]
) -> Float[np.ndarray, " maps"]:
    """Returns E‖Σ_a u_a m_a‖² of each map, rows m_a, for noise u of second moments U."""
    return np.array([np.sum((U @ m) * m) for m in maps])


def _rectified_noise(size: int, sigma: float) -> Float[np.ndarray, "L L"]:
    """Returns the second moments of the noise ReLU(η), η ~ N(0, σ²) at each pixel."""
    mean, variance = sigma / np.sqrt(2 * np.pi), sigma**2 * (1 / 2 - 1 / (2 * np.pi))
    return variance * np.eye(size) + mean**2


class _Patches(NamedTuple):
    """Contents and overlaps of the patches of the first layer.

    A patch holds none, one or both of the active pixels of a point, so its pre-activation without
    noise has few values, the levels: three if all taps are equal. A mean over points of a function
    of two patches needs only the probability of each pair of levels.

    Attributes:
        levels: the pre-activations that occur.
        probability: of level c in patch a and level d in patch b [c, d, a, b].
        norm: Euclidean norm of the filter.
        correlations: of the pre-activations of two patches for white noise, by how many patches
            they are apart on the ring.
        apart: that number for each pair of patches.
    """

    levels: Float[np.ndarray, " c"]
    probability: Float[np.ndarray, "c c l l"]
    norm: float
    correlations: Float[np.ndarray, " l"]
    apart: Int[np.ndarray, "l l"]


def _patches(
    positions: Int[np.ndarray, "n 2"],
    weights: Float[np.ndarray, " n"],
    size: int,
    taps: Float[np.ndarray, " F"],
    stride: int,
) -> _Patches:
    pixels = pool(_active_pixels(size), taps, stride)
    clean = _of_points(pixels, positions).T
    levels = np.unique(clean)
    at_level = (clean == levels[:, None, None]).astype(float)
    probability = np.einsum("cln,dmn->cdlm", at_level * weights, at_level, optimize=True)
    overlaps = pixels[:, 0] @ pixels
    patch = np.arange(len(clean))
    return _Patches(
        levels,
        probability,
        float(np.linalg.norm(taps)),
        np.minimum(overlaps / overlaps[0], 1),
        (patch - patch[:, None]) % len(patch),
    )


def _noise_behind_relu(patches: _Patches, sigma: float, bias: float) -> Float[np.ndarray, "l l"]:
    """Returns the second moments of u = ReLU(M x + M η + b) - ReLU(M x + b), η ~ N(0, σ²).

    The noise of the pre-activations has standard deviation σ ‖w‖ and the correlations of the
    patches.
    """
    level, scale = patches.levels + bias, sigma * patches.norm
    clean, h = np.maximum(level, 0), level / scale
    noisy = scale * rectified_gaussian.mean(h)
    product = rectified_gaussian.product(h[:, None, None], h[:, None], patches.correlations)
    cross = np.outer(clean, noisy)
    of_levels = scale**2 * product + (np.outer(clean, clean) - cross - cross.T)[..., None]
    return np.sum(patches.probability * of_levels[..., patches.apart], axis=(0, 1))
