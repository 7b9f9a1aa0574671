"""Networks that a training keeps at chosen epochs, to be measured after its end."""

import pathlib
from collections.abc import Sequence

import jax
import numpy as np
import orbax.checkpoint as ocp

from relstab_jax.errors import InputError, reading, reporting_full_disk, shown
from relstab_jax.models import Variables
from relstab_jax.training.checkpoints import check_room


class Snapshots:
    """The networks after some epochs of a training, in the folder `snapshots/` of its run.

    Args:
        workdir: the folder of the run.
        epochs: the epochs, ascending; 0 is the initialisation.
    """

    def __init__(self, workdir: pathlib.Path, epochs: Sequence[int]):
        self._folder, self.epochs = (workdir / "snapshots").absolute(), tuple(epochs)

    def read(self, epoch: int) -> Variables:
        """Returns the networks of an epoch, NumPy arrays [seeds, ...].

        Raises:
            InputError: if they cannot be read.
        """
        folder = self._folder / str(epoch)
        advice = "delete the folder of the run to train again"
        with reading(folder, "networks", advice), ocp.StandardCheckpointer() as checkpointer:
            return jax.tree.map(np.asarray, checkpointer.restore(folder))

    def save(self, epoch: int, variables: Variables) -> None:
        """Writes networks [seeds, ...], whole or not at all, before it returns.

        Raises:
            WriteError: if the disk has no room for them.
        """
        check_room(self._folder.parent, variables)
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
