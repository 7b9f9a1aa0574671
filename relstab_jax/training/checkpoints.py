"""What a training saves by Orbax: checkpoints to go on from, and networks to measure later."""

import errno
import os
import pathlib
import shutil
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from jax.tree_util import keystr, tree_flatten_with_path
from jaxtyping import PyTree

from relstab_jax.errors import InputError, reading, reporting_full_disk, shown, some, writing
from relstab_jax.messages import log
from relstab_jax.models import Variables

_OVERHEAD_BYTES = 2**20  # of a checkpoint, besides its arrays


class Checkpoints:
    """The checkpoints in `folder`, each named by its step; the newest two are kept."""

    def __init__(self, folder: pathlib.Path):
        self._folder = folder.absolute()
        options = ocp.CheckpointManagerOptions(max_to_keep=2, cleanup_tmp_directories=True)
        self._manager = ocp.CheckpointManager(self._folder, options=options)

    def save(self, step: int, state: PyTree) -> None:
        """Saves a pytree of NumPy arrays, [seeds, ...], in the background.

        Raises:
            WriteError: if the disk has no room for it, or was full when the one before was written.
        """
        _check_room(self._folder, state)
        with reporting_full_disk(self._folder):
            self._manager.save(step, args=ocp.args.StandardSave(state))

    def restore(self, like: PyTree) -> tuple[int, PyTree] | None:
        """Returns the newest good checkpoint as (step, state), or None if there is none.

        Reports and deletes a damaged checkpoint, and falls back to the one before it.

        Args:
            like: a pytree with the structure, shapes and types of the state.

        Raises:
            InputError: if a checkpoint holds other arrays; it is left as it is.
        """
        for step in sorted(self._manager.all_steps(), reverse=True):
            try:
                saved = self._manager.restore(step, args=ocp.args.StandardRestore())
            except Exception as error:  # Orbax raises whatever its storage layers raise
                log.warning(
                    "The checkpoint of step %d is damaged (%s); falling back to the one before it.",
                    step,
                    str(error).partition("\n")[0][:200],
                )
                self._manager.delete(step)
                continue
            return step, _arranged(like, saved, self._folder / str(step))
        return None

    def close(self) -> None:
        """Waits until all checkpoints are written.

        Raises:
            WriteError: if the disk is full.
        """
        with reporting_full_disk(self._folder):
            self._manager.close()


class Snapshots:
    """The networks after some epochs of a training, in the folder `snapshots/` of its run.

    Args:
        workdir: the folder of the run.
        epochs: the epochs, ascending; 0 is the initialisation.
    """

    def __init__(self, workdir: pathlib.Path, epochs: Sequence[int]):
        self._folder, self.epochs = (workdir / "snapshots").absolute(), tuple(epochs)

    def read(self, epoch: int, like: Variables) -> Variables:
        """Returns the networks of an epoch, NumPy arrays [seeds, ...].

        Args:
            epoch: one of `epochs`.
            like: networks with the same structure, shapes and types.

        Raises:
            InputError: if they cannot be read, or hold other arrays.
        """
        folder = self._folder / str(epoch)
        advice = "delete the folder of the run to train again"
        with reading(folder, "networks", advice), ocp.StandardCheckpointer() as checkpointer:
            saved = jax.tree.map(np.asarray, checkpointer.restore(folder))
        return _arranged(like, saved, folder)

    def save(self, epoch: int, variables: Variables) -> None:
        """Writes networks [seeds, ...], whole or not at all, before it returns.

        Raises:
            WriteError: if the disk has no room for them.
        """
        _check_room(self._folder.parent, variables)
        with reporting_full_disk(self._folder), ocp.StandardCheckpointer() as checkpointer:
            checkpointer.save(self._folder / str(epoch), variables, force=True)


def check_epochs(epochs: Sequence[int], last: int, name_of_last: str) -> None:
    """Checks the field `measure_at`.

    Args:
        epochs: its value, whole numbers, all different.
        last: the last epoch of the training.
        name_of_last: the field that holds it.

    Raises:
        InputError: if the epochs do not ascend or go beyond the last.
    """
    given = f"measure_at={shown(tuple(epochs))}"
    if list(epochs) != sorted(epochs):
        raise InputError(f"{given} must ascend: give its epochs in order")
    if epochs and epochs[-1] > last:
        raise InputError(f"{given} goes beyond the last epoch: give at most {name_of_last}={last}")


def read_variables(folder: pathlib.Path) -> Variables:
    """Reads trained networks as variables with a leading seed axis.

    Args:
        folder: of a run of this program, for its networks of the best epoch; or an Orbax checkpoint
            of the variables of one network, {"params": …, "batch_stats": …}.

    Raises:
        InputError: if the folder holds neither.
    """
    advice = "give a run that has trained networks, or a checkpoint of their variables"
    with reading(folder, "a run or a checkpoint", advice):
        if (folder / "checkpoints").is_dir():
            with ocp.CheckpointManager((folder / "checkpoints").absolute()) as manager:
                stack = manager.restore(manager.latest_step(), args=ocp.args.StandardRestore())
            stack = stack["best"]
        else:
            with ocp.StandardCheckpointer() as checkpointer:
                one = checkpointer.restore(folder.absolute())
            stack = jax.tree.map(lambda x: np.asarray(x)[None], one)
        variables = {part: stack[part] for part in ("params", "batch_stats") if part in stack}
        if "params" not in variables:
            raise InputError(f"the checkpoint {folder} holds {some(stack)}, but no params")
        return jax.tree.map(lambda x: np.asarray(x, np.float32), variables)


def _arranged(like: PyTree, saved: PyTree, place: pathlib.Path) -> PyTree:
    """Returns saved arrays in the structure of `like`.

    Raises:
        InputError: if there are others, or they have other shapes or types.
    """
    wanted, found = _by_path(like), _by_path(saved)
    paths = wanted | found
    if other := [path for path in paths if _layout(wanted.get(path)) != _layout(found.get(path))]:
        raise InputError(
            f"the checkpoint {place} is of another version of this program, which differs in "
            f"{some(other)}: go on with that version, or delete the folder of the run to train "
            "again"
        )
    return jax.tree.unflatten(jax.tree.structure(like), map(found.get, wanted))


def _by_path(tree: PyTree) -> dict[str, Any]:
    """Returns the arrays of a tree by their paths, in the order of its leaves."""
    leaves, _ = tree_flatten_with_path(tree)
    return {keystr(path, simple=True, separator="."): leaf for path, leaf in leaves}


def _layout(array: Any) -> tuple[Any, Any] | None:
    """Returns the shape and type of an array, or None where there is none."""
    return None if array is None else (array.shape, array.dtype)


def _check_room(folder: pathlib.Path, tree: PyTree) -> None:
    """Raises a WriteError if the disk of a folder has no room for a checkpoint of arrays."""
    needed = sum(leaf.nbytes for leaf in jax.tree.leaves(tree)) + _OVERHEAD_BYTES
    with writing(folder):
        if shutil.disk_usage(folder).free < needed:
            full = os.strerror(errno.ENOSPC)
            raise OSError(errno.ENOSPC, f"{full}: it takes {needed / 2**20:.0f} MiB")
