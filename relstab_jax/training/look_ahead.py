"""Finds the steps of a sweep that may learn, so that no other step is computed.

Where no margin of a batch is below 1, a step only multiplies the filters by `decay`. Until the next
step that learns, every margin is a smooth and slow function of the step alone: it is computed for
all training points at the first, the middle and the last of the next `ahead` steps, and bounded
from below between them (`lower_bound`). Steps whose bound is at most 1 are computed.

The bound holds for a margin that bends one way within the window. For one that bends both ways it
is lowered by a reserve, and checked afterwards: the margins of each computed batch, and of all
points at each look, are compared with their bounds, and those below are counted as unforeseen.
Where steps that learn follow close on each other, every step is computed instead.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from relstab_jax.training import losses
from relstab_jax.training.sweep_state import Data, Descent, Network, TrainState

WINDOW_COST = 3  # computed steps that cost about as much as margins at three instants


def bend(values: Float[Array, "3 *N"]) -> Float[Array, "*N"]:
    """Returns how far functions on [0, 1] lie from their chord at 1/2."""
    first, middle, last = values
    return abs(middle - (first + last) / 2)


def lower_bound(values: Float[Array, "3 *N"], time: Float[Array, "*#N"]) -> Float[Array, "*N"]:
    """Bounds a convex or concave function on [0, 1] from below, by its values at 0, 1/2 and 1.

    A concave function lies above the chords of both halves. A convex one lies at most twice its
    bend below them, because each half lies above the extended chord of the other.
    """
    first, middle, last = values
    left = first + 2 * time * (middle - first)
    right = middle + (2 * time - 1) * (last - middle)
    return jnp.where(time < 0.5, left, right) - 2 * bend(values)


@dataclasses.dataclass(frozen=True)
class LookAhead:
    """The search in the training of one seed; attributes as of `sweep.compile_sweep`."""

    network: Network
    descent: Descent

    def margins(
        self, state: TrainState, data: Data, steps: Int[Array, " T"]
    ) -> Float[Array, "T P"]:
        """Returns the margins of all training points at steps before the next that learns."""
        decay = self.descent.decay_after(steps - state.since)
        outputs = self.network.outputs_at(state.variables, decay, data.train)
        return jax.vmap(losses.margins, (0, None))(outputs, data.labels)

    def unforeseen(
        self,
        state: TrainState,
        points: Int[Array, " B"],
        margins: Float[Array, " B"],
        step: Int[Array, ""],
    ) -> Int[Array, ""]:
        """Counts the margins of points, computed at a step, that lie below their bound."""
        least = self._bound(state, points, step)
        below = margins < least - self.descent.rounding * abs(least)
        return jnp.sum(below & ~self._is_void(state, step), dtype=step.dtype)

    def next_step(
        self, state: TrainState, data: Data, step: Int[Array, ""], until: Int[Array, ""]
    ) -> tuple[TrainState, Int[Array, ""]]:
        """Returns the next step to compute, or `until`, with the state before it."""

        def search(carry: tuple[TrainState, Array, Array]) -> tuple[TrainState, Array, Array]:
            state, step, _ = carry
            return self._search(self._begin_epoch(state, data, step), data, step, until)

        state, step, _ = lax.while_loop(
            lambda carry: ~carry[2] & (carry[1] < until), search, (state, step, jnp.array(False))
        )
        return state, step

    def _begin_epoch(self, state: TrainState, data: Data, step: Int[Array, ""]) -> TrainState:
        """Draws the order of an epoch and resets its loss, at its first step."""
        epoch, within = jnp.divmod(step, self.descent.steps_per_epoch)
        order, loss = lax.cond(
            within == 0,
            lambda: (
                jax.random.permutation(jax.random.fold_in(data.key, epoch), len(state.order)),
                jnp.zeros_like(state.loss),
            ),
            lambda: (state.order, state.loss),
        )
        return state._replace(order=order, loss=loss)

    def _search(
        self, state: TrainState, data: Data, step: Int[Array, ""], until: Int[Array, ""]
    ) -> tuple[TrainState, Int[Array, ""], Bool[Array, ""]]:
        """Searches to the end of the epoch or of the window.

        Returns:
            The state, with margins foreseen anew where they were void; the step to compute or the
            end of the search; and whether it is the former.
        """
        ahead, steps_per_epoch = self.descent.ahead, self.descent.steps_per_epoch
        epoch = step // steps_per_epoch
        void = self._is_void(state, step)
        rare = jnp.maximum(state.gap, step - state.since) >= WINDOW_COST
        if ahead:
            window = np.array([0, ahead // 2, ahead], np.int32)
            seen, margins = lax.cond(
                void & rare,
                lambda: (step, self.margins(state, data, step + window)),
                lambda: (state.seen, state.margins),
            )
            state = state._replace(seen=seen, margins=margins)
        blind = void & ~rare if ahead else True
        steps = epoch * steps_per_epoch + jnp.arange(steps_per_epoch, dtype=step.dtype)
        batches = state.order.reshape(steps_per_epoch, -1)
        least = self._bound(state, batches, steps).min(axis=1)
        end = jnp.minimum((epoch + 1) * steps_per_epoch, until)
        end = jnp.where(blind, end, jnp.minimum(end, state.seen + ahead))
        may_learn = blind | ~(least > 1 + self.descent.rounding)
        candidates = may_learn & (steps >= step) & (steps < end)
        found = candidates.any()
        return state, jnp.where(found, steps[candidates.argmax()], end), found

    def _bound(
        self, state: TrainState, points: Int[Array, "*N B"], steps: Int[Array, "*N"]
    ) -> Float[Array, "*N B"]:
        time = (steps - state.seen).astype(state.margins.dtype)[..., None]
        time = time / max(self.descent.ahead, 1)
        # A margin that bends both ways may show no bend: the mean bend of all is subtracted too.
        return lower_bound(state.margins[:, points], time) - 2 * bend(state.margins).mean()

    def _is_void(self, state: TrainState, step: Int[Array, ""]) -> Bool[Array, ""]:
        return (state.seen < state.since) | (step >= state.seen + self.descent.ahead)
