"""Training of many seeds at once: one compiled call, the seed axis sharded over the devices.

Gradient descent on a hinge loss and a ridge. A step whose batch has no margin below 1 only
multiplies the filters by `decay`. So the variables stay as the last step that learned left them,
and the decay since then is a factor in the forward pass: nothing is computed for a step that learns
nothing, and leaving it out changes no bit. `LookAhead` finds the steps that may learn.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import NamedSharding
from jaxtyping import Array, Float, Int, Key

from relstab_jax.models import Variables
from relstab_jax.training import losses
from relstab_jax.training.devices import collected, map_seeds
from relstab_jax.training.look_ahead import LookAhead
from relstab_jax.training.loop import Training
from relstab_jax.training.report import Display
from relstab_jax.training.sweep_state import (
    Data,
    Descent,
    Metrics,
    Network,
    StoppingRule,
    TrainState,
)

# Without it XLA copies all parameters in every step, before it updates them.
UPDATE_IN_PLACE = {"xla_cpu_copy_insertion_use_region_analysis": True}


def compile_sweep(
    network: Network, descent: Descent, rule: StoppingRule, sharding: NamedSharding
) -> Training:
    """Compiles the training of a stack of networks by stochastic gradient descent.

    It leaves seeds that have stopped as they are.

    Args:
        network: the network.
        descent: what a step does.
        rule: when a seed stops.
        sharding: of the seed axis.
    """
    train_points, steps_per_epoch = descent.train_points, descent.steps_per_epoch
    ahead = LookAhead(network, descent)
    on_cpus = all(device.platform == "cpu" for device in sharding.device_set)

    def start(key: Key[Array, ""]) -> TrainState:
        none = jnp.zeros((), jnp.int32)
        return TrainState(
            network.init(key),
            since=none,
            gap=none,
            margins=jnp.zeros((3, train_points)),
            seen=none - 1,
            order=jnp.arange(train_points),
            loss=jnp.zeros(()),
            computed=none,
            unforeseen=none,
            interpolation_epoch=none,
            epochs=none,
            diverged=jnp.zeros((), bool),
        )

    def train_step(state: TrainState, data: Data, step: Int[Array, ""]) -> TrainState:
        batch = lax.dynamic_slice_in_dim(
            state.order, step % steps_per_epoch * descent.batch_size, descent.batch_size
        )
        decay = descent.decay_after(step - state.since)

        def hinge(variables: Variables) -> tuple[Float[Array, ""], Float[Array, " B"]]:
            outputs = network.outputs(variables, decay, data.inputs[batch])
            labels = data.labels[batch]
            return losses.hinge(outputs, labels).mean(), losses.margins(outputs, labels)

        (loss, margins), gradient = jax.value_and_grad(hinge, has_aux=True)(state.variables)
        learned = ~(loss == 0)
        variables = jax.tree.map(
            lambda old, w, g: jnp.where(learned, w - descent.rate * g, old),
            state.variables,
            network.shrunk(state.variables, decay * descent.decay),
            network.shrunk(gradient, 1 / decay),  # by the filters as they are now
        )
        return state._replace(
            variables=variables,
            since=jnp.where(learned, step + 1, state.since),
            gap=jnp.where(learned, step - state.since, state.gap),
            loss=state.loss + loss / steps_per_epoch,
            computed=state.computed + 1,
            unforeseen=state.unforeseen + ahead.unforeseen(state, batch, margins, step),
        )

    def advance(
        state: TrainState, data: Data, step: Int[Array, ""], until: Int[Array, ""]
    ) -> TrainState:
        step = step.astype(state.since.dtype)
        training = (state.epochs == 0) & ~data.padding
        until = jnp.where(training, until.astype(step.dtype), step)

        def compute(carry: tuple[TrainState, Array]) -> tuple[TrainState, Array]:
            state, step = carry
            return ahead.next_step(train_step(state, data, step), data, step + 1, until)

        return lax.while_loop(
            lambda carry: carry[1] < until, compute, ahead.next_step(state, data, step, until)
        )[0]

    def look(
        state: TrainState, data: Data, epoch: Int[Array, ""]
    ) -> tuple[dict[str, Array], Metrics]:
        """Returns the fields that a look changes: the others, the weights, need not be copied."""
        training = state.epochs == 0
        epoch = jnp.where(training, epoch.astype(state.epochs.dtype), state.epochs)
        step = epoch * steps_per_epoch
        points, labels = data.validation
        decay = descent.decay_after(step - state.since)
        outputs = network.outputs_at(state.variables, decay[None], points)[0]
        error = losses.error(outputs, labels).mean()
        interpolates = state.loss == 0
        first = interpolates & (state.interpolation_epoch == 0)
        interpolation = jnp.where(first, epoch, state.interpolation_epoch)
        margins = ahead.margins(state, data, step[None])[0]
        found = ahead.unforeseen(state, jnp.arange(train_points), margins, step)
        # Where no ReLU of a layer is active, its filters have no gradient any more.
        outputs = data.labels.astype(margins.dtype) * margins
        dead = jnp.ptp(outputs) <= 32 * jnp.finfo(outputs.dtype).eps * abs(outputs).max()
        leaves = jax.tree.leaves((state.loss, state.variables))
        finite = jnp.stack([jnp.isfinite(leaf).all() for leaf in leaves]).all()
        diverged = state.diverged | dead | ~finite
        solved = interpolates & (error == 0) & (epoch >= rule.patience * interpolation)
        stop = data.padding | diverged | solved | (epoch >= rule.max_epochs)
        changed = {
            "unforeseen": state.unforeseen + jnp.where(training, found, 0),
            "interpolation_epoch": interpolation,
            "epochs": jnp.where(stop, epoch, state.epochs),
            "diverged": diverged,
        }
        state = state._replace(**changed)
        return changed, Metrics(
            state.loss,
            error,
            state.interpolation_epoch,
            state.computed,
            state.unforeseen,
            state.epochs > 0,
            state.diverged,
        )

    looks = map_seeds(look, sharding, of_seed=2)

    def look_at_all(state: TrainState, data: Data, epoch: int) -> tuple[TrainState, Metrics]:
        changed, metrics = looks(state, data, epoch)
        return state._replace(**changed), metrics

    def variables(state: TrainState, step: Int[Array, ""]) -> Variables:
        stopped = state.epochs * steps_per_epoch
        last = jnp.where(state.epochs > 0, stopped, step.astype(stopped.dtype))
        return network.shrunk(state.variables, descent.decay_after(last - state.since))

    return Training(
        start=map_seeds(start, sharding),
        advance=map_seeds(
            advance,
            sharding,
            of_seed=2,
            donate_argnums=0,
            compiler_options=UPDATE_IN_PLACE if on_cpus else None,
        ),
        variables=map_seeds(variables, sharding),
        look=look_at_all,
        ended=lambda state, _: bool((collected(state.epochs) > 0).all()),
        steps_per_epoch=steps_per_epoch,
        look_every=rule.look_every,
        sharding=sharding,
        display=_display(rule, steps_per_epoch),
        halts_on_divergence=False,
    )


def _display(rule: StoppingRule, steps_per_epoch: int) -> Display:
    def end(metrics: Metrics | None, epoch: int) -> tuple[int, bool]:
        """The last stop that the rule still allows, known once every seed has interpolated."""
        if metrics is None:
            return rule.max_epochs, False
        e, stopped = metrics.interpolation_epoch, metrics.stopped
        ends = np.where(e > 0, np.maximum(rule.patience * e, epoch), rule.max_epochs)
        last = ends[~stopped].max(initial=0) or epoch
        return min(int(last), rule.max_epochs), bool((stopped | (e > 0)).all())

    def line(metrics: Any, epoch: int) -> str:
        good = ~metrics.diverged
        loss = f"{metrics.train_loss.mean(where=good):.2e}" if good.any() else "—"
        errors = " ".join(f"{error:.3f}" for error in metrics.validation_error)
        computed = metrics.computed_steps.mean() / (epoch * steps_per_epoch)
        text = (
            f"training loss {loss}  validation error by seed {errors}  "
            f"computed {computed:.1%} of the steps  "
            f"stopped {metrics.stopped.sum()}/{len(metrics.stopped)}"
        )
        if metrics.unforeseen.any():
            text += (
                f"  {metrics.unforeseen.sum()} margins were lower than foreseen: compare with "
                "--config.look_ahead=False"
            )
        if metrics.diverged.any():
            text += f"  diverged {metrics.diverged.sum()}"
        return text

    return Display(
        end,
        line,
        until_known="few steps are computed once every seed has interpolated, and from then on "
        "lines say how long it will take",
    )
