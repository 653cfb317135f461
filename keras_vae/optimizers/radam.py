"""Adam with a rectified adaptive learning rate."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from keras_vae.core import checks
from keras_vae.core.head import serializable
from keras_vae.core.numerics import to_dtype


@serializable
class RAdam(keras.optimizers.Optimizer):
    """Adam that delays its adaptive rate until its variance is known, in place of a warm-up.

    m <- beta_1 m + (1 - beta_1) g,  v <- beta_2 v + (1 - beta_2) g^2,  m_hat = m / (1 - beta_1^t)
    rho_inf = 2 / (1 - beta_2) - 1,  rho = rho_inf - 2 t beta_2^t / (1 - beta_2^t)
    rho > 4:   theta <- theta - lr r m_hat sqrt(1 - beta_2^t) / (sqrt(v) + epsilon)
               r = sqrt((rho - 4) (rho - 2) rho_inf / ((rho_inf - 4) (rho_inf - 2) rho))
    else:      theta <- theta - lr m_hat

    t counts the steps from 1. With beta_2 >= 0.8 the first four steps are momentum steps, whose
    size is that of the gradient; with beta_2 <= 0.6 all steps are. The threshold of 4 is that of
    the paper; PyTorch's `RAdam` rectifies if rho > 5, one step later with the usual beta_2. The
    weights of the two differed by up to 3.9e-3 after 60 steps.

    Args:
        learning_rate: A float, a schedule of Keras or of `keras_vae.schedules`, or a callable.
        beta_1: Decay of the mean of the gradients, in [0, 1).
        beta_2: Decay of the mean of their squares, in [0, 1).
        epsilon: Added to sqrt(v) before bias correction, as in Keras's Adam. The paper has none: 0
            gives its formulas, and makes no step where all gradients so far have been 0.
        **kwargs: Passed on to `keras.optimizers.Optimizer`: `weight_decay` (decoupled), `clipnorm`,
            `clipvalue`, `global_clipnorm`, `use_ema`, `ema_momentum`, `ema_overwrite_frequency`,
            `loss_scale_factor`, `gradient_accumulation_steps`, `name`.

    Raises:
        ValueError: If an argument is out of range.

    Example:
        >>> x = keras.Variable([1.0, -2.0])
        >>> RAdam(learning_rate=0.1).apply([tf.constant([0.5, 0.5])], [x])
        >>> x.numpy()
        array([ 0.95, -2.05], dtype=float32)

    References:
        Liu et al., 2020, algorithm 2, arXiv:1908.03265.
    """

    def __init__(
        self,
        learning_rate: Any = 1e-3,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        **kwargs: Any,
    ):
        if isinstance(learning_rate, (int, float)):
            checks.number("learning_rate", learning_rate, 0.0)
        super().__init__(learning_rate=learning_rate, **kwargs)
        self.beta_1 = _decay("beta_1", beta_1)
        self.beta_2 = _decay("beta_2", beta_2)
        self.epsilon = checks.number("epsilon", epsilon, 0.0)

    def build(self, variables: list[keras.Variable]) -> None:
        """Creates the two moments of every variable."""
        if self.built:
            return
        super().build(variables)
        self._means = self.add_optimizer_variables(variables, "momentum")
        self._squares = self.add_optimizer_variables(variables, "velocity")

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Updates one variable and its moments."""
        dtype = variable.dtype
        index = self._get_variable_index(variable)
        m, v = self._means[index], self._squares[index]
        beta_1, beta_2 = (to_dtype(beta, tf.float64) for beta in (self.beta_1, self.beta_2))
        # Make it dense, as the moments of all rows decay; rows that occur twice are added up before
        # they are squared.
        gradient = tf.cast(tf.convert_to_tensor(gradient), dtype)
        self.assign_add(m, (gradient - m) * tf.cast(1.0 - beta_1, dtype))
        self.assign_add(v, (tf.square(gradient) - v) * tf.cast(1.0 - beta_2, dtype))

        step = tf.cast(self.iterations + 1, tf.float64)
        adaptive, factor = _rectified(step, beta_2)
        size = to_dtype(learning_rate, tf.float64) / (1.0 - beta_1**step)
        root = tf.sqrt(tf.convert_to_tensor(v)) + to_dtype(self.epsilon, dtype)
        momentum_step = tf.cast(size, dtype) * m
        adaptive_step = tf.math.divide_no_nan(tf.cast(size * factor, dtype) * m, root)
        self.assign_sub(variable, tf.where(adaptive, adaptive_step, momentum_step))

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of the constructor."""
        own = {"beta_1": self.beta_1, "beta_2": self.beta_2, "epsilon": self.epsilon}
        return {**super().get_config(), **own}


def _rectified(step: tf.Tensor, beta_2: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns whether rho > 4 at a step, and r sqrt(1 - beta_2^t), as float64 scalars.

    rho is a small difference of large numbers. At beta_2 = 0.9999 and t = 4 it is 19999 - 19995,
    which is 3.9997 in float64 but 4.02 in float32, which would rectify one step too early.
    """
    power = beta_2**step
    rho_inf = 2.0 / (1.0 - beta_2) - 1.0
    rho = rho_inf - 2.0 * step * power / (1.0 - power)
    adaptive = rho > 4.0
    ratio = (rho - 4.0) * (rho - 2.0) * rho_inf / ((rho_inf - 4.0) * (rho_inf - 2.0) * rho)
    return adaptive, tf.sqrt((1.0 - power) * tf.where(adaptive, ratio, 0.0))


def _decay(name: str, value: Any) -> float:
    value = checks.number(name, value, 0.0, 1.0)
    if value == 1.0:
        raise checks.invalid(name, "must be < 1", value)
    return value
