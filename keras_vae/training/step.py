"""One training step, from a batch to its logs, and one evaluation step.

`TrainingStep` reads in the order in which a step runs: attempt, admit, apply, move, log.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import keras
import tensorflow as tf

from keras_vae.controllers import Step, StepHook
from keras_vae.core.hyperparameters import Steerable
from keras_vae.core.seeds import fold, purpose, seed_tensor
from keras_vae.terms import MEASURES, Terms
from keras_vae.training import losses, non_finite, optimization, optimizer_step
from keras_vae.training.data import checked_weights
from keras_vae.training.execution import Compiled
from keras_vae.training.files import UnsavedMean
from keras_vae.training.hooks import Hooks, weighted_means
from keras_vae.training.replicas import (
    after_all_replicas,
    global_batch_size,
    replica_id,
    sum_over_replicas,
)
from keras_vae.training.spikes import SkipSpikes


class Attempt(NamedTuple):
    """A training step that has not changed anything yet.

    Attributes:
        gradients: One for each trainable variable, None if its loss does not depend on it.
        measures: Values of the examples, each `[B]`.
        statistics: Sums over this batch from which the state of the model follows.
        weights: Weights of the examples, `[B]`; zeros once the step is left out.
        made: Ones, `[B]`; zeros once the step is left out.
        first_bad: Number of the first quantity that is not finite, or -1.
        calm: Whether no gradient is so large that an optimizer could turn it into an infinity.
        remembered: The model's state before the forward pass.
    """

    gradients: Sequence[Any]
    measures: Mapping[str, tf.Tensor]
    statistics: Mapping[str, tf.Tensor]
    weights: tf.Tensor
    made: tf.Tensor
    first_bad: tf.Tensor
    calm: tf.Tensor
    remembered: Sequence[tf.Tensor]


class Trainable(Protocol):
    """What a step asks of a model: first of `keras.Model`, then of `LatentVariableModel`."""

    optimizer: Any
    jit_compile: bool
    distribute_strategy: tf.distribute.Strategy
    trainable_variables: list[keras.Variable]
    non_trainable_variables: list[keras.Variable]
    losses: list[tf.Tensor]

    trainable_parts: dict[str, list[keras.Variable]]
    objective: Any
    measure_names: tuple[str, ...]
    seed: int
    jit_is_optional: bool
    is_alone: bool
    trained_batches: keras.Variable

    def _flatten_layers(self) -> Iterable[keras.layers.Layer]: ...

    def get_metrics_result(self) -> dict[str, Any]:
        """Returns the logs."""

    def standardize(self, x: Any, y: Any = None) -> tuple[tf.Tensor, Any]:
        """Turns data as users give it into tensors that have a density."""

    def check_support(self, x: tf.Tensor, y: Any = None) -> tuple[tf.Tensor, Any]:
        """Returns standardized data; using it raises if it has no density."""

    def compute_terms(
        self, x: tf.Tensor, num_samples: int, training: bool, seed: tf.Tensor, y: Any
    ) -> Terms:
        """Returns the log-densities of standardized data."""

    def state_updates(self, statistics: Mapping[str, tf.Tensor]) -> Iterable[tuple[Any, tf.Tensor]]:
        """Returns the new values of the state, given statistics of the batches of all replicas."""


class TrainingStep:
    """How one batch trains a model.

    On one device, XLA compiles the step as a whole. On replicas, which exchange gradients before
    they are applied, it compiles the attempt alone. If a hook observes the step, it compiles the
    attempt and the optimizer's step separately, because a hook may use any operation.

    Args:
        model: The `ObjectiveModel` that is trained.

    Attributes:
        hooks: What callbacks have attached to the step.
        policy: What happens when a quantity of the step is not finite.
        spikes: The policy that skips steps with too large a gradient, or None.
        means: The metrics, by name.
    """

    def __init__(self, model: Trainable):
        self._model = model
        self.hooks = Hooks()
        self.policy: non_finite.Raise = non_finite.Raise()
        self.spikes: SkipSpikes | None = None
        names = ("loss", *MEASURES, *model.measure_names, *model.objective.measure_names)
        self.means = {name: UnsavedMean(name=name) for name in names}
        self._run_step: Callable[..., Any] = self._make_step
        self._run_attempt: Callable[..., Any] = self._attempt
        self._run_optimizer: Callable[..., tf.Tensor] = self._apply_gradients
        self._run_test: Callable[..., Any] = self._test
        self._run_measure: Callable[..., Any] = self._measure

    # The whole step, in TensorFlow's graph: what may refuse data or raise stays out of XLA.

    def train(self, data: Any) -> dict[str, tf.Tensor]:
        """Trains on a batch `x`, `(x, y)` or `(x, y, sample_weight)`, and returns the logs."""
        x, y, weights = self._read(data)
        # Past the end of the data, or with data that are refused, nothing must change: not even
        # what does not depend on the data, such as the count of a batch of a known size.
        with tf.control_dependencies([x, weights]):
            number = tf.convert_to_tensor(self._model.optimizer.iterations)
            for hook in self._all_hooks():
                hook.before_step(number)
            batch_size, replica = global_batch_size(weights), tf.convert_to_tensor(replica_id())
            logs, first_bad = self._run_step(x, y, weights, batch_size, replica)
            # Not within the step, which is traced twice if XLA turns out not to compile it.
            for hook in self._all_hooks():
                hook.end_trace()
            return self._checked(logs, first_bad)

    def _make_step(self, *given: Any) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
        return self._advance(given, self._run_attempt(*given))

    # Attempt: one forward pass, a loss for each part of the model, gradients.

    def _attempt(
        self, x: tf.Tensor, y: Any, weights: tf.Tensor, batch_size: tf.Tensor, replica: tf.Tensor
    ) -> Attempt:
        model, remembered = self._model, [tf.identity(v) for v in self._floating_state()]
        with tf.GradientTape(persistent=bool(self._model.objective.loss_parts)) as tape:
            seed = self._seed("train", model.trained_batches, replica)
            terms = model.compute_terms(x, self._model.objective.num_samples, True, seed, y)
            loss, own_measures = self._model.objective.loss_and_measures(terms)
            parts = self._model.objective.loss_parts
            by_part = losses.by_part(loss, parts, terms.penalty)  # each [B]
            regularization = self._regularization(by_part[""].dtype)
            # Replicas add up their gradients, so each divides by what all of them hold.
            count = model.distribute_strategy.num_replicas_in_sync
            scaled = {
                part: model.optimizer.scale_loss(
                    tf.reduce_sum(weights * own) / batch_size + added / count
                )
                for part, own, added in self._with_own_losses(by_part, regularization)
            }
        gradients = losses.gradients(tape, scaled, model)
        measures = {
            "loss": weights * by_part[""] + regularization,
            **terms.measures,
            **own_measures,
        }
        calm = non_finite.are_calm(gradients)
        # Loss scaling makes gradients overflow on purpose, and skips those steps itself.
        judged_gradients = [] if self._scales_loss else gradients
        quantities = [*terms.quantities, *by_part.values()]
        first_bad = non_finite.first_bad_of(quantities, judged_gradients, calm)
        made, statistics = tf.ones_like(weights), terms.statistics
        judged = first_bad, calm, remembered
        return Attempt(gradients, measures, statistics, weights, made, *judged)

    # Admit, apply, move, log.

    def _advance(
        self, given: Sequence[Any], attempt: Attempt
    ) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
        x, y, *_ = given
        hooks, number = self._all_hooks(), tf.convert_to_tensor(self._model.optimizer.iterations)
        sums = self._sum_statistics(attempt.statistics)
        attempt, good = self._admit(attempt, sums)
        with tf.control_dependencies([x, number, attempt.made]):
            means, known = weighted_means(hooks, attempt.measures, attempt.weights)
            gates = [hook.gate(means) for hook in hooks]
            moves = optimization.moving_parts(self._model.optimizer, gates, known)
            shift = sum([hook.loss_shift(means) for hook in hooks], 0.0)
            self._observe(hooks, number, (x, y), attempt)
            attempt = self._apply(attempt, sums, good, moves)
            self._move(hooks, number, means, known)
        loss = attempt.measures["loss"] + attempt.weights * shift
        logs = self._log({**attempt.measures, "loss": loss}, attempt.weights, attempt.made)
        return logs, attempt.first_bad

    def _admit(self, attempt: Attempt, sums: Mapping[str, tf.Tensor]) -> tuple[Attempt, tf.Tensor]:
        """Returns the attempt, without weight if it is left out, and whether it is made.

        The answer is the same on every replica, even on one without data.
        """
        count = self._num_quantities()
        state_is_bad = non_finite.first_bad(list(sums.values())) >= 0
        state = tf.where(state_is_bad, count - 1, -1)
        first_bad = tf.where(attempt.first_bad < 0, state, attempt.first_bad)
        found = non_finite.agree(first_bad, attempt.calm, count)
        attempt = attempt._replace(first_bad=found.first_bad, calm=found.calm)
        good = self.policy.admit(attempt.first_bad)
        if self.spikes is not None:
            scale = optimization.loss_scale(self._model.optimizer)
            good = self.spikes.admit(attempt.gradients, attempt.calm, scale, good)
        return _without_weight_unless(good, attempt), good

    def _observe(
        self, hooks: Sequence[StepHook], number: tf.Tensor, data: tuple[Any, Any], attempt: Attempt
    ) -> None:
        seen = (
            attempt.weights,
            attempt.measures,
            attempt.gradients,
            optimization.loss_scale(self._model.optimizer),
        )
        for hook in hooks:
            hook.observe(Step(number, *data, *seen))

    def _apply(
        self,
        attempt: Attempt,
        sums: Mapping[str, tf.Tensor],
        good: tf.Tensor,
        moves: Mapping[str, tf.Tensor],
    ) -> Attempt:
        """Lets the optimizer make the step; if it is not made, it leaves no trace.

        The step is judged once more, by what the optimizer has written.
        """
        bad = self._run_optimizer(attempt.gradients, moves, good, attempt.calm)
        written = tf.where(bad < 0, bad, bad + self._num_quantities())
        good = self.policy.admit(written) & good
        for variable, before in zip(self._floating_state(), attempt.remembered, strict=True):
            variable.assign(tf.where(good, variable, before))
        # After the optimizer, which may change the same state: codes that start anew, for instance.
        made = good & attempt.calm if self._scales_loss else good
        for variable, value in self._model.state_updates(sums) if sums else ():
            variable.assign(tf.where(made, value, variable))
        first_bad = tf.where(attempt.first_bad < 0, written, attempt.first_bad)
        counts = first_bad < 0 if self.policy.raises else True
        self._model.trained_batches.assign_add(tf.cast(counts, tf.int64))
        restored = [tf.convert_to_tensor(variable) for variable in self._floating_state()]
        first_bad = optimizer_step.after(restored, first_bad)
        return _without_weight_unless(good, attempt._replace(first_bad=first_bad))

    def _sum_statistics(self, statistics: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Returns the statistics of the batches of all replicas."""
        names = sorted(statistics)  # Every replica must reduce in the same order.
        sums = sum_over_replicas([statistics[name] for name in names]) if names else []
        return dict(zip(names, sums, strict=True))

    def _apply_gradients(
        self,
        gradients: Sequence[Any],
        moves: Mapping[str, tf.Tensor],
        good: tf.Tensor,
        calm: tf.Tensor,
    ) -> tf.Tensor:
        model = self._model
        given = model.optimizer, gradients, model.trainable_variables, moves
        return optimizer_step.apply_if_finite(*given, good, calm)

    def _move(
        self,
        hooks: Sequence[StepHook],
        number: tf.Tensor,
        means: Mapping[str, tf.Tensor],
        known: tf.Tensor,
    ) -> None:
        """Updates what the hooks steer in a closed loop, if the optimizer made its step."""
        # It did not if gradients are still accumulating, or overflowed under loss scaling.
        stepped = known & (self._model.optimizer.iterations > number)
        updates = [pair for hook in hooks for pair in hook.after_step(number, means)]
        for variable, value in updates:
            variable.assign(tf.where(stepped, value, variable))

    def _log(
        self, measures: Mapping[str, tf.Tensor], weights: tf.Tensor, made: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        for name, values in measures.items():
            # The loss already includes the weights, as Keras's losses do.
            self.means[name].update_state(values, made if name == "loss" else weights)
        return self._model.get_metrics_result()

    # Evaluation.

    def test(self, data: Any) -> dict[str, tf.Tensor]:
        """Measures a batch `x`, `(x, y)` or `(x, y, sample_weight)`, and returns the logs."""
        x, y, weights = self._read(data)
        with tf.control_dependencies([x, weights]):
            return self._run_test(x, y, weights, tf.convert_to_tensor(replica_id()))

    def _test(self, *given: Any) -> dict[str, tf.Tensor]:
        _, _, weights, _ = given
        return self._log(self._run_measure(*given), weights, tf.ones_like(weights))

    def _measure(
        self, x: tf.Tensor, y: Any, weights: tf.Tensor, replica: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        seed = self._seed("evaluate", self.means["loss"].count, replica)
        terms = self._model.compute_terms(x, self._model.objective.num_samples, False, seed, y)
        loss, own_measures = self._model.objective.loss_and_measures(terms)
        loss = losses.by_part(loss, self._model.objective.loss_parts, terms.penalty)[""]
        return {
            "loss": weights * loss + self._regularization(loss.dtype),
            **terms.measures,
            **own_measures,
        }

    # What XLA compiles.

    def prepare_training(self) -> None:
        """Chooses which parts of a training step XLA compiles, given the current hooks."""
        hooks, alone = self._all_hooks(), self._model.is_alone
        self._tell_driven(hooks)
        whole = self._model.jit_compile and alone and not any(hook.observes for hook in hooks)
        self._run_step = self._compile(self._make_step) if whole else self._make_step
        self._run_attempt = self._attempt if whole else self._compile(self._attempt)
        apart = alone and not whole
        self._run_optimizer = (
            self._compile(self._apply_gradients) if apart else self._apply_gradients
        )

    def prepare_test(self) -> None:
        """Chooses which parts of an evaluation step XLA compiles."""
        alone = self._model.is_alone
        self._run_test = self._compile(self._test) if alone else self._test
        self._run_measure = self._measure if alone else self._compile(self._measure)

    def _compile(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Returns the function, compiled by XLA if the model asks for it."""
        if not self._model.jit_compile:
            return function
        return Compiled(function, optional=self._model.jit_is_optional)

    def _tell_driven(self, hooks: Sequence[StepHook]) -> None:
        """Tells each layer which of its numbers move during this training."""
        driven = {id(getattr(hook, "variable", None)) for hook in hooks}
        for layer in self._model._flatten_layers():
            if isinstance(layer, Steerable):
                numbers = layer.hyperparameters.items()
                layer.driven = frozenset(name for name, v in numbers if id(v) in driven)

    # What several of these need.

    def _read(self, data: Any) -> tuple[tf.Tensor, Any, tf.Tensor]:
        """Splits a batch into standardized x and y and weights `[B]`, all fit for a step."""
        x, y, weights = keras.utils.unpack_x_y_sample_weight(data)
        x, y = self._model.check_support(*self._model.standardize(x, y))
        if weights is None:
            return x, y, tf.ones(tf.shape(x)[:1], x.dtype)
        return x, y, checked_weights(weights, x)

    def _checked(self, values: Any, first_bad: tf.Tensor) -> Any:
        """Returns `values`; using them raises if something was not finite and the policy raises."""
        if not self.policy.raises:
            return values
        first_bad = after_all_replicas(first_bad)  # else one interrupts what another restores
        return non_finite.require_finite(values, first_bad, self.names_of_quantities)

    @property
    def names_of_quantities(self) -> list[str]:
        """The names of the quantities that a step is judged by, in the order of computation."""
        model = self._model
        written = optimizer_step.written_by(model.optimizer, model.trainable_variables)
        parts = model.objective.loss_parts
        return non_finite.names_of_quantities(parts, model.trainable_variables, written)

    def _num_quantities(self) -> int:
        """Returns how many quantities there are before anything is written."""
        model = self._model
        parts = model.objective.loss_parts
        return len(non_finite.names_of_quantities(parts, model.trainable_variables))

    def _seed(self, what_for: str, count: Any, replica: tf.Tensor) -> tf.Tensor:
        return fold(seed_tensor(self._model.seed), count, replica, purpose(what_for))

    @property
    def _scales_loss(self) -> bool:
        return isinstance(self._model.optimizer, keras.optimizers.LossScaleOptimizer)

    def _all_hooks(self) -> list[StepHook]:
        return [*self._model.objective.controllers, *self.hooks]

    def _floating_state(self) -> list[keras.Variable]:
        """Returns what the forward pass may change."""
        state = self._model.non_trainable_variables
        return [v for v in state if tf.as_dtype(v.dtype).is_floating]

    def _regularization(self, dtype: tf.DType) -> tf.Tensor:
        """Returns the sum of regularizers and of what layers added by `add_loss`."""
        return losses.total(self._model.losses, dtype)

    def _with_own_losses(
        self, by_part: Mapping[str, tf.Tensor], regularization: tf.Tensor
    ) -> Iterator[tuple[str, tf.Tensor, tf.Tensor]]:
        """Yields each part, its loss, and what the layers that minimize it added by themselves."""
        parts = self._model.objective.parts
        layers = {part: own for part, own in parts.items() if part in by_part}
        added = self._model.losses if layers else []  # Each access computes all regularizers.
        for part, loss in by_part.items():
            own = losses.own_losses(added, part, layers)
            total = losses.total(own, regularization.dtype) if layers else regularization
            yield part, loss, total


def _without_weight_unless(good: tf.Tensor, attempt: Attempt) -> Attempt:
    """Returns an attempt that counts for nothing if it is left out."""
    zeroed = (attempt.measures, attempt.weights, attempt.made)
    kept = tf.nest.map_structure(lambda v: tf.where(good, v, tf.zeros_like(v)), zeroed)
    measures, weights, made = kept
    return attempt._replace(measures=measures, weights=weights, made=made)
