"""An optimizer that holds a separate optimizer for each part of a model."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Collection, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import keras
import tensorflow as tf

from keras_vae.core import checks
from keras_vae.core.conditional import run_if
from keras_vae.core.head import serializable

_KerasSchedule = keras.optimizers.schedules.LearningRateSchedule


@serializable
class PartOptimizer(keras.optimizers.Optimizer):
    """Sends the gradient of every variable to the optimizer of its part.

    `by_part` makes one for a model. Rates, weight decay, clipping and averages are those of each
    part's optimizer; a `global_clipnorm` applies to the norm over its part. The state of these
    optimizers is saved and restored with that of this one. Loss scaling wraps it:
    `LossScaleOptimizer(by_part(...))`, as Keras does by itself under `mixed_float16`.

    A part steps at batch n = 0, 1, ... if n >= start and n % every == 0. `iterations` counts the
    batches, and does not increase when a step is skipped; learning-rate schedules, including those
    of Keras, count batches, too. Each part's optimizer counts its own steps, on which its bias
    correction is based.

    Args:
        optimizers: A new optimizer for each part, by the part's name.
        parts: Name of the part of every trainable variable, in the order of the variables.
        every: Number of batches from one step of a part to its next, by the part's name; 1 for the
            others.
        start: Number of the batch at which a part may step first, by the part's name; 0 for the
            others.
        name: Name of the optimizer.

    Attributes:
        hyperparameters: The learning rates that callbacks can drive, as `"encoder.learning_rate"`.
        optimizers: The optimizers, in the order they were given. `optimizer["encoder"]` is one.
        learning_rate: The rate of the first optimizer, for callbacks that log a single number.

    Raises:
        ValueError: If an optimizer cannot be used here, or a part has none.

    Example:
        >>> x, y = keras.Variable(1.0), keras.Variable(1.0)
        >>> fast, slow = keras.optimizers.SGD(0.5), keras.optimizers.SGD(0.25)
        >>> optimizer = PartOptimizer({"fast": fast, "slow": slow}, parts=["slow", "fast"])
        >>> optimizer.apply([tf.constant(1.0), tf.constant(1.0)], [x, y])
        >>> float(x), float(y)
        (0.75, 0.5)
    """

    def __init__(
        self,
        optimizers: Mapping[str, keras.optimizers.Optimizer],
        parts: Sequence[str],
        every: Mapping[str, int] | None = None,
        start: Mapping[str, int] | None = None,
        name: str = "part_optimizer",
    ):
        super().__init__(learning_rate=0.0, name=name)
        checks.instance("optimizers", optimizers, Mapping)
        checks.instance("parts", parts, Sequence)
        for part, optimizer in optimizers.items():
            _check_fit(part, optimizer)
        if len({id(optimizer) for optimizer in optimizers.values()}) != len(optimizers):
            raise checks.invalid("optimizers", "must differ from part to part", dict(optimizers))
        # Keras would save what it finds in lists and dicts again; `variables` already has it all.
        self._by_part = MappingProxyType(dict(optimizers))
        self.parts = tuple(checks.option("parts", part, optimizers) for part in parts)
        self._accumulation_steps = _common_accumulation(optimizers)
        self.every = MappingProxyType(_counts("every", every, optimizers, minimum=1))
        self.start = MappingProxyType(_counts("start", start, optimizers, minimum=0))
        if self._accumulation_steps and (self.every or self.start):
            rule = "must be left out with gradient_accumulation_steps, which count batches, too"
            raise checks.invalid("every", rule, {**self.every, **self.start})
        # Inside the part's optimizer, a schedule would count the steps of the part.
        given = {part: one._learning_rate for part, one in optimizers.items()}
        self._schedules = MappingProxyType(
            {part: rate for part, rate in given.items() if isinstance(rate, _KerasSchedule)}
        )
        self._moves: Mapping[str, Any] = MappingProxyType({})

    def __getitem__(self, part: str) -> keras.optimizers.Optimizer:
        """Returns the optimizer of a part."""
        return self._by_part[part]

    @property
    def optimizers(self) -> Collection[keras.optimizers.Optimizer]:
        return self._by_part.values()

    @property
    def hyperparameters(self) -> dict[str, keras.Variable]:
        rates = {f"{part}.learning_rate": one.learning_rate for part, one in self._by_part.items()}
        return {name: rate for name, rate in rates.items() if isinstance(rate, keras.Variable)}

    @property
    def learning_rate(self) -> tf.Tensor:
        part, first = next(iter(self._by_part.items()))
        with self._counting_batches(part):
            return tf.convert_to_tensor(first.learning_rate)

    @learning_rate.setter
    def learning_rate(self, value: Any) -> None:
        example = f"optimizer[{next(iter(self._by_part))!r}].learning_rate"
        raise checks.invalid("learning_rate", f"must be set part by part, as {example}", value)

    @property
    def iterations(self) -> Any:
        steps = self._accumulation_steps
        return self._iterations // steps if steps else self._iterations

    @property
    def variables(self) -> list[keras.Variable]:
        return [*super().variables, *(v for one in self.optimizers for v in one.variables)]

    def build(self, variables: Sequence[keras.Variable]) -> None:
        """Builds each part's optimizer with the variables of the part.

        Raises:
            ValueError: If the number of variables differs from that of `parts`.
        """
        if self.built:
            return
        variables = list(variables)
        if len(variables) != len(self.parts):
            rule = (
                f"must be {len(self.parts)} variables, one for each of the `parts`; for a model "
                "some of whose layers were frozen or thawed since, make the optimizer anew"
            )
            raise checks.invalid("variables", rule, [variable.path for variable in variables])
        super().build(variables)
        for part, optimizer in self._by_part.items():
            optimizer.build(
                [v for v, its in zip(variables, self.parts, strict=True) if its == part]
            )

    def apply(self, grads: Sequence[Any], trainable_variables: Any = None) -> None:
        """Makes a step, in which each part is updated by its own optimizer.

        Args:
            grads: Gradients, or None for variables that have none.
            trainable_variables: Variables that this optimizer was built with, or is built with now;
                by default, all of them.

        Raises:
            ValueError: If there is no gradient at all, or a variable is unknown.
        """
        variables = list(trainable_variables or self._trainable_variables)
        self.build(variables)
        self._check_variables_are_known(variables)
        pairs = list(zip(grads, variables, strict=True))
        if all(gradient is None for gradient in grads):
            raise checks.invalid("grads", "must hold a gradient of some variable", grads)
        moves = self._moves or self.due()
        for part in self._by_part:
            own = [pair for pair in pairs if self.part_of(pair[1]) == part]
            # A part without gradients stays as it is, just like a single variable without one.
            if any(gradient is not None for gradient, _ in own):
                gradients, its_variables = zip(*own, strict=True)
                step = functools.partial(self._step, part, its_variables)
                run_if(moves.get(part, True), step, gradients)
        self._iterations.assign_add(1)

    def _step(self, part: str, variables: Sequence[Any], gradients: Sequence[Any]) -> None:
        with self._counting_batches(part):
            self._by_part[part].apply(list(gradients), list(variables))

    def due(self) -> dict[str, tf.Tensor]:
        """Returns, for parts that do not step at every batch, whether they step at the next one."""
        number, found = tf.convert_to_tensor(self._iterations), {}
        for part in [part for part in self._by_part if part in {**self.every, **self.start}]:
            every, start = self.every.get(part, 1), self.start.get(part, 0)
            found[part] = (number >= start) & (number % every == 0)
        return found

    @contextlib.contextmanager
    def moving(self, moves: Mapping[str, Any]) -> Iterator[None]:
        """Decides which parts step in an `apply` inside this context, whatever is due.

        Args:
            moves: Whether a part steps, a boolean scalar, by the part's name.

        Raises:
            ValueError: If a part has no optimizer of its own.
        """
        for part in moves:
            checks.option("moves", part, self._by_part)
        before, self._moves = self._moves, MappingProxyType(dict(moves))
        try:
            yield
        finally:
            self._moves = before

    @contextlib.contextmanager
    def _counting_batches(self, part: str) -> Iterator[None]:
        """Makes a schedule inside a part's optimizer count batches, not the steps of the part."""
        schedule = self._schedules.get(part)
        if schedule is None:
            yield
            return
        self._by_part[part]._learning_rate = lambda: schedule(self._iterations)
        try:
            yield
        finally:
            self._by_part[part]._learning_rate = schedule

    def part_of(self, variable: keras.Variable) -> str:
        """Returns the part of a variable that the optimizer was built with."""
        return self.parts[self._get_variable_index(variable)]

    def finalize_variable_values(self, var_list: Sequence[keras.Variable]) -> None:
        """Replaces variables by their averages in parts whose optimizer keeps averages."""
        for part, optimizer in self._by_part.items():
            own = [variable for variable in var_list if self.part_of(variable) == part]
            if own:
                optimizer.finalize_variable_values(own)

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of the constructor."""
        items = self._by_part.items()
        optimizers = {part: keras.optimizers.serialize(one) for part, one in items}
        counts = {"every": dict(self.every), "start": dict(self.start)}
        return {"optimizers": optimizers, "parts": list(self.parts), **counts, "name": self.name}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> PartOptimizer:
        """Returns the optimizer that a configuration describes."""
        optimizers = {
            part: keras.saving.deserialize_keras_object(one, custom_objects=custom_objects)
            for part, one in config["optimizers"].items()
        }
        return cls(**{**config, "optimizers": optimizers})


def _check_fit(part: str, optimizer: Any) -> None:
    if not isinstance(optimizer, keras.optimizers.Optimizer):
        raise checks.invalid(part, "must be an optimizer of Keras", optimizer)
    if isinstance(optimizer, (keras.optimizers.LossScaleOptimizer, PartOptimizer)):
        raise checks.invalid(part, "must not wrap others: loss scaling goes around all", optimizer)
    if optimizer.loss_scale_factor is not None:
        rule = "must have no loss_scale_factor: scaling goes around all, by a LossScaleOptimizer"
        raise checks.invalid(part, rule, optimizer.loss_scale_factor)
    if optimizer.built:
        raise checks.invalid(part, "must be new, not in use for other variables", optimizer)


def _common_accumulation(optimizers: Mapping[str, Any]) -> int | None:
    steps = {part: one.gradient_accumulation_steps for part, one in optimizers.items()}
    if len(set(steps.values())) != 1:
        rule = "must be at least one, and agree in their gradient_accumulation_steps"
        raise checks.invalid("optimizers", rule, steps)
    return next(iter(steps.values()))


def _counts(
    argument: str, given: Mapping[str, int] | None, parts: Mapping[str, Any], minimum: int
) -> dict[str, int]:
    """Returns numbers of batches by the part's name, or raises an error."""
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise checks.invalid(argument, "must be a dict of numbers by the part's name", given)
    unknown = [part for part in given if part not in parts]
    if unknown:
        rule = f"must be of parts with an optimizer of their own, of {list(parts)}"
        raise checks.invalid(argument, rule, dict(given))
    return {
        part: checks.integer(f"{argument}[{part!r}]", value, minimum)
        for part, value in given.items()
    }
