"""A Keras model that is trained by an objective: Keras's protocol around the training step."""

from __future__ import annotations

import contextlib
import functools
import inspect
import warnings
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_vae import bounds
from keras_vae.controllers import StepHook
from keras_vae.core import checks
from keras_vae.training import (
    execution,
    files,
    losses,
    optimization,
    session,
    workers,
)
from keras_vae.training.data import Data, as_array, check_not_symbolic
from keras_vae.training.hooks import hyperparameters_of
from keras_vae.training.non_finite import Raise
from keras_vae.training.spikes import SkipSpikes
from keras_vae.training.step import TrainingStep


class ObjectiveModel(keras.Model):
    """A Keras model whose loss is an objective of its terms.

    `TrainingStep` defines what happens to a batch. This class holds what Keras asks of a model: how
    it is compiled, which functions make the steps, and what `fit` and related methods do before and
    after. Files of the model are written whole or not at all, and only by one of several processes.

    Args:
        objective: What to minimize.
        seed: Seed of all noise in training and evaluation, an integer >= 0.
        **kwargs: Passed on to `keras.Model`.

    Attributes:
        initial_epoch: The `initial_epoch` of the last `fit`, for callbacks.
        measure_names: Names of what `Terms.measured` of the model adds to the logs.
        training_step: How one batch trains the model.
    """

    # What models of a class add to the logs through `Terms.measured`.
    measure_names: tuple[str, ...] = ()

    # Attributes of `keras.Model`, which comes without types.
    run_eagerly: bool
    steps_per_execution: int
    jit_compile: bool
    train_function: Any
    test_function: Any
    distribute_strategy: tf.distribute.Strategy

    def __init__(self, objective: Any, seed: int = 0, **kwargs: Any):
        # Data keep their precision under mixed policies: each network casts its own inputs.
        super().__init__(autocast=False, **kwargs)
        self.objective = objective
        self.seed = checks.integer("seed", seed, minimum=0)
        self.initial_epoch = 0
        # Whether XLA is left to "auto", which must not make a model fail.
        self.jit_is_optional = True
        # Not the optimizer's iterations: those stand still while gradients accumulate and when a
        # step is skipped, and start anew with another optimizer.
        self.trained_batches = self.add_weight(
            shape=(),
            dtype="int64",
            initializer="zeros",
            trainable=False,
            autocast=False,
            aggregation="only_first_replica",
            name="trained_batches",
        )
        self.training_step = TrainingStep(self)
        self._functions = execution.StepFunctions(self)
        self._asked: dict[str, Any] = {}
        self._zz_seal = files.Seal(self)  # Its name makes it the last that Keras reads.

    # What callbacks see of the step.

    @property
    def hyperparameters(self) -> dict[str, keras.Variable]:
        """The numbers that a controller can drive, by name.

        If several layers have a number of the same name, the layer's name comes before it.
        """
        return hyperparameters_of(self)

    @property
    def hooks(self) -> dict[str, StepHook]:
        """What is attached to the train step now, by name."""
        return self.training_step.hooks.by_name

    def attach(self, hook: StepHook, by: str = "") -> None:
        """Lets a hook run inside the train step: a controller, or one that only looks at the step.

        Args:
            hook: The hook.
            by: Name of the callback that attaches it, for errors.

        Raises:
            ValueError: If it is not a hook, another controller drives the same number, or another
                hook has the same name.
        """
        self.training_step.hooks.attach(hook, by)

    def detach(self, hook: StepHook) -> None:
        """Takes a hook out of the train step; a number keeps the last value."""
        self.training_step.hooks.detach(hook)

    @property
    def non_finite(self) -> Raise:
        """What a step does when one of its quantities is not finite; reset at the end of `fit`."""
        return self.training_step.policy

    @non_finite.setter
    def non_finite(self, policy: Raise) -> None:
        self.training_step.policy = policy

    @property
    def spikes(self) -> SkipSpikes | None:
        """The policy that skips steps with too large a gradient; reset at the end of `fit`.

        Its state is part of files that are written meanwhile, so that a resumed training continues
        with it.
        """
        return self.training_step.spikes

    @spikes.setter
    def spikes(self, policy: SkipSpikes | None) -> None:
        self.training_step.spikes = policy

    @property
    def names_of_quantities(self) -> list[str]:
        """The names of the quantities that a step is judged by, as the policies number them."""
        return self.training_step.names_of_quantities

    @property
    def discrete_dimensions(self) -> int | None:
        """Number of dimensions of x, if `bits_per_dim` is to be in the logs; here None."""
        return None

    @property
    def is_alone(self) -> bool:
        """Whether the model lives on one device, outside of any strategy."""
        # A strategy merges its replicas, even a single one, which XLA cannot do.
        return self._distribute_strategy is None

    # Compiling.

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
                as divide `steps_per_epoch`, and one if a callback wants to see every batch.
            jit_compile: Whether XLA compiles the steps. `"auto"` uses it where it works and is
                faster: on a CPU, for all models but convolutional ones.
            **kwargs: Passed on to `keras.Model.compile`; losses and metrics are refused.

        Raises:
            ValueError: If a loss or metrics are given, or anything that replicas do not support, or
                if the objective has a loss for a part that the model does not have, or none for
                weights that would learn.
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
        if not self.is_alone:
            optimization.check_supported(optimizer, run_eagerly)
        losses.check_parts(self.objective, self)
        self.objective.check_trainable(self)
        super().compile(
            optimizer=optimizer,
            run_eagerly=run_eagerly,
            steps_per_execution=1 if steps_per_execution == "auto" else steps_per_execution,
            jit_compile=jit_compile,
            **kwargs,
        )
        self._asked = {"steps_per_execution": steps_per_execution, "jit_compile": jit_compile}
        self.jit_is_optional = jit_compile == "auto"

    def _resolve_auto_jit_compile(self) -> bool:
        # Keras's own answer is no if there are only CPUs.
        supported = all(layer.supports_jit for layer in self._flatten_layers())
        return supported and execution.xla_is_faster(self._flatten_layers())

    def get_compile_config(self) -> dict[str, Any]:
        config = super().get_compile_config()
        # As requested, because another machine may choose otherwise.
        return {**config, **self._asked} if config else config

    def compile_from_config(self, config: dict[str, Any]) -> None:
        self.compile(**keras.saving.deserialize_keras_object(config))
        self.optimizer.build(self.trainable_variables)

    def build_from_config(self, config: dict[str, Any]) -> None:
        """Creates the weights of a model that is read from a file.

        Raises:
            ValueError: If that fails; Keras would only warn and leave out the weights of the file.
        """
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            super().build_from_config(config)
        if not self.built:
            rule = "of the file must say with which shape of data the model was built"
            raise checks.invalid("build_config", rule, config)

    # Training and evaluation.

    def fit(self, x: Any = None, y: Any = None, *args: Any, **kwargs: Any) -> Any:
        """Trains the model, as `keras.Model.fit` does.

        Args:
            x: Array of examples, or anything else that `keras.Model.fit` takes, such as a pandas
                table or a `tf.data.Dataset` of batches `x`, `(x, y)` or `(x, y, sample_weight)`.
            y: Array of what the model is conditioned on, for conditional models; otherwise ignored.
            *args: Passed on to `keras.Model.fit`.
            **kwargs: Passed on to `keras.Model.fit`. With `sample_weight` w, `loss` is
                sum(w * loss) / N plus regularizers, whatever the sum of the weights, and `elbo`,
                `reconstruction` and `kl` are weighted means, sum(w * elbo) / sum(w).

        Raises:
            ValueError: If there are no data, or data without a density. Arrays are checked before
                the first step, and every batch of a dataset before its step.
        """
        validation = Data.of("validation_data", kwargs.get("validation_data"))
        training = Data.of("x", x, y, kwargs.get("sample_weight"))
        training.check(self._checked)
        if validation.x is not None:
            validation.check(self._checked)
        if kwargs.get("class_weight") is not None and training.is_array and training.y is None:
            raise checks.invalid("class_weight", "needs labels `y`", kwargs["class_weight"])
        if kwargs.get("validation_data") is not None:
            kwargs["validation_data"] = validation.with_labels().as_tuple()
        x, y, kwargs = training.for_keras(kwargs)
        if isinstance(x, tf.data.Dataset) and not args:
            kwargs.setdefault("shuffle", False)  # Keras warns about its own default, True.
        if not self.built and training.shape is not None:
            self.build(training.shape)
        calls = self._functions.calls["train_function"]
        options = dict(inspect.signature(super().fit).bind(x, y, *args, **kwargs).arguments)
        if training.is_array and options.get("shuffle", True):
            workers.check_order(self.distribute_strategy)
        with session.kept(self, training, options) as options:
            begin = options.get("initial_epoch", 0)
            totals = [options.get(name) for name in ("steps_per_epoch", "validation_steps")]
            with self._several_steps_per_call(options.get("callbacks"), *totals):
                callbacks = session.checked_callbacks(self, options.get("callbacks"))
                self.initial_epoch = begin
                optimizer = getattr(self, "optimizer", None)
                self.training_step.hooks.attach_stand_ins(callbacks, optimizer)
                history = super().fit(**options)
        trained = any(epoch >= begin for epoch in history.epoch)
        if trained and self._functions.calls["train_function"] == calls:
            raise checks.invalid("x", "must hold at least one batch", x)
        return history

    def evaluate(self, x: Any = None, y: Any = None, *args: Any, **kwargs: Any) -> Any:
        """Measures loss, elbo, reconstruction and kl, as `keras.Model.evaluate` does.

        If the data have finitely many values, but more than two, there is also `bits_per_dim`,
        which is -elbo / (ln 2 * dimensions).

        Raises:
            ValueError: If there are no data, or data without a density.
        """
        data = Data.of("x", x, y, kwargs.get("sample_weight"))
        within_fit = kwargs.get("_use_cached_eval_dataset")  # which `fit` has checked
        if not within_fit:
            data.check(self._checked)
        x, y, kwargs = data.for_keras(kwargs)
        calls = self._functions.calls["test_function"]
        bound = inspect.signature(super().evaluate).bind(x, y, *args, **kwargs).arguments
        running = self._several_steps_per_call(bound.get("callbacks"), bound.get("steps"))
        with contextlib.nullcontext() if within_fit else running:
            result = super().evaluate(x, y, *args, **kwargs)
        if self._functions.calls["test_function"] == calls:
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
        data = Data.of("x", x)
        data.check_not_empty()
        x = data.x if data.y is None else (data.x, data.y)
        with session.cleaned_up_after(self):
            return super().predict(x, *args, **kwargs)

    def _several_steps_per_call(
        self, callbacks: Any, *totals: int | None
    ) -> contextlib.AbstractContextManager[None]:
        is_chosen = self._asked.get("steps_per_execution") == "auto"
        return session.several_steps_per_call(self, is_chosen, callbacks, *totals)

    def skip_batches(self, number: int) -> None:
        """Skips the next batches of training data, which are read without any other effect."""
        self._functions.skipped = number

    # Steps, and the functions that make them.

    def train_step(self, data: Any) -> dict[str, tf.Tensor]:
        return self.training_step.train(data)

    def test_step(self, data: Any) -> dict[str, tf.Tensor]:
        return self.training_step.test(data)

    def predict_step(self, data: Any) -> Any:
        x, y, _ = keras.utils.unpack_x_y_sample_weight(data)
        if isinstance(x, tuple):  # `predict` has no argument for labels.
            x, y, _ = keras.utils.unpack_x_y_sample_weight(x)
        return self(x, y=y, training=False)

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        return list(self.training_step.means.values())

    def get_metrics_result(self) -> dict[str, Any]:
        """Returns the means since the last reset, and the numbers that are driven.

        `bits_per_dim` is the mean of `elbo` in another unit.
        """
        results, dimensions = super().get_metrics_result(), self.discrete_dimensions
        if dimensions is not None:
            results["bits_per_dim"] = bounds.bits_per_dimension(-results["elbo"], dimensions)
        step = self.training_step
        spikes = {} if step.spikes is None else step.spikes.logged
        driven = {**step.hooks.logged, **step.policy.logged, **spikes}
        numbers = {name: tf.identity(variable) for name, variable in driven.items()}
        return {**results, **numbers}

    def make_train_function(self, force: bool = False) -> Any:
        if self.built:
            with contextlib.nullcontext() if self.is_alone else self.distribute_strategy.scope():
                # Only once: building it again would reset the loss scale of half precision.
                if not self.optimizer.built:
                    self.optimizer.build(self.trainable_variables)
                optimization.start_averages(self.optimizer)
        return self._functions.get("train_function", super().make_train_function, force)

    def make_test_function(self, force: bool = False) -> Any:
        return self._functions.get("test_function", super().make_test_function, force)

    def make_predict_function(self, force: bool = False) -> Any:
        # XLA would take seconds to compile a cheap pass, and again for a last partial batch.
        with execution.without_xla(self):
            return super().make_predict_function(force)

    def _maybe_symbolic_build(self, iterator: Any = None, data_batch: Any = None) -> None:
        # Keras reads a batch for this, which lets a pass over short data count as an epoch and
        # fails for tuples on several workers.
        if not self.built:
            super()._maybe_symbolic_build(iterator, data_batch)

    def _checked(self, x: Any, y: Any = None) -> tuple[tf.Tensor, Any]:
        """Returns standardized data, after checking their values if these are available."""
        check_not_symbolic("x", x)
        x, y = self.standardize(*map(as_array, (x, y)))
        return self.check_support(x, y) if tf.executing_eagerly() else (x, y)

    # Files.

    def save_own_variables(self, store: Any) -> None:
        """Writes the variables of the model itself, as Keras asks, and the state of `spikes`."""
        super().save_own_variables(store)
        for name, variable in self._spikes_state.items():
            store[name] = np.asarray(variable)

    def load_own_variables(self, store: Any) -> None:
        """Reads what `save_own_variables` has written, which may contain no state of `spikes`."""
        own = {name: store[name] for name in store.keys() if name.isdigit()}  # noqa: SIM118
        super().load_own_variables(own)
        for name, variable in self._spikes_state.items():
            if name in store.keys():  # noqa: SIM118
                variable.assign(store[name][...])

    @property
    def _spikes_state(self) -> Mapping[str, keras.Variable]:
        return {} if self.spikes is None else self.spikes.state

    def save(self, filepath: Any, overwrite: bool = True, **kwargs: Any) -> None:
        """Saves the model, as `keras.Model.save` does; of several workers, only the chief does.

        Args:
            filepath: File, `*.keras`; one of the same name is replaced once everything is written.
            overwrite: Whether to replace a file without asking.
            **kwargs: Passed on to `keras.Model.save`.

        Raises:
            ValueError: If the file would be an HDF5 file, `*.h5`, from which Keras cannot read back
                models whose `call` is written in Python.
        """
        files.check_format(filepath)
        if workers.writes(self.distribute_strategy):
            files.write(functools.partial(super().save, **kwargs), filepath, overwrite)

    def save_weights(self, filepath: Any, overwrite: bool = True, **kwargs: Any) -> None:
        """Saves the weights, as `keras.Model.save_weights` does; of several workers the chief does.

        Args:
            filepath: File, `*.weights.h5`; one of the same name is replaced once everything is
                written.
            overwrite: Whether to replace a file without asking.
            **kwargs: Passed on to `keras.Model.save_weights`.
        """
        if workers.writes(self.distribute_strategy):
            files.write(functools.partial(super().save_weights, **kwargs), filepath, overwrite)
