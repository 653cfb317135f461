"""Rules that move one number of a model inside the train step, once per optimizer step."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

__all__ = ["Controller", "MovingAverage", "MultiplierRule", "PIRule", "ScheduledValue"]

Updates = Sequence[tuple[keras.Variable, tf.Tensor]]


class Controller:
    """A rule for one number of the model.

    `LatentVariableModel.attach` puts it into the train step; a callback does so for the length of
    a training. The rule runs in the graph, so it is exact under `steps_per_execution`, on several
    replicas and after a resume. What it remembers must be weights of the model.

    Args:
        name: Name of the number, as in `model.hyperparameters` and in the logs.
        variable: The weight that holds it.

    Attributes:
        feedback: Names of the measures whose means `after_step` wants: `"reconstruction"`, `"kl"`,
            `"elbo"`, or one of the objective's own.

    Example:
        >>> class Doubling(Controller):
        ...     def before_step(self, step):
        ...         self.variable.assign(2.0 * self.variable)
        >>> beta = keras.Variable(0.5)
        >>> Doubling("beta", beta).before_step(tf.constant(0))
        >>> float(beta)
        1.0
    """

    feedback: tuple[str, ...] = ()

    def __init__(self, name: str, variable: keras.Variable):
        self.name = name
        self.variable = variable

    @property
    def key(self) -> tuple[Any, ...]:
        """What a traced step depends on: controllers with equal keys do the same."""
        return self.name, id(self.variable), id(self)

    @property
    def logged(self) -> dict[str, keras.Variable]:
        """The numbers that go to the logs, by name."""
        return {self.name: self.variable}

    def before_step(self, step: tf.Tensor) -> None:
        """Sets the number for an optimizer step: open loop.

        Args:
            step: `optimizer.iterations` before the step, from 0: an int64 scalar.
        """

    def after_step(self, step: tf.Tensor, means: Mapping[str, tf.Tensor]) -> Updates:
        """Says what weights become for the next step: closed loop.

        Args:
            step: `optimizer.iterations` before the step, from 0: an int64 scalar.
            means: Means of the measures in `feedback` over the batch of all replicas, scalars.

        Returns:
            Pairs of a weight and its new value, which it gets if the optimizer made the step.
        """
        return ()

    def loss_shift(self, means: Mapping[str, tf.Tensor]) -> tf.Tensor | float:
        """Returns what the reported loss of a training step has in addition, without gradient."""
        return 0.0


class ScheduledValue(Controller):
    """Open loop: at step t the number is `schedule(t)`.

    Args:
        name: Name of the number.
        variable: The weight that holds it.
        schedule: Function of the step, such as one of `keras_vae.schedules`.

    Example:
        >>> import keras_vae as kv
        >>> beta = keras.Variable(1.0)
        >>> ScheduledValue("beta", beta, kv.schedules.Linear(0.0, 1.0, steps=4)).before_step(1)
        >>> float(beta)
        0.25
    """

    def __init__(self, name: str, variable: keras.Variable, schedule: Any):
        super().__init__(name, variable)
        self.schedule = schedule

    @property
    def key(self) -> tuple[Any, ...]:
        return self.name, id(self.variable), id(self.schedule)

    def before_step(self, step: tf.Tensor) -> None:
        self.variable.assign(tf.cast(self.schedule(step), self.variable.dtype))


class MovingAverage(Controller):
    """The exponential moving average of a measure, which starts at the first mean it sees.

    C_ma <- decay * C_ma + (1 - decay) * C

    Args:
        name: Name of the average.
        variable: The weight that holds C_ma.
        seen: The weight that tells whether C_ma holds anything yet, 0 at the start.
        measure: Name of the measure C.
        decay: How much is kept at a step, in [0, 1).

    Example:
        >>> average, seen = keras.Variable(0.0), keras.Variable(0.0)
        >>> rule = MovingAverage("kl_average", average, seen, "kl", decay=0.5)
        >>> for mean in (8.0, 4.0):
        ...     for weight, value in rule.after_step(0, {"kl": tf.constant(mean)}):
        ...         _ = weight.assign(value)
        >>> float(average)
        6.0
    """

    def __init__(
        self,
        name: str,
        variable: keras.Variable,
        seen: keras.Variable,
        measure: str,
        decay: float,
    ):
        super().__init__(name, variable)
        self.seen = seen
        self.measure = measure
        self.decay = decay
        self.feedback = (measure,)

    def next(self, means: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """Returns the average once it has seen these means."""
        decay = self.decay * tf.convert_to_tensor(self.seen)
        mean = tf.cast(means[self.measure], self.variable.dtype)
        return mean + decay * (self.variable - mean)

    def after_step(self, step: tf.Tensor, means: Mapping[str, tf.Tensor]) -> Updates:
        return [
            (self.variable, self.next(means)),
            (self.seen, tf.ones((), self.seen.dtype)),
        ]


class MultiplierRule(Controller):
    """Closed loop: a Lagrange multiplier grows while its constraint is violated.

    C_ma <- alpha * C_ma + (1 - alpha) * C
    lambda <- lambda * clip(exp(eta * C_ma)), every so many steps

    λ moves on a logarithmic scale, so it stays positive, and within bounds. The reported loss of a
    training step has C_ma in place of C: its gradient is that of C.

    Args:
        name: Name of the multiplier.
        variable: The weight that holds λ.
        average: The rule of C_ma.
        learning_rate: η, per unit of the constraint.
        clip: Least and largest factor of one update.
        bounds: Least and largest λ.
        every: Steps from one update to the next.
        warmup_steps: First steps, at which λ stays.

    Example:
        >>> c, seen, multiplier = (keras.Variable(value) for value in (0.0, 0.0, 1.0))
        >>> average = MovingAverage("constraint_ma", c, seen, "constraint", decay=0.99)
        >>> rule = MultiplierRule("lambda", multiplier, average, 0.1, clip=(0.5, 2.0))
        >>> updates = rule.after_step(tf.constant(0), {"constraint": tf.constant(2.0)})
        >>> round(float(updates[-1][1]), 4)  # exp(0.1 * 2)
        1.2214

    References:
        Rezende and Viola, 2018, algorithm 1, arXiv:1810.00597.
    """

    def __init__(
        self,
        name: str,
        variable: keras.Variable,
        average: MovingAverage,
        learning_rate: float,
        clip: tuple[float, float] = (0.9, 1.1),
        bounds: tuple[float, float] = (1e-6, 1e6),
        every: int = 1,
        warmup_steps: int = 0,
    ):
        super().__init__(name, variable)
        self.average = average
        self.learning_rate = learning_rate
        self.clip = clip
        self.bounds = bounds
        self.every = every
        self.warmup_steps = warmup_steps
        self.feedback = average.feedback

    @property
    def key(self) -> tuple[Any, ...]:
        numbers = (self.learning_rate, self.average.decay, *self.clip, *self.bounds)
        return self.name, id(self.variable), *numbers, self.every, self.warmup_steps

    @property
    def logged(self) -> dict[str, keras.Variable]:
        return {**super().logged, **self.average.logged}

    def after_step(self, step: tf.Tensor, means: Mapping[str, tf.Tensor]) -> Updates:
        log_low, log_high = map(math.log, self.clip)
        # Before the exponential, which a violation of 100 would make infinite.
        exponent = tf.clip_by_value(
            self.learning_rate * self.average.next(means), log_low, log_high
        )
        moved = tf.clip_by_value(self.variable * tf.exp(exponent), *self.bounds)
        count = tf.cast(step, tf.int64) + 1
        due = (count % self.every == 0) & (count > self.warmup_steps)
        value = tf.where(due, moved, tf.convert_to_tensor(self.variable))
        return [*self.average.after_step(step, means), (self.variable, value)]

    def loss_shift(self, means: Mapping[str, tf.Tensor]) -> tf.Tensor:
        mean = tf.cast(means[self.average.measure], self.variable.dtype)
        return self.variable * (self.average.next(means) - mean)


class PIRule(Controller):
    """Closed loop: a proportional-integral controller of β that holds the KL at a target.

    e = target - KL,  I <- clip(I - K_i e),  beta <- clip(K_p / (1 + exp(e)) + I)

    Both are clipped to the bounds of β, so that I does not wind up while β is at one. Published
    versions start with I = 0 and add the lower bound to β; here I starts at any β and includes it.

    Args:
        name: Name of the number, β.
        variable: The weight that holds it.
        integral: The weight that holds I, at the start the first β.
        target: The weight that holds the target, nats.
        proportional: K_p >= 0.
        integral_gain: K_i >= 0.
        bounds: Least and largest β.

    Example:
        >>> beta, integral, target = (keras.Variable(value) for value in (1.0, 0.0, 10.0))
        >>> rule = PIRule("beta", beta, integral, target, 0.01, 0.001, bounds=(0.0, 1.0))
        >>> updates = rule.after_step(tf.constant(0), {"kl": tf.constant(30.0)})
        >>> round(float(updates[-1][1]), 4)  # the KL is too large: I = 0.02, and K_p in full
        0.03

    References:
        Shao et al., 2020, algorithm 1, arXiv:2004.05988.
    """

    feedback = ("kl",)

    def __init__(
        self,
        name: str,
        variable: keras.Variable,
        integral: keras.Variable,
        target: keras.Variable,
        proportional: float,
        integral_gain: float,
        bounds: tuple[float, float],
    ):
        super().__init__(name, variable)
        self.integral = integral
        self.target = target
        self.proportional = proportional
        self.integral_gain = integral_gain
        self.bounds = bounds

    @property
    def key(self) -> tuple[Any, ...]:
        numbers = (self.proportional, self.integral_gain, *self.bounds)
        return self.name, id(self.variable), *numbers

    def after_step(self, step: tf.Tensor, means: Mapping[str, tf.Tensor]) -> Updates:
        error = self.target - tf.cast(means["kl"], self.variable.dtype)
        integral = tf.clip_by_value(self.integral - self.integral_gain * error, *self.bounds)
        beta = self.proportional * tf.sigmoid(-error) + integral
        return [
            (self.integral, integral),
            (self.variable, tf.clip_by_value(beta, *self.bounds)),
        ]
