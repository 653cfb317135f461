"""The base class of all schedules."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import tensorflow as tf

from keras_vae.core import checks
from keras_vae.core.figures import frame_lightly, new_figure
from keras_vae.core.numerics import to_dtype

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAX_POINTS = 4000  # Points of a drawn line; a screen has fewer.


class Schedule(keras.optimizers.schedules.LearningRateSchedule):
    """A function of the optimizer step for β, the learning rate or any other hyperparameter.

    value = schedule(t),  t = 0, 1, 2, ...

    Subclasses implement `value_at` and `get_config`. Internally, steps and values are float64, so
    that every step up to 2^53 is distinct; the result has the dtype of `keras.config.floatx()`. A
    float32 result is the same in eager mode, in a graph and under XLA, except for differences of
    about 1e-16 where a value crosses 0. Steps below 0 count as 0.

    Example:
        >>> class Root(Schedule):
        ...     def value_at(self, t):
        ...         return tf.sqrt(t)
        >>> Root()([0, 4, 9]).numpy()
        array([0., 2., 3.], dtype=float32)
    """

    def __call__(self, step: Any) -> tf.Tensor:
        """Returns the value at an optimizer step, or the values at several.

        Args:
            step: Steps of any shape, integers or floats: numbers, arrays, tensors or variables.

        Returns:
            Tensor with the shape of `step` and the dtype of `keras.config.floatx()`.
        """
        return tf.cast(self.exactly_at(step), keras.config.floatx())

    def exactly_at(self, step: Any) -> tf.Tensor:
        """Returns the same values as a call, but in float64."""
        return self.value_at(tf.maximum(to_dtype(step, tf.float64), 0.0))

    def value_at(self, t: tf.Tensor) -> tf.Tensor:
        """Returns the values at steps t >= 0; t and the result are float64, of the same shape."""
        raise NotImplementedError(f"{type(self).__name__} must implement `value_at`.")

    def get_config(self) -> dict[str, Any]:
        return {}

    def __repr__(self) -> str:
        arguments = ", ".join(f"{name}={getattr(self, name)!r}" for name in self.get_config())
        return f"{type(self).__name__}({arguments})"

    def plot(self, steps: int | tuple[int, int]) -> Figure:
        """Draws the schedule.

        Args:
            steps: The last step, or the first and the last.

        Returns:
            A matplotlib `Figure`.

        Raises:
            ValueError: If the last step does not come after the first.
        """
        first, last = _span(steps)
        points = min(last - first, MAX_POINTS) + 1
        t = np.unique(np.linspace(first, last, points).round().astype(np.int64))
        figure = new_figure(7.0, 3.2)
        axes = figure.subplots()
        axes.plot(t, np.asarray(self(t)), linewidth=1.8)
        axes.set(xlabel="optimizer step", ylabel="value", title=type(self).__name__)
        frame_lightly(axes)
        return figure


def _span(steps: Any) -> tuple[int, int]:
    if not isinstance(steps, (tuple, list)):
        return 0, checks.integer("steps", steps)
    if len(steps) != 2:
        raise checks.invalid("steps", "must be an integer or a pair (first, last)", steps)
    first, last = (checks.integer("steps", step, minimum=0) for step in steps)
    if first >= last:
        raise checks.invalid("steps", "must have first < last", steps)
    return first, last
