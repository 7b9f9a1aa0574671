"""Computes the exact theory of both tasks of Section 4, in seconds and without training."""

import pathlib
from typing import Any

import numpy as np
import xarray as xr

from relstab_jax.config import Config
from relstab_jax.errors import InputError
from relstab_jax.fields import check as check_fields
from relstab_jax.fields import choice, flattened, positive, real, several, whole
from relstab_jax.theory import diffusion, homogeneous

TASKS = ("task1", "task2")
FIG_6 = ("stride_1", "stride_F")
GEOMETRY = {
    "size": whole(2, 1024),
    "filter_size": whole(1, 1024),
    "stride": whole(1, 1024),
    "depth": whole(1, 1024),
}
GROUPS = {
    "task1": GEOMETRY | {"xi": whole(), "gap": whole(0), "boundary": choice("wrap", "clamp")},
    "task2": GEOMETRY | {"xi": whole(), "gap": whole(0)},
    "walk": {"filter_sizes": several(whole(2, 1024)), "depth": whole(1, 1024)},
    "stride_1": GEOMETRY | {"active": several(whole(0))},
    "stride_F": GEOMETRY | {"active": several(whole(0))},
}
FIELDS = {"sigmas": several(positive()), "biases": several(real(-1e38))} | flattened(GROUPS)
MEASUREMENT = ()  # fields that may change for a run that has been trained


def check(config: Config) -> None:
    """Checks a configuration.

    Raises:
        InputError: if a field is out of range, or fields contradict each other.
    """
    check_fields(config, FIELDS)
    for task in TASKS:
        homogeneous.sensitivities(task, **config[task].to_dict())
    for name in FIG_6:
        c = config[name]
        diffusion.receptive_field(**geometry(c))
        if len(c.active) != 2 or max(c.active) >= c.size:
            raise InputError(f"{name}.active={c.active} must be two pixels below size={c.size}")


def run(config: Config, workdir: pathlib.Path) -> xr.Dataset:
    """Computes exact sensitivities, laws and Proposition A.1. Writes nothing into `workdir`.

    Returns:
        D [task, layer], G and R [task, noise, layer] and G_with_bias [task, sigma, bias, layer],
        NaN beyond the last layer of a network and where a constant representation has none;
        receptive_field, the A_k of the laws, receptive_field_std and receptive_field_support
        [task, layer]; exponent_D, exponent_G [task] and scaling_holds [task, layer] of the laws;
        gaussian_coefficient, gaussian_drift [source, filter_size] and gaussian_error
        [source, filter_size, steps] of Proposition A.1, corrected ("exact") and as printed;
        representation [network, active, depth, pixel] of each active pixel of Fig. 6, the input at
        depth 0, and representation_std and representation_support [network].
    """
    del workdir
    tasks = side_by_side("task", {task: of_task(task, config) for task in TASKS})
    fig_6 = side_by_side("network", {name: representations(config[name]) for name in FIG_6})
    tasks = tasks.assign_coords(layer=[f"conv{k}" for k in tasks.layer.values])
    return xr.merge([tasks, random_walks(config.walk), fig_6])


def side_by_side(dim: str, parts: dict[Any, xr.Dataset]) -> xr.Dataset:
    """Stacks datasets {coordinate: dataset} along a new dimension, padding shorter ones."""
    nothing = {"scaling_holds": False, "receptive_field_support": 0}
    index = xr.Variable(dim, list(parts))
    return xr.concat(list(parts.values()), index, join="outer", fill_value=nothing)


def geometry(c: Config) -> dict[str, int]:
    """Returns the fields that define a homogeneous network."""
    return {name: c[name] for name in GEOMETRY}


def of_task(task: str, config: Config) -> xr.Dataset:
    """Returns the sensitivities, receptive fields and laws of one task."""
    fields = config[task].to_dict()
    by_noise = [
        homogeneous.sensitivities(task, **fields, rectified=rectified)
        for rectified in (True, False)
    ]
    no_boundary = {name: value for name, value in fields.items() if name != "boundary"}
    with_bias = homogeneous.noise_sensitivity(
        task, **no_boundary, sigmas=config.sigmas, biases=config.biases
    )
    field = diffusion.receptive_field(**geometry(config[task]))
    laws = diffusion.scaling_laws(xi=fields["xi"], **geometry(config[task]))
    return xr.Dataset(
        {
            "D": ("layer", by_noise[0].D),
            "G": (("noise", "layer"), np.stack([s.G for s in by_noise])),
            "R": (("noise", "layer"), np.stack([s.R for s in by_noise])),
            "G_with_bias": (("sigma", "bias", "layer"), with_bias),
            "receptive_field": ("layer", laws.A),
            "receptive_field_std": ("layer", field.std),
            "receptive_field_support": ("layer", field.support),
            "exponent_D": laws.D,
            "exponent_G": laws.G,
            "scaling_holds": ("layer", laws.holds),
        },
        coords={
            "noise": ["rectified", "unrectified"],
            "sigma": list(config.sigmas),
            "bias": list(config.biases),
            "layer": np.arange(1, fields["depth"] + 1),
        },
    )


def random_walks(walk: Config) -> xr.Dataset:
    """Returns M^k δ_i beside the Gaussians of Proposition A.1, corrected and as printed."""
    sources = {"exact": diffusion.diffusion, "paper": diffusion.diffusion_in_paper}

    def of_filter(source: str, F: int) -> xr.Dataset:
        gaussian = sources[source](F)
        error = diffusion.gaussian_error(gaussian, filter_size=F, depth=walk.depth)
        return xr.Dataset(
            {
                "gaussian_coefficient": gaussian.coefficient,
                "gaussian_drift": gaussian.drift,
                "gaussian_error": ("steps", error),
            },
            coords={"steps": np.arange(1, walk.depth + 1)},
        )

    def of_source(source: str) -> xr.Dataset:
        return side_by_side("filter_size", {F: of_filter(source, F) for F in walk.filter_sizes})

    return side_by_side("source", {source: of_source(source) for source in sources})


def representations(network: Config) -> xr.Dataset:
    """Returns the representations of single active pixels, of value 1, at every layer (Fig. 6)."""
    pixels = np.eye(network.size)[list(network.active)]
    f = homogeneous.representations(
        pixels, filter_size=network.filter_size, stride=network.stride, depth=network.depth
    )
    padded = np.full((len(pixels), network.depth + 1, network.size), np.nan)
    for k, f_k in enumerate([pixels, *f]):
        padded[:, k, : f_k.shape[1]] = f_k
    field = diffusion.receptive_field(**geometry(network))
    return xr.Dataset(
        {
            "representation": (("active", "depth", "pixel"), padded),
            "representation_std": field.std[-1],
            "representation_support": field.support[-1],
        },
        coords={"depth": np.arange(network.depth + 1), "pixel": np.arange(network.size)},
    )
