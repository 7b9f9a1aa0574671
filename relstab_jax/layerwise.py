"""Measures D, G, R and filter spectra of every layer of networks, as datasets."""

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
import xarray as xr
from jaxtyping import Array, Key, PyTree

from relstab_jax import models
from relstab_jax.keys import key_of
from relstab_jax.measures import driver, filters
from relstab_jax.measures.sensitivity import Measurement, Sensitivity
from relstab_jax.models import Model, Variables

CHANNELS = ("all", "mean", "shuffled")
OUTPUT = "output"  # name of the predictor among the layers


def measure(
    network: Callable[..., PyTree], images: Any, key: int | Key[Array, "..."], **options: Any
) -> xr.Dataset:
    """Measures D, G and R (Eq. 1) of every representation of a network.

    Args:
        network: images [b, ...] -> {layer: f [b, ...]}, or any other pytree of representations.
        images: P of them, [P, size, size, channels] by default.
        key: root of the randomness, a seed or a key.
        **options: of `relstab_jax.measures.driver.measure`: perturbation, noise, copies,
            networks, paired, batch_size, progress.

    Returns:
        D, G, R and their standard errors D_error, G_error, R_error [layer]; [network, layer] for a
        stack of networks.

    Raises:
        InputError: as `relstab_jax.measures.driver.measure`.

    >>> import jax
    >>> images = jax.random.normal(jax.random.key(1), (4, 16, 16, 1))
    >>> found = measure(lambda x: {"square": x**2, "mean": x.mean(axis=(1, 2))}, images, key=0)
    >>> found.layer.values.tolist(), found.D.dims
    (['square', 'mean'], ('layer',))
    """
    key = jax.random.key(key) if isinstance(key, int) else key
    found = driver.measure(network, images, key, **options)
    dims = ("network", "layer") if options.get("networks") is not None else ("layer",)
    fields = {
        name: (dims, np.stack([getattr(layer, name) for layer in found.values()], axis=-1))
        for name in Measurement._fields
    }
    return xr.Dataset(fields, coords={"layer": [str(layer) for layer in found]})


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
    of_stack = partial(driver.measure, LayersAndMeans(model), images, key, paired=paired, **options)

    def shuffled(networks: Variables, permutation: int) -> Variables:
        keys = jax.vmap(lambda seed: key_of(shuffle_key, seed, permutation))(numbers)
        return jax.vmap(models.shuffled)(keys, networks)

    def of_state(networks: Variables) -> xr.Dataset:
        found = of_stack(networks=networks)
        # One permutation after the other: only one needs memory.
        mixed = [of_stack(networks=shuffled(networks, n)) for n in range(shuffles)]
        layers = [layer for channels, layer in found if channels == "all"]
        fields = {}
        for name in Measurement._fields:
            values = np.full((len(CHANNELS), len(seeds), len(layers)), np.nan)
            spread = np.full(values.shape[1:], np.nan)
            for channels, layer in found:
                at = layers.index(layer)
                plain, *others = (getattr(one[channels, layer], name) for one in (found, *mixed))
                values[CHANNELS.index(channels), :, at] = plain
                if channels == "all":
                    values[CHANNELS.index("shuffled"), :, at] = np.mean(others, axis=0)
                    if shuffles > 1:
                        spread[:, at] = np.std(others, axis=0, ddof=1)
            fields[name] = (("channels", "seed", "layer"), values)
            if name in Sensitivity._fields:
                fields[f"{name}_spread"] = (("seed", "layer"), spread)
        return xr.Dataset(fields, coords={"layer": layers})

    measured = xr.concat(map(of_state, states.values()), "state", join="exact")
    K = measured.sizes["layer"]
    return measured.assign_coords(
        state=list(states),
        channels=list(CHANNELS),
        seed=list(seeds),
        relative_depth=("layer", np.arange(1, K + 1) / K),
    )


def along_training(measured: Mapping[int, xr.Dataset]) -> xr.Dataset:
    """Joins what was measured after epochs of a training.

    Args:
        measured: {epoch: dataset}, all with the same variables and coordinates.

    Returns:
        D of the epochs as along_D [epoch, ...], and so on.
    """
    joined = xr.concat(measured.values(), "epoch", coords="minimal", compat="equals", join="exact")
    names = {name: f"along_{name}" for name in joined.data_vars}
    return joined.assign_coords(epoch=list(measured)).rename(names)


class LayersAndMeans(NamedTuple):
    """The layers of a network, ("all", layer), and the mean channels of maps, ("mean", layer).

    Equal ones, of the same model, share a compiled program.
    """

    model: Model

    def __call__(self, variables: Variables, images: Array) -> OrderedDict[tuple[str, str], Array]:
        """Returns the representations of images."""
        f = layers_of(self.model, variables, images)
        every = {("all", layer): x for layer, x in f.items()}
        return OrderedDict(
            every | {("mean", layer): x.mean(axis=-1) for layer, x in f.items() if x.ndim == 4}
        )


def layers_of(model: Model, variables: Variables, images: Array) -> OrderedDict[str, Array]:
    """Returns the representation of each layer and, last, the outputs of the network."""
    features = OrderedDict(model.features(variables, images))
    features[OUTPUT] = model.apply(variables, images)
    return features


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
