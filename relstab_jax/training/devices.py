"""The devices of a training, and how its states, arrays with a leading seed axis, lie on them."""

import functools
import math
import os
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax import lax
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec


def one_device_per_core() -> None:
    """Makes every core of a CPU a device, so that small networks train side by side.

    Call it before JAX is first used. It has no effect on other devices, or where
    JAX_NUM_CPU_DEVICES is set. Where JAX_PLATFORMS names other platforms alone, it adds the CPU,
    for `on_cpu`.
    """
    platforms = jax.config.jax_platforms  # pyright: ignore[reportAttributeAccessIssue]
    if platforms and "cpu" not in platforms.split(","):
        jax.config.update("jax_platforms", f"{platforms},cpu")
    if jax.config.jax_num_cpu_devices < 0:  # pyright: ignore[reportAttributeAccessIssue]
        cores = getattr(os, "process_cpu_count", os.cpu_count)()  # those of the process, if known
        jax.config.update("jax_num_cpu_devices", cores or 1)


def data_parallel_devices() -> list[Any]:
    """Returns the devices that share a batch: on CPUs one per process, elsewhere all.

    The devices of a CPU are its cores, and one device computes on all of them.
    """
    if jax.default_backend() == "cpu":
        return [jax.local_devices(process)[0] for process in range(jax.process_count())]
    return jax.devices()


def on_cpu(function: Callable[..., Any]) -> Callable[..., Any]:
    """Makes a function of arrays compute on the CPU of this process and return NumPy arrays.

    For orders of many examples, which do not depend on the device: a TPU takes long to compile the
    sort of tens of thousands of numbers.
    """

    @functools.wraps(function)
    def computed(*arguments: Any) -> Any:
        cpu = jax.local_devices(backend="cpu")[0]
        with jax.default_device(cpu):
            return jax.tree.map(np.asarray, function(*jax.device_put(arguments, cpu)))

    return computed


def replicated(devices: Sequence[Any]) -> NamedSharding:
    """Returns the sharding that puts whole arrays on each of `devices` that this process has."""
    own = [device for device in devices if device.process_index == jax.process_index()]
    return NamedSharding(Mesh(np.array(own), ("batch",)), PartitionSpec())


def seed_sharding(seeds: int) -> NamedSharding:
    """Shards seeds evenly over all devices.

    On CPUs, whose cores share their memory, it uses the fewest devices that keep the number of
    seeds on each as low as it can be, the same number from every process. Elsewhere it uses all:
    large TPU slices refuse programs that leave out some devices.
    """
    devices = np.array(sorted(jax.devices(), key=lambda d: d.process_index))
    if jax.default_backend() == "cpu":
        devices = devices.reshape(jax.process_count(), -1)
        per_device = -(-seeds // devices.size)
        devices = devices[:, : -(-seeds // (per_device * len(devices)))].ravel()
    return NamedSharding(Mesh(devices, ("seed",)), PartitionSpec("seed"))


def collected(tree: Any, seeds: int | None = None) -> Any:
    """Copies arrays over seeds from all processes into NumPy arrays [seeds, ...].

    Args:
        tree: of arrays with a leading seed axis.
        seeds: how many to keep: the others only pad the seed axis. All of them for None.
    """

    def copied(a: jax.Array) -> np.ndarray:
        if not a.is_fully_addressable:
            a = multihost_utils.process_allgather(a, tiled=True)
        return np.array(np.asarray(a)[:seeds])  # not a view, which would prevent a later donation

    return jax.tree.map(copied, tree)


def share_of_process(seeds: int) -> np.ndarray:
    """Returns the seeds of this process if all share them evenly; the last seed pads the shares."""
    share = math.ceil(seeds / jax.process_count())
    first = share * jax.process_index()
    return np.arange(first, first + share).clip(max=seeds - 1)


def gathered(shares: Any, seeds: int) -> Any:
    """Gathers arrays [share, ...] of all processes, by `share_of_process`, as [seeds, ...]."""
    return jax.tree.map(lambda a: a[:seeds], multihost_utils.process_allgather(shares, tiled=True))


def on_devices(tree: Any, length: int, sharding: NamedSharding) -> Any:
    """Puts NumPy arrays [seeds, ...] on devices; repeats the last seed up to `length` seeds."""
    rows = np.arange(length)
    return jax.device_put(jax.tree.map(lambda a: a[rows.clip(max=len(a) - 1)], tree), sharding)


def map_seeds(
    function: Callable[..., Any], sharding: NamedSharding, of_seed: int = 1, **options: Any
) -> Callable[..., Any]:
    """Compiles a function of one seed into one of all, which each device takes in turn.

    Each seed runs at its own pace, and none depends on its neighbours.

    Args:
        function: of one seed.
        sharding: of the seed axis.
        of_seed: how many of the first arguments have a leading seed axis, as the results do; the
            others are the same for all seeds.
        options: of `jax.jit`.
    """

    def on_device(*arguments: Any) -> Any:
        return lax.map(lambda mine: function(*mine, *arguments[of_seed:]), arguments[:of_seed])

    @functools.wraps(function)
    def of_all(*arguments: Any) -> Any:
        specs = (sharding.spec,) * of_seed + (PartitionSpec(),) * (len(arguments) - of_seed)
        return jax.shard_map(
            on_device, mesh=sharding.mesh, in_specs=specs, out_specs=sharding.spec, check_vma=False
        )(*arguments)

    return jax.jit(of_all, out_shardings=sharding, **options)
