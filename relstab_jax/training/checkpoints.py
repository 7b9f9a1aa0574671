"""Checkpoints of a run, by Orbax: written beside the run, atomic, the newest two kept."""

import logging
import pathlib

import orbax.checkpoint as ocp
from jaxtyping import PyTree

_log = logging.getLogger(__name__)


class Checkpoints:
    """The checkpoints in `folder`, one for each step at which the run saved."""

    def __init__(self, folder: pathlib.Path):
        options = ocp.CheckpointManagerOptions(max_to_keep=2, cleanup_tmp_directories=True)
        self._manager = ocp.CheckpointManager(folder.absolute(), options=options)

    def save(self, step: int, state: PyTree) -> None:
        """Saves `state`, a pytree of arrays, in the background."""
        self._manager.save(step, args=ocp.args.StandardSave(state))

    def restore(self, like: PyTree) -> tuple[int, PyTree] | None:
        """Returns the newest good checkpoint as (step, state), or None where there is none.

        A damaged checkpoint is reported and removed, and the one before it is used.

        Args:
            like: a pytree with the structure, shapes, types and shardings of the state.
        """
        for step in sorted(self._manager.all_steps(), reverse=True):
            try:
                return step, self._manager.restore(step, args=ocp.args.StandardRestore(like))
            except Exception as error:  # Orbax raises whatever its storage layers raise
                _log.warning(
                    "The checkpoint of step %d is damaged (%s); falling back to the one before it.",
                    step,
                    str(error).partition("\n")[0][:200],
                )
                self._manager.delete(step)
        return None

    def close(self) -> None:
        """Waits until everything is written."""
        self._manager.wait_until_finished()
        self._manager.close()
