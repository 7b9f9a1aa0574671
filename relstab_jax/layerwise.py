"""Measures D, G, R and filter spectra of every layer of networks, as datasets."""

import math
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import numpy as np
import xarray as xr
from jaxtyping import Array, Key, PyTree

from relstab_jax import models
from relstab_jax.errors import InputError, some
from relstab_jax.keys import key_of
from relstab_jax.measures import driver, filters, representations
from relstab_jax.measures.sensitivity import MapMeasurement, Measurement, Sensitivity
from relstab_jax.models import Model, Network, Variables

CHANNELS = ("all", "mean", "shuffled")
STATISTICS_IMAGES = 128  # whose statistics batch-norm may take before training


def measure(
    network: Callable[..., PyTree],
    images: Any,
    key: int | Key[Array, "..."],
    *,
    channels: str | Sequence[str] = "all",
    layers: str | Sequence[str] | None = None,
    shuffles: int = 5,
    networks: PyTree | None = None,
    **options: Any,
) -> xr.Dataset:
    """Measures D, G and R (Eq. 1) of every layer of a network.

    Args:
        network: a `Network`, as `Model.bind` and the functions of `relstab_jax.adapters` make them,
            or any function images [b, ...] -> {layer: f [b, ...]} or another pytree of
            representations.
        images: P of them, [P, size, size, channels] by default.
        key: root of the randomness, a seed or a key.
        channels: "all"; "mean", the mean channel of the maps, NaN for other layers; "shuffled", the
            mean over networks whose convolutions see their input channels in random orders
            (Fig. 3), for which the filters of the network must be known. Or several of them.
        layers: names of the layers to measure, or patterns such as "features.*"; by default all.
        shuffles: number of random orders.
        networks: a stack of networks, a pytree of weights with a leading axis [S], whose
            representations are `network(weights, images)`, or `network.features(weights, images)`
            of a `Network`.
        **options: of `relstab_jax.measures.driver.measure`: perturbation, noise, copies,
            equivariance, paired, batch_size, progress.

    Returns:
        D, G, R and their standard errors D_error, G_error, R_error [layer], with leading dimensions
        channels, where several are given, and network, for a stack. With `equivariance`, E and
        E_error too; with shuffled channels, D_spread, G_spread and R_spread, their standard
        deviations over the orders. The functions of `relstab_jax.plots` draw it.

    Raises:
        InputError: for channels or layers that do not exist, and as
            `relstab_jax.measures.driver.measure`.

    >>> import jax
    >>> images = jax.random.normal(jax.random.key(1), (4, 16, 16, 1))
    >>> found = measure(lambda x: {"square": x**2, "mean": x.mean(axis=(1, 2))}, images, key=0)
    >>> found.layer.values.tolist(), found.D.dims
    (['square', 'mean'], ('layer',))
    """
    if not isinstance(network, Network):
        network = Network(network, None, getattr(network, "__name__", "network"))
    chosen = (channels,) if isinstance(channels, str) else tuple(channels)
    if not chosen or not set(chosen) <= set(CHANNELS):
        raise InputError(f"channels={channels!r} must be among {', '.join(CHANNELS)}")
    if "shuffled" in chosen and network.shuffled is None:
        raise InputError(
            "shuffled channels need a network whose filters are known, such as Model.bind or "
            "from_torch_module returns: leave them out for a function"
        )
    if not (isinstance(shuffles, int) and shuffles >= 1):
        raise InputError(f"shuffles={shuffles} must be at least 1, and a whole number")
    key = jax.random.key(key) if isinstance(key, int) else key
    shuffle_key = key_of(key.ravel()[0], "shuffle")
    if networks is None:
        weights, stack, permute = {"network": network.variables}, {}, network.shuffled
    else:
        weights, stack = (
            {"networks": networks},
            {"network": range(len(jax.tree.leaves(networks)[0]))},
        )
        permute = jax.vmap(network.shuffled, (None, 0)) if network.shuffled else None

    def shuffled() -> Iterator[dict[str, PyTree]]:
        if permute and "shuffled" in chosen:
            for order in range(shuffles):
                of_order = key_of(shuffle_key, order)
                yield {name: permute(of_order, w) for name, w in weights.items()}

    patterns = (layers,) if isinstance(layers, str) else None if layers is None else tuple(layers)
    features = network.features
    if patterns is not None and network.select:
        features = network.select(patterns)
    found = _measured(
        Representations(
            features, patterns, "mean" in chosen, network.channel_axis, network.map_axes
        ),
        images,
        key,
        weights,
        shuffled(),
        channels=chosen,
        stack=stack,
        traced=network.traced,
        channel_axis=network.channel_axis,
        **options,
    )
    number = images.shape[1] if options.get("paired") else len(images)
    config = {"experiment": "measure", "network": network.name, "images": f"{number} images"}
    found.attrs["config"] = config | {"shuffles": shuffles}
    return found.sel(channels=channels) if isinstance(channels, str) else found


def sensitivities(
    model: Model,
    states: Mapping[Any, Variables],
    seeds: Sequence[int],
    images: Any,
    key: Key[Array, "..."],
    *,
    shuffle_key: Key[Array, ""],
    shuffles: int,
    paired: bool = False,
    **options: Any,
) -> xr.Dataset:
    """Measures networks in several states, as they are and with their channels shuffled.

    States are measured one after the other, by one compiled program for all calls with one model.

    Args:
        model: the network.
        states: {state: variables of S networks, with a leading axis [S]}.
        seeds: names of the S networks.
        images: as for `driver.measure`; with `paired`, [S, P, ...].
        key: as for `driver.measure`; with `paired`, [S].
        shuffle_key: root of the permutations of channels: a seed has its own, the same in all
            states.
        shuffles: number of permutations of the channels of each network.
        paired: as for `driver.measure`.
        **options: others of `driver.measure`.

    Returns:
        The fields of `Measurement`, [state, channels, seed, layer]. The last layer is the
        predictor. Channels are all; mean, the mean channel of the maps, NaN for other layers; or
        shuffled, the mean over permutations. And D_spread, G_spread and R_spread
        [state, seed, layer], the standard deviations over permutations, NaN for one.

    Raises:
        InputError: as `driver.measure`.
    """
    numbers = np.array(seeds, np.uint32)

    def of_state(networks: Variables) -> xr.Dataset:
        def shuffled(permutation: int) -> dict[str, Variables]:
            keys = jax.vmap(lambda seed: key_of(shuffle_key, seed, permutation))(numbers)
            return {"networks": jax.vmap(models.shuffled)(keys, networks)}

        return _measured(
            Representations(models.Layers(model), None, mean=True, channel_axis=-1),
            images,
            key,
            {"networks": networks},
            map(shuffled, range(shuffles)),
            channels=CHANNELS,
            stack={"seed": list(seeds)},
            paired=paired,
            **options,
        )

    return _joined("state", {state: of_state(networks) for state, networks in states.items()})


def with_statistics_of(
    model: Model, networks: Variables, images: Any, paired: bool = False
) -> Variables:
    """Gives batch-norms of random networks the statistics of a batch of images, evenly spaced.

    Args:
        model: the network.
        networks: variables of S networks, with a leading axis [S].
        images: [P, ...], or with `paired` [S, P, ...].
        paired: whether each network has its own images.
    """
    P = images.shape[1] if paired else len(images)
    chosen = np.linspace(0, P - 1, min(P, STATISTICS_IMAGES)).astype(int)
    batch = images[:, chosen] if paired else np.stack([images[int(n)] for n in chosen])
    given = partial(models.with_statistics_of, model)
    with jax.default_matmul_precision("highest"):
        return jax.jit(jax.vmap(given, (0, 0 if paired else None)))(networks, batch)


def along_training(measured: Mapping[int, xr.Dataset]) -> xr.Dataset:
    """Joins what was measured after epochs of a training, {epoch: dataset}.

    Returns:
        D of the epochs as along_D [epoch, ...], and so on.
    """
    joined = _joined("epoch", measured)
    return joined.rename({name: f"along_{name}" for name in joined.data_vars})


def _joined(dim: str, datasets: Mapping[Any, xr.Dataset]) -> xr.Dataset:
    """Joins datasets that have the same variables and coordinates along a new first dimension."""
    joined = xr.concat(datasets.values(), dim, coords="minimal", compat="equals", join="exact")
    return joined.assign_coords({dim: list(datasets)})


@dataclass(frozen=True)
class Representations:
    """(weights, images) -> {channels: {layer: f}}, of all channels and of the mean channel.

    Attributes:
        features: (weights, images) -> {layer: f}, or another pytree of representations.
        layers: names or patterns of the layers to return, or None for all.
        mean: whether to return the mean channel of maps.
        channel_axis: of the maps.
        map_axes: number of axes of maps.
    """

    features: Callable[..., PyTree]
    layers: tuple[str, ...] | None
    mean: bool
    channel_axis: int
    map_axes: int = 4

    def __call__(self, *arguments: Any) -> OrderedDict[str, OrderedDict[Any, Array]]:
        """Returns the representations of (weights, images), or of (images,) for a function."""
        f = representations.named(self.features(*arguments))
        for pattern in self.layers or ():
            if not any(representations.matches(layer, (pattern,)) for layer in f):
                known = some(list(map(str, f)), at_most=8)
                raise InputError(f"layers={pattern!r} matches no layer: the network has {known}")
        f = OrderedDict(
            (layer, x)
            for layer, x in f.items()
            if self.layers is None or representations.matches(layer, self.layers)
        )
        found = OrderedDict(all=f)
        if self.mean:
            maps = [(layer, x) for layer, x in f.items() if x.ndim == self.map_axes]
            found["mean"] = OrderedDict((n, x.mean(axis=self.channel_axis)) for n, x in maps)
        return found


def _measured(
    features: Representations,
    images: Any,
    key: Key[Array, "..."],
    weights: Mapping[str, PyTree],
    shuffled: Iterable[Mapping[str, PyTree]],
    *,
    channels: Sequence[str],
    stack: Mapping[str, Sequence[Any]],
    **options: Any,
) -> xr.Dataset:
    """Measures networks as they are and with shuffled channels.

    Args:
        features: of the networks.
        images: as for `driver.measure`.
        key: as for `driver.measure`.
        weights: of the networks: the argument `network` or `networks` of `driver.measure`.
        shuffled: the same with channels in random orders, which are made one at a time.
        channels: which to return.
        stack: {dimension: names} of the stack of networks.
        **options: others of `driver.measure`.

    Returns:
        The fields of `Measurement`, [channels, *stack, layer], and, for shuffled channels, their
        spread [*stack, layer].
    """
    of_networks = partial(driver.measure, features, images, key, **options)
    found = of_networks(**weights)
    mixed = [of_networks(**of_order) for of_order in shuffled]
    layers = [name.removeprefix("all/") for name in found if name.startswith("all/")]
    shape = [len(names) for names in stack.values()]

    def values(one: Mapping[Any, Measurement | MapMeasurement], kind: str, name: str) -> np.ndarray:
        of_layers = [getattr(one.get(f"{kind}/{layer}"), name, np.nan) for layer in layers]
        by_layer = [np.broadcast_to(np.ravel(x), math.prod(shape)) for x in of_layers]
        return np.stack(by_layer, axis=-1).reshape(*shape, -1)

    fields = {}
    for name in found[f"all/{layers[0]}"]._fields:
        of_orders = [values(one, "all", name) for one in mixed]
        of_channels = {kind: values(found, kind, name) for kind in ("all", "mean")}
        if mixed:
            of_channels["shuffled"] = np.mean(of_orders, axis=0)
        fields[name] = (
            ("channels", *stack, "layer"),
            np.stack([of_channels[kind] for kind in channels]),
        )
        if mixed and name in Sensitivity._fields:
            one = len(mixed) == 1
            spread = np.full_like(of_orders[0], np.nan) if one else np.std(of_orders, 0, ddof=1)
            fields[f"{name}_spread"] = ((*stack, "layer"), spread)
    coords = {name: list(names) for name, names in stack.items()} | {
        "channels": list(channels),
        "layer": layers,
        "relative_depth": ("layer", np.arange(1, len(layers) + 1) / len(layers)),
    }
    return xr.Dataset(fields, coords)


def spectra(states: Mapping[str, Variables], seeds: Sequence[int]) -> xr.Dataset:
    """Computes the spatial frequency spectra of the filters of networks in several states.

    Args:
        states: {state: variables of S networks, with a leading axis [S]}.
        seeds: names of the S networks.

    Returns:
        spectrum [state, seed, conv, mode], γ_l of each convolution (Eq. 3); eigenvalue
        [conv, mode], λ_l, ascending; frequency_content [state, seed, conv], as in Fig. 12, NaN for
        1×1 filters. NaN for modes that smaller filters lack. Empty if the networks have no
        convolutions.
    """
    kernels = [jax.vmap(models.kernels)(v) for v in states.values()]
    sizes = {conv: w.shape[1] for conv, w in kernels[0].items()}
    if not sizes:
        return xr.Dataset()
    modes = max(sizes.values()) ** 2
    power = np.full((len(states), len(seeds), len(sizes), modes), np.nan)
    eigenvalues = np.full((len(sizes), modes), np.nan)
    content = np.full((len(states), len(seeds), len(sizes)), np.nan)
    for n, (conv, F) in enumerate(sizes.items()):
        eigenvalues[n, : F**2] = filters.laplacian_modes(F)[0]
        for state, of_state in enumerate(kernels):
            power[state, :, n, : F**2] = jax.vmap(filters.spectrum)(of_state[conv])
            if F > 1:
                content[state, :, n] = jax.vmap(filters.frequency_content)(of_state[conv])
    return xr.Dataset(
        {
            "spectrum": (("state", "seed", "conv", "mode"), power),
            "eigenvalue": (("conv", "mode"), eigenvalues),
            "frequency_content": (("state", "seed", "conv"), content),
        },
        coords={"state": list(states), "seed": list(seeds), "conv": list(sizes)},
    )
