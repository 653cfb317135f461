"""The distortion at a given KL."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from keras_vae import bounds, penalties
from keras_vae.core import checks
from keras_vae.core.head import serializable
from keras_vae.objectives.estimated import Estimated
from keras_vae.terms import Terms
from keras_vae.training.replicas import global_batch_mean


@serializable
class Capacity(Estimated):
    """The distortion, with the mean KL held at a capacity C.

    loss = -E_q[log p(x|z)] + gamma |KL(q(z|x) || p(z)) - C|

    The KL is the mean over the batch of all replicas. C usually grows during training:
    `callbacks.HyperparameterSchedule("capacity", schedules.Linear(0.0, 25.0, steps))`.

    Args:
        capacity: C >= 0 in nats, drivable as `"capacity"`.
        gamma: Weight γ >= 0, drivable as `"gamma"`.
        **kwargs: `num_samples`, `estimator` and `baseline` as for `ELBO`, and the arguments of
            `keras.layers.Layer`.

    Raises:
        ValueError: If an argument is out of its range or unknown.

    Example:
        >>> terms = Terms(log_p_x=tf.constant([[-80.0]]), log_p_z=tf.constant([[-3.0]]),
        ...               log_q=tf.constant([[-1.0]]), kl=tf.constant([[1.5, 0.5]]))
        >>> Capacity(5.0, gamma=10.0).loss(terms).numpy()  # 80 + 10 |2 - 5|
        array([110.], dtype=float32)

    References:
        Burgess et al., 2018, eq. 8, arXiv:1804.03599.
    """

    def __init__(self, capacity: float, gamma: float = 1000.0, **kwargs: Any):
        super().__init__(**kwargs)
        self._initial_capacity = checks.number("capacity", capacity, minimum=0.0)
        self._initial_gamma = checks.number("gamma", gamma, minimum=0.0)
        self.capacity = self.add_hyperparameter("capacity", self._initial_capacity)
        self.gamma = self.add_hyperparameter("gamma", self._initial_gamma)

    def loss(self, terms: Terms) -> tf.Tensor:
        terms = self.estimator.prepare(terms)
        kl = tf.reduce_sum(self.estimator.kl(terms), axis=-1)
        batch_mean = global_batch_mean(tf.stop_gradient(kl))
        distance = penalties.capacity(kl, tf.cast(self.capacity, kl.dtype), batch_mean)
        return -bounds.elbo(self._log_p_x(terms), distance, tf.cast(self.gamma, kl.dtype))

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "capacity": self._initial_capacity,
            "gamma": self._initial_gamma,
        }
