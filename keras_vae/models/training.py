"""How a model that has terms is trained and measured: Keras's protocol around the step."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import keras
import tensorflow as tf

from keras_vae.controllers import Step, StepHook
from keras_vae.core import checks
from keras_vae.core.randomness import fold, purpose, seed_tensor
from keras_vae.core.replicas import global_batch_size, replica_id
from keras_vae.core.terms import Terms
from keras_vae.models import graph_errors, inputs, non_finite
from keras_vae.models.steering import SteeredModel, weighted_means
from keras_vae.objectives import ELBO, Objective
from keras_vae.optimizers import on_replicas


class ObjectiveTrainer(SteeredModel):
    """A Keras model whose loss is an objective of its terms; the ground of `LatentVariableModel`.

    Args:
        objective: What to minimize; `ELBO()` by default.
        seed: Seed of all noise in training and evaluation, an integer >= 0.
        **kwargs: Of `keras.Model`.
    """

    # Of `keras.Model`, which has no types.
    jit_compile: bool
    train_function: Any
    test_function: Any

    def __init__(self, objective: Objective | None = None, seed: int = 0, **kwargs: Any):
        # Data keep their precision under mixed policies: each network casts its own inputs.
        super().__init__(autocast=False, **kwargs)
        self.objective = ELBO() if objective is None else objective
        if not isinstance(self.objective, Objective):
            raise checks.invalid(
                "objective", "must be an instance of keras_vae.objectives.Objective", objective
            )
        self.seed = checks.integer("seed", seed, minimum=0)
        self._driven: dict[str, Any] = {}
        self._calls = {"train_function": 0, "test_function": 0}
        self._gradients_function: Callable[..., Any] = self._loss_and_gradients
        self._apply_function: Callable[..., Any] = self._apply_gradients
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
            name: keras.metrics.Mean(name=name)
            for name in ("loss", "elbo", "reconstruction", "kl", *self.objective.measure_names)
        }

    # Keras's training protocol.

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        return list(self._means.values())

    def compile(self, optimizer: Any = "adam", **kwargs: Any) -> None:
        """Sets the optimizer; the objective, given to the constructor, is the loss.

        Args:
            optimizer: Name or instance of a Keras optimizer.
            **kwargs: Of `keras.Model.compile`, without losses and metrics.

        Raises:
            ValueError: If a loss or metrics are given, or what replicas do not support.
        """
        for name in ("loss", "loss_weights", "metrics", "weighted_metrics"):
            if kwargs.get(name) is not None:
                raise ValueError(
                    f"Argument `{name}` must be left out: the loss is the model's `objective`, and "
                    f"loss, elbo, reconstruction and kl are measured. Received: "
                    f"{name}={kwargs[name]!r}"
                )
        if self.distribute_strategy.num_replicas_in_sync > 1:
            _check_supported_by_replicas(**kwargs)
            on_replicas.check_supported(optimizer, kwargs.get("run_eagerly", False))
        super().compile(optimizer=optimizer, **kwargs)

    def compile_from_config(self, config: dict[str, Any]) -> None:
        self.compile(**keras.saving.deserialize_keras_object(config))
        self.optimizer.build(self.trainable_variables)

    def fit(self, x: Any = None, y: Any = None, *args: Any, **kwargs: Any) -> Any:
        """Trains the model, as `keras.Model.fit` does.

        Args:
            x: Array of examples, or anything else that `keras.Model.fit` takes, such as a
                `tf.data.Dataset` of batches `x`, `(x, y)` or `(x, y, sample_weight)`.
            y: Array of what the model is conditioned on, for conditional models; else ignored.
            *args: Of `keras.Model.fit`.
            **kwargs: Of `keras.Model.fit`.

        Raises:
            ValueError: If there is no data, or data without a density. Arrays are looked through
                before the first step, every batch of a dataset before its step.
        """
        validation = inputs.Data.of_tuple("validation_data", kwargs.get("validation_data"))
        training = inputs.Data("x", x, y, kwargs.get("sample_weight"))
        training.check(self._checked)
        if validation.x is not None:
            validation.check(self._checked)
        if kwargs.get("class_weight") is not None and training.is_array and y is None:
            raise checks.invalid("class_weight", "needs labels `y`", kwargs["class_weight"])
        if kwargs.get("validation_data") is not None:
            kwargs["validation_data"] = validation.with_labels().as_tuple()
        if isinstance(x, tf.data.Dataset) and not args:
            kwargs.setdefault("shuffle", False)  # Keras warns of its own default, True.
        if not self.built and training.shape is not None:
            self.build(training.shape)
        calls = self._calls["train_function"]
        bound = inspect.signature(super().fit).bind(x, y, *args, **kwargs).arguments
        with self._given_back():
            self._begin(bound.get("callbacks"), bound.get("initial_epoch", 0))
            history = super().fit(x, training.with_labels().y, *args, **kwargs)
        if history.epoch and self._calls["train_function"] == calls:
            raise checks.invalid("x", "must hold at least one batch", x)
        return history

    def evaluate(self, x: Any = None, y: Any = None, *args: Any, **kwargs: Any) -> Any:
        """Measures loss, elbo, reconstruction and kl, as `keras.Model.evaluate` does.

        Raises:
            ValueError: If there is no data, or data without a density.
        """
        data = inputs.Data("x", x, y, kwargs.get("sample_weight"))
        if not kwargs.get("_use_cached_eval_dataset"):  # which `fit` has checked
            data.check(self._checked)
        calls = self._calls["test_function"]
        with self._given_back():
            result = super().evaluate(x, data.with_labels().y, *args, **kwargs)
        if self._calls["test_function"] == calls:
            raise checks.invalid("x", "must hold at least one batch", x)
        return result

    def predict(self, x: Any, *args: Any, **kwargs: Any) -> Any:
        """Returns the means of p(x|z) at the posterior means, as `keras.Model.predict` does."""
        with self._given_back():
            return super().predict(x, *args, **kwargs)

    def get_metrics_result(self) -> dict[str, Any]:
        """Returns the means since the last reset, and the numbers that are driven."""
        return {**super().get_metrics_result(), **self._driven_numbers()}

    def make_train_function(self, force: bool = False) -> Any:
        if self._must_be_made("train_function", force):
            if self.built:
                self.optimizer.build(self.trainable_variables)
            self._gradients_function = self._compiled(self._loss_and_gradients)
            self._apply_function = self._compiled(self._apply_gradients)
            make = functools.partial(super().make_train_function, force=True)
            self.train_function = self._make_outer(make, "train_function")
        return self.train_function

    def make_test_function(self, force: bool = False) -> Any:
        if self._must_be_made("test_function", force):
            self._measure_function = self._compiled(self._measure)
            make = functools.partial(super().make_test_function, force=True)
            self.test_function = self._make_outer(make, "test_function")
        return self.test_function

    def _must_be_made(self, name: str, force: bool) -> bool:
        """Whether a function is missing, or was traced with other hooks than there are."""
        driven = [self.non_finite.key, *sorted(hook.key for hook in self._hooks.values())]
        changed = self._driven.get(name, ([],))[0] != driven
        if changed:
            # With the hooks: as long as they live, no other has a key with the same ids in it.
            self._driven = {**self._driven, name: (driven, self.hooks)}
        return force or changed or getattr(self, name) is None

    def _make_outer(self, make: Callable[[], Any], name: str) -> Callable[..., Any]:
        """Makes Keras's step function without XLA, in which data can still be refused."""
        jit_compile, self.jit_compile = self.jit_compile, False
        try:
            make()
        finally:
            self.jit_compile = jit_compile
        function = graph_errors.as_python_errors(getattr(self, name))

        def counted(iterator: Any) -> Any:
            logs = function(iterator)
            self._calls[name] += 1
            return logs

        return counted

    def train_step(self, data: Any) -> dict[str, tf.Tensor]:
        x, y, weights = self._unpack(data)
        hooks = [*self.objective.controllers, *self._hooks.values()]
        # Past the end of the data, or with data that are refused, nothing must move.
        with tf.control_dependencies([x, weights]):
            step = tf.convert_to_tensor(self.optimizer.iterations)
            for hook in hooks:
                hook.before_step(step)
        state = [v for v in self.non_trainable_variables if tf.as_dtype(v.dtype).is_floating]
        remembered = self.non_finite.remember(state)
        measures, gradients, first_bad = self._gradients_function(
            x,
            y,
            weights,
            global_batch_size(weights),
            self._step_seed("train", self._trained_batches),
        )
        attempt = non_finite.Attempt(gradients, measures, weights, tf.ones_like(weights))
        attempt = self.non_finite.admit(attempt, first_bad, self.trainable_variables)
        with tf.control_dependencies([x, attempt.made]):
            means, known = weighted_means(hooks, attempt.measures, attempt.weights)
            shift = sum([hook.loss_shift(means) for hook in hooks], 0.0)
            self._observe(hooks, step, (x, y), attempt)
            self.non_finite.apply(self._apply_function, attempt, state, remembered)
            self._trained_batches.assign_add(1)
            self._move(hooks, step, means, known)
        loss = attempt.measures["loss"] + attempt.weights * shift
        measures = {**attempt.measures, "loss": loss}
        return self._update_metrics(measures, attempt.weights, attempt.made)

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

    def test_step(self, data: Any) -> dict[str, tf.Tensor]:
        x, y, weights = self._unpack(data)
        seed = self._step_seed("evaluate", self._means["loss"].count)
        measures = self._measure_function(x, y, weights, seed)
        return self._update_metrics(measures, weights, tf.ones_like(weights))

    def predict_step(self, data: Any) -> Any:
        x, y, _ = keras.utils.unpack_x_y_sample_weight(data)
        return self(x, y=y, training=False)

    # The parts of a step: what XLA may compile, and what surrounds it.

    def _compiled(self, function: Callable[..., Any]) -> Callable[..., Any]:
        if not self.jit_compile:
            return function
        return tf.function(function, jit_compile=True, reduce_retracing=True, autograph=False)

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

    def _measure(
        self, x: tf.Tensor, y: Any, weights: tf.Tensor, seed: tf.Tensor
    ) -> dict[str, tf.Tensor]:
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
        x, y = self.standardize(x, y)
        return self.check_support(x, y) if tf.executing_eagerly() else (x, y)

    def _step_seed(self, what_for: str, step: Any) -> tf.Tensor:
        return fold(seed_tensor(self.seed), step, replica_id(), purpose(what_for))

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


def _check_supported_by_replicas(
    jit_compile: bool | str = "auto", steps_per_execution: int = 1, **_: Any
) -> None:
    if jit_compile is True:
        raise checks.invalid("jit_compile", 'must be False or "auto" on several replicas', True)
    if steps_per_execution != 1:
        rule = "must be 1 on several replicas"
        raise checks.invalid("steps_per_execution", rule, steps_per_execution)
