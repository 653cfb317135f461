"""How a model that has terms is trained and measured: Keras's protocol around the steps."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Iterator
from typing import Any

import keras
import tensorflow as tf

from keras_vae import bounds
from keras_vae.core import checks, workers
from keras_vae.models import execution, graph_errors, inputs
from keras_vae.models.steps import SteppingModel
from keras_vae.objectives import Objective
from keras_vae.optimizers import on_replicas


class ObjectiveTrainer(SteppingModel):
    """A Keras model whose loss is an objective of its terms; the ground of `LatentVariableModel`.

    Args:
        objective: What to minimize; `ELBO()` by default.
        seed: Seed of all noise in training and evaluation, an integer >= 0.
        **kwargs: Passed on to `keras.Model`.
    """

    # Inherited from `keras.Model`, which has no types.
    run_eagerly: bool
    steps_per_execution: int
    train_function: Any
    test_function: Any

    def __init__(self, objective: Objective | None = None, seed: int = 0, **kwargs: Any):
        super().__init__(objective, seed, **kwargs)
        self._asked: dict[str, Any] = {}
        # By name and steps per execution: what a function was made for, and the function.
        self._functions: dict[tuple[str, int], tuple[Any, Any]] = {}
        self._calls = {"train_function": 0, "test_function": 0}

    @property
    def discrete_dimensions(self) -> int | None:
        """Number of dimensions of x, if `bits_per_dim` is to be in the logs; here None."""
        return None

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        return list(self._means.values())

    def compile(
        self,
        optimizer: Any = "adam",
        *,
        run_eagerly: bool = False,
        steps_per_execution: int | str = "auto",
        jit_compile: bool | str = "auto",
        **kwargs: Any,
    ) -> None:
        """Sets the optimizer; the objective, given to the constructor, is the loss.

        Args:
            optimizer: Name or instance of a Keras optimizer.
            run_eagerly: Whether to run Python at every step, to look inside.
            steps_per_execution: How many steps are made at a time. `"auto"` makes ten, or as many
                as divide `steps_per_epoch`, and one where a callback wants to see every batch.
            jit_compile: Whether XLA compiles the steps. `"auto"` lets it where it is the faster and
                can: on a CPU for all models but convolutional ones.
            **kwargs: Passed on to `keras.Model.compile`, without losses and metrics.

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
        if steps_per_execution != "auto":
            checks.integer("steps_per_execution", steps_per_execution)
        if not isinstance(jit_compile, bool):
            checks.option("jit_compile", jit_compile, ["auto"])
        if not self._is_alone:
            on_replicas.check_supported(optimizer, run_eagerly)
        super().compile(
            optimizer=optimizer,
            run_eagerly=run_eagerly,
            steps_per_execution=1 if steps_per_execution == "auto" else steps_per_execution,
            jit_compile=jit_compile,
            **kwargs,
        )
        self._asked = {"steps_per_execution": steps_per_execution, "jit_compile": jit_compile}
        self._jit_is_optional = jit_compile == "auto"

    def _resolve_auto_jit_compile(self) -> bool:
        # Keras's own answer is no, wherever there are but CPUs.
        supported = all(layer.supports_jit for layer in self._flatten_layers())
        return supported and execution.xla_is_faster(self._flatten_layers())

    def get_compile_config(self) -> dict[str, Any]:
        config = super().get_compile_config()
        # As asked, for another machine may choose otherwise.
        return {**config, **self._asked} if config else config

    def compile_from_config(self, config: dict[str, Any]) -> None:
        self.compile(**keras.saving.deserialize_keras_object(config))
        self.optimizer.build(self.trainable_variables)

    def fit(self, x: Any = None, y: Any = None, *args: Any, **kwargs: Any) -> Any:
        """Trains the model, as `keras.Model.fit` does.

        Args:
            x: Array of examples, or anything else that `keras.Model.fit` takes, such as a table of
                pandas or a `tf.data.Dataset` of batches `x`, `(x, y)` or `(x, y, sample_weight)`.
            y: Array of what the model is conditioned on, for conditional models; else ignored.
            *args: Passed on to `keras.Model.fit`.
            **kwargs: Passed on to `keras.Model.fit`. With `sample_weight` w, `loss` is
                sum(w * loss) / N plus regularizers, whatever the sum of the weights, and `elbo`,
                `reconstruction` and `kl` are weighted means, sum(w * elbo) / sum(w).

        Raises:
            ValueError: If there is no data, or data without a density. Arrays are looked through
                before the first step, every batch of a dataset before its step.
        """
        validation = inputs.Data.of("validation_data", kwargs.get("validation_data"))
        training = inputs.Data.of("x", x, y, kwargs.get("sample_weight"))
        training.check(self._checked)
        if validation.x is not None:
            validation.check(self._checked)
        if kwargs.get("class_weight") is not None and training.is_array and training.y is None:
            raise checks.invalid("class_weight", "needs labels `y`", kwargs["class_weight"])
        if kwargs.get("validation_data") is not None:
            kwargs["validation_data"] = validation.with_labels().as_tuple()
        x, y, kwargs = training.for_keras(kwargs)
        if isinstance(x, tf.data.Dataset) and not args:
            kwargs.setdefault("shuffle", False)  # Keras warns of its own default, True.
        if not self.built and training.shape is not None:
            self.build(training.shape)
        calls = self._calls["train_function"]
        bound = inspect.signature(super().fit).bind(x, y, *args, **kwargs).arguments
        totals = bound.get("steps_per_epoch"), bound.get("validation_steps")
        if training.is_array and bound.get("shuffle", True):
            workers.check_order(self.distribute_strategy)
        with self._given_back(), self._at_a_time(bound.get("callbacks"), *totals):
            self._begin(bound.get("callbacks"), bound.get("initial_epoch", 0))
            history = super().fit(x, y, *args, **kwargs)
        if history.epoch and self._calls["train_function"] == calls:
            raise checks.invalid("x", "must hold at least one batch", x)
        return history

    def evaluate(self, x: Any = None, y: Any = None, *args: Any, **kwargs: Any) -> Any:
        """Measures loss, elbo, reconstruction and kl, as `keras.Model.evaluate` does.

        For data of finitely many, but more than two, values there is also `bits_per_dim`, which is
        -elbo / (ln 2 * dimensions).

        Raises:
            ValueError: If there is no data, or data without a density.
        """
        data = inputs.Data.of("x", x, y, kwargs.get("sample_weight"))
        within_fit = kwargs.get("_use_cached_eval_dataset")  # which `fit` has checked
        if not within_fit:
            data.check(self._checked)
        x, y, kwargs = data.for_keras(kwargs)
        calls = self._calls["test_function"]
        bound = inspect.signature(super().evaluate).bind(x, y, *args, **kwargs).arguments
        settled = (
            contextlib.nullcontext()
            if within_fit
            else self._at_a_time(bound.get("callbacks"), bound.get("steps"))
        )
        with self._given_back(), settled:
            result = super().evaluate(x, y, *args, **kwargs)
        if self._calls["test_function"] == calls:
            raise checks.invalid("x", "must hold at least one batch", x)
        return result

    def predict(self, x: Any, *args: Any, **kwargs: Any) -> Any:
        """Returns the means of p(x|z) at the posterior means, as `keras.Model.predict` does.

        Args:
            x: Data as `fit` takes them; `(x, y)` for conditional models.
            *args: Passed on to `keras.Model.predict`.
            **kwargs: Passed on to `keras.Model.predict`.

        Returns:
            Array `[N, *event_shape]`, in the units of x.
        """
        data = inputs.Data.of("x", x)
        x = data.x if data.y is None else (data.x, data.y)
        with self._given_back():
            return super().predict(x, *args, **kwargs)

    def get_metrics_result(self) -> dict[str, Any]:
        """Returns the means since the last reset, and the numbers that are driven.

        `bits_per_dim` is the mean of `elbo` in another unit.
        """
        results, dimensions = super().get_metrics_result(), self.discrete_dimensions
        if dimensions is not None:
            results["bits_per_dim"] = bounds.bits_per_dimension(-results["elbo"], dimensions)
        return {**results, **self._driven_numbers()}

    def _maybe_symbolic_build(self, iterator: Any = None, data_batch: Any = None) -> None:
        # Keras reads a batch for it: that lets a pass over short data count as an epoch, and fails
        # for tuples on several workers.
        if not self.built:
            super()._maybe_symbolic_build(iterator, data_batch)

    def make_train_function(self, force: bool = False) -> Any:
        # Once: to build it again would begin the loss scale of half precision anew.
        if self.built and not self.optimizer.built:
            scope = contextlib.nullcontext() if self._is_alone else self.distribute_strategy.scope()
            with scope:
                self.optimizer.build(self.trainable_variables)
        return self._made("train_function", super().make_train_function, self._make_step, force)

    def make_test_function(self, force: bool = False) -> Any:
        return self._made("test_function", super().make_test_function, self._make_test, force)

    def make_predict_function(self, force: bool = False) -> Any:
        # XLA would compile a cheap pass for seconds, and once more for a last partial batch.
        with self._without_xla():
            return super().make_predict_function(force)

    def _made(
        self, name: str, make: Callable[..., Any], prepare: Callable[[], None], force: bool
    ) -> Callable[..., Any]:
        """Returns a function of Keras that suits the hooks there are and the steps at a time."""
        if getattr(self, name) is None:
            self._functions = {k: v for k, v in self._functions.items() if k[0] != name}
        key = (name, self.steps_per_execution)
        driven = [self.non_finite.key, *sorted(hook.key for hook in self._hooks.values())]
        # With the hooks: as long as they live, no other has a key with the same ids in it.
        (known, _), function = self._functions.get(key, ((None, None), None))
        if force or known != driven:
            prepare()
            function = self._counted(name, self._outer(make, name))
            self._functions = {**self._functions, key: ((driven, self.hooks), function)}
        setattr(self, name, function)
        return function

    def _outer(self, make: Callable[..., Any], name: str) -> Callable[..., Any]:
        """Makes Keras's step function without XLA, in which data can still be refused."""
        if not self._is_alone:
            step = self.train_step if name == "train_function" else self.test_step
            given = self.distribute_strategy, self.steps_per_execution, self.run_eagerly
            return graph_errors.as_python_errors(execution.on_replicas(step, *given))
        with self._without_xla():
            make(force=True)
        return graph_errors.as_python_errors(getattr(self, name))

    @contextlib.contextmanager
    def _without_xla(self) -> Iterator[None]:
        jit_compile, self.jit_compile = self.jit_compile, False
        try:
            yield
        finally:
            self.jit_compile = jit_compile

    def _counted(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def counted(iterator: Any) -> Any:
            logs = function(iterator)
            self._calls[name] += 1
            return logs

        return counted

    @contextlib.contextmanager
    def _at_a_time(self, callbacks: Any, *totals: int | None) -> Iterator[None]:
        """Lets as many steps make an execution as is best, if that is left to the model."""
        before = self.steps_per_execution
        # Several workers must agree, whatever callbacks each of them has.
        apart = self.run_eagerly or workers.several(self.distribute_strategy)
        if self._asked.get("steps_per_execution") == "auto" and not apart:
            self.steps_per_execution = execution.steps_at_a_time(
                keras.tree.flatten(callbacks or []), *totals
            )
        try:
            yield
        finally:
            self.steps_per_execution = before
