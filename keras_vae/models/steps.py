"""One step of training or evaluation: its parts, and in which order they run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from keras_vae.controllers import Step, StepHook
from keras_vae.core import checks
from keras_vae.core.hyperparameters import Steerable
from keras_vae.core.randomness import fold, purpose, seed_tensor
from keras_vae.core.replicas import global_batch_size, replica_id
from keras_vae.core.terms import Terms
from keras_vae.models import inputs, non_finite
from keras_vae.models.execution import Compiled
from keras_vae.models.parts import check_not_symbolic
from keras_vae.models.saving import UnsavedMean
from keras_vae.models.steering import SteeredModel, weighted_means
from keras_vae.objectives import ELBO, Objective
from keras_vae.optimizers import on_replicas


class SteppingModel(SteeredModel):
    """A Keras model that makes steps: it attempts one, and advances by it.

    The attempt is the forward and the backward pass; to advance is all that moves weights. XLA
    compiles both as one on a single device. On replicas, which exchange gradients to advance, it
    compiles the attempt alone; and so where a hook looks at the gradients, by any operation.

    Args:
        objective: What to minimize; `ELBO()` by default.
        seed: Seed of all noise in training and evaluation, an integer >= 0.
        **kwargs: Passed on to `keras.Model`.
    """

    # Inherited from `keras.Model`, which has no types.
    jit_compile: bool

    def __init__(self, objective: Objective | None = None, seed: int = 0, **kwargs: Any):
        # Data keep their precision under mixed policies: each network casts its own inputs.
        super().__init__(autocast=False, **kwargs)
        self.objective = ELBO() if objective is None else objective
        if not isinstance(self.objective, Objective):
            raise checks.invalid(
                "objective", "must be an instance of keras_vae.objectives.Objective", objective
            )
        self.seed = checks.integer("seed", seed, minimum=0)
        # Whether XLA is the choice of "auto", which must not make a model fail.
        self._jit_is_optional = True
        self._step_function: Callable[..., Any] = self._split_step
        self._attempt_function: Callable[..., Any] = self._attempt
        self._apply_function: Callable[..., Any] = self._apply_gradients
        self._test_function: Callable[..., Any] = self._measured_test
        self._measure_function: Callable[..., Any] = self._measure
        # Not the optimizer's iterations: those stand still while gradients accumulate and when a
        # step is skipped, and begin anew with another optimizer.
        self._trained_batches = self.add_weight(
            shape=(),
            dtype="int64",
            initializer="zeros",
            trainable=False,
            autocast=False,
            aggregation="only_first_replica",
            name="trained_batches",
        )
        self._means = {
            name: UnsavedMean(name=name)
            for name in ("loss", "elbo", "reconstruction", "kl", *self.objective.measure_names)
        }

    # Steps as Keras calls them.

    def train_step(self, data: Any) -> dict[str, tf.Tensor]:
        x, y, weights = self._unpack(data)
        # Past the end of the data, or with data that are refused, nothing must move: not even what
        # does not depend on them, such as the count of a batch of a known size.
        with tf.control_dependencies([x, weights]):
            step = tf.convert_to_tensor(self.optimizer.iterations)
            for hook in self._all_hooks():
                hook.before_step(step)
            batch_size, replica = global_batch_size(weights), tf.convert_to_tensor(replica_id())
            logs, first_bad = self._step_function(x, y, weights, batch_size, replica)
            return self.non_finite.checked(logs, first_bad, self.trainable_variables)[0]

    def test_step(self, data: Any) -> dict[str, tf.Tensor]:
        x, y, weights = self._unpack(data)
        with tf.control_dependencies([x, weights]):
            return self._test_function(x, y, weights, tf.convert_to_tensor(replica_id()))

    def predict_step(self, data: Any) -> Any:
        x, y, _ = keras.utils.unpack_x_y_sample_weight(data)
        if isinstance(x, tuple):  # `predict` has no argument for labels.
            x, y, _ = keras.utils.unpack_x_y_sample_weight(x)
        return self(x, y=y, training=False)

    def _make_step(self) -> None:
        """Chooses what XLA compiles of a training step."""
        driven = {id(getattr(hook, "variable", None)) for hook in self._all_hooks()}
        for layer in self._flatten_layers():
            if isinstance(layer, Steerable):
                numbers = layer.hyperparameters.items()
                layer.driven = frozenset(name for name, v in numbers if id(v) in driven)
        observed = any(hook.observes for hook in self._all_hooks())
        if self.jit_compile and self._is_alone and not observed:
            # In one piece, XLA passes nothing on, and a step costs a single launch.
            self._step_function = self._compiled(self._whole_step)
            self._apply_function = self._apply_gradients
            return
        self._step_function = self._split_step
        self._attempt_function = self._compiled(self._attempt)
        apply = self._apply_gradients
        self._apply_function = self._compiled(apply) if self._is_alone else apply

    def _make_test(self) -> None:
        """Chooses what XLA compiles of a step of evaluation."""
        if self._is_alone:
            self._test_function = self._compiled(self._measured_test)
            self._measure_function = self._measure
        else:
            self._test_function = self._measured_test
            self._measure_function = self._compiled(self._measure)

    @property
    def _is_alone(self) -> bool:
        # A strategy merges its replicas, even a single one, which XLA cannot.
        return self._distribute_strategy is None

    def _compiled(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Returns the function, compiled by XLA if steps are to be."""
        if not self.jit_compile:
            return function
        return Compiled(function, optional=self._jit_is_optional)

    # The parts of a step.

    def _whole_step(self, x: tf.Tensor, y: Any, *given: tf.Tensor) -> tuple[Any, tf.Tensor]:
        return self._advance((x, y), *self._attempt(x, y, *given))

    def _split_step(self, x: tf.Tensor, y: Any, *given: tf.Tensor) -> tuple[Any, tf.Tensor | None]:
        attempt, first_bad, remembered = self._attempt_function(x, y, *given)
        values = (attempt.gradients, attempt.made)
        checked = self.non_finite.checked(values, first_bad, self.trainable_variables)
        (gradients, made), first_bad = checked
        attempt = attempt._replace(gradients=gradients, made=made)
        return self._advance((x, y), attempt, first_bad, remembered)

    def _attempt(
        self, x: tf.Tensor, y: Any, weights: tf.Tensor, batch_size: tf.Tensor, replica: tf.Tensor
    ) -> tuple[non_finite.Attempt, tf.Tensor, Sequence[tf.Tensor]]:
        """Returns a step, what `first_bad` says of it, and the state that it has changed."""
        remembered = self.non_finite.remember(self._floating_state())
        seed = self._step_seed("train", self._trained_batches, replica)
        measures, gradients, bad = self._loss_and_gradients(x, y, weights, batch_size, seed)
        attempt = non_finite.Attempt(gradients, measures, weights, tf.ones_like(weights))
        return attempt, bad, remembered

    def _advance(
        self,
        data: tuple[tf.Tensor, Any],
        attempt: non_finite.Attempt,
        first_bad: tf.Tensor | None,
        remembered: Sequence[tf.Tensor],
    ) -> tuple[dict[str, tf.Tensor], tf.Tensor | None]:
        """Moves what a step moves, and returns the logs and `first_bad`."""
        hooks, step = self._all_hooks(), tf.convert_to_tensor(self.optimizer.iterations)
        attempt = self.non_finite.admit(attempt, first_bad, self.trainable_variables)
        with tf.control_dependencies([data[0], step, attempt.made]):
            means, known = weighted_means(hooks, attempt.measures, attempt.weights)
            shift = sum([hook.loss_shift(means) for hook in hooks], 0.0)
            self._observe(hooks, step, data, attempt)
            state = self._floating_state()
            self.non_finite.apply(self._apply_function, attempt, state, remembered)
            self._trained_batches.assign_add(tf.cast(attempt.counts, tf.int64))
            self._move(hooks, step, means, known)
        loss = attempt.measures["loss"] + attempt.weights * shift
        measures = {**attempt.measures, "loss": loss}
        return self._update_metrics(measures, attempt.weights, attempt.made), first_bad

    def _observe(
        self,
        hooks: list[StepHook],
        step: tf.Tensor,
        data: tuple[tf.Tensor, Any],
        attempt: non_finite.Attempt,
    ) -> None:
        scale = tf.convert_to_tensor(self.optimizer.scale_loss(tf.ones(())))
        seen = Step(step, *data, attempt.weights, attempt.measures, attempt.gradients, scale)
        for hook in hooks:
            hook.observe(seen)

    def _move(
        self,
        hooks: list[StepHook],
        step: tf.Tensor,
        means: dict[str, tf.Tensor],
        known: tf.Tensor,
    ) -> None:
        """Moves what the hooks steer in a closed loop, if the optimizer made its step."""
        # It has not where gradients still accumulate, or overflowed under loss scaling.
        stepped = known & (self.optimizer.iterations > step)
        updates = [pair for hook in hooks for pair in hook.after_step(step, means)]
        for variable, value in updates:
            variable.assign(tf.where(stepped, value, variable))

    def _loss_and_gradients(
        self, x: tf.Tensor, y: Any, weights: tf.Tensor, batch_size: tf.Tensor, seed: tf.Tensor
    ) -> tuple[dict[str, tf.Tensor], list[Any], tf.Tensor]:
        with tf.GradientTape() as tape:
            terms = self.compute_terms(x, self.objective.num_samples, True, seed, y)
            loss, own_measures = self.objective.loss_and_measures(terms)  # [B]
            replicas = self.distribute_strategy.num_replicas_in_sync
            penalty = self._penalty(loss.dtype)
            # Replicas add up their gradients, so each divides by what all of them hold.
            total = tf.reduce_sum(weights * loss) / batch_size + penalty / replicas
            scaled = self.optimizer.scale_loss(total)
        gradients = tape.gradient(scaled, self.trainable_variables)
        measures = {**_measures(terms, weights * loss + penalty), **own_measures}
        # Loss scaling makes gradients overflow on purpose, and skips those steps itself.
        scales = isinstance(self.optimizer, keras.optimizers.LossScaleOptimizer)
        first_bad = non_finite.first_bad(terms, loss, [] if scales else gradients)
        return measures, gradients, first_bad

    def _measured_test(
        self, x: tf.Tensor, y: Any, weights: tf.Tensor, replica: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        measures = self._measure_function(x, y, weights, replica)
        return self._update_metrics(measures, weights, tf.ones_like(weights))

    def _measure(
        self, x: tf.Tensor, y: Any, weights: tf.Tensor, replica: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        seed = self._step_seed("evaluate", self._means["loss"].count, replica)
        terms = self.compute_terms(x, self.objective.num_samples, False, seed, y)
        loss, own_measures = self.objective.loss_and_measures(terms)
        return {**_measures(terms, weights * loss + self._penalty(loss.dtype)), **own_measures}

    def _apply_gradients(self, gradients: list[Any]) -> None:
        on_replicas.apply(self.optimizer, gradients, self.trainable_variables)

    def _penalty(self, dtype: tf.DType) -> tf.Tensor:
        """Returns the sum of regularizers and of what layers added by `add_loss`."""
        return tf.add_n([tf.zeros((), dtype), *(tf.cast(loss, dtype) for loss in self.losses)])

    def _unpack(self, data: Any) -> tuple[tf.Tensor, Any, tf.Tensor]:
        """Splits a batch into standardized x and y and weights `[B]`, all fit for a step."""
        x, y, weights = keras.utils.unpack_x_y_sample_weight(data)
        x, y = self.check_support(*self.standardize(x, y))
        if weights is None:
            return x, y, tf.ones(tf.shape(x)[:1], x.dtype)
        return x, y, inputs.checked_weights(weights, x)

    def _checked(self, x: Any, y: Any = None) -> tuple[tf.Tensor, Any]:
        """Returns standardized data, whose values are checked where they are at hand."""
        check_not_symbolic("x", x)
        x, y = self.standardize(*map(inputs.as_array, (x, y)))
        return self.check_support(x, y) if tf.executing_eagerly() else (x, y)

    def _step_seed(self, what_for: str, step: Any, replica: tf.Tensor) -> tf.Tensor:
        return fold(seed_tensor(self.seed), step, replica, purpose(what_for))

    def _all_hooks(self) -> list[StepHook]:
        return [*self.objective.controllers, *self._hooks.values()]

    def _floating_state(self) -> list[keras.Variable]:
        """Returns what the forward pass may change."""
        return [v for v in self.non_trainable_variables if tf.as_dtype(v.dtype).is_floating]

    def _update_metrics(
        self, measures: Mapping[str, tf.Tensor], weights: tf.Tensor, made: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        for name, values in measures.items():
            # The loss has the weights in it already, as Keras's losses do.
            self._means[name].update_state(values, made if name == "loss" else weights)
        return self.get_metrics_result()


def _measures(terms: Terms, loss: tf.Tensor) -> dict[str, tf.Tensor]:
    return {
        "loss": loss,
        "elbo": terms.elbo,
        "reconstruction": terms.reconstruction,
        "kl": terms.kl_total,
    }
