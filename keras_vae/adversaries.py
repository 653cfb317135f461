"""Losses of discriminators and of what they judge, as pure functions of logits.

Shapes: N judged examples, followed by patches or any other dimensions that a discriminator returns.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from keras_vae.core import checks

__all__ = [
    "LOSSES",
    "accuracy",
    "adaptive_weight",
    "discriminator_losses",
    "generator_loss",
    "gradient_penalty",
    "lecam",
    "permute_dimensions",
]

LOSSES = ("hinge", "non_saturating", "least_squares")


def discriminator_losses(
    real: tf.Tensor, fake: tf.Tensor, loss: str
) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the two terms of the discriminator's loss: on the data and on the fakes.

    hinge:           (1 - D(x))_+ / 2,     (1 + D(x'))_+ / 2
    non_saturating:  softplus(-D(x)),      softplus(D(x'))
    least_squares:   (D(x) - 1)^2 / 2,     D(x')^2 / 2

    Args:
        real: D at the data, logits of any shape.
        fake: D at the fakes, logits of any shape.
        loss: One of `LOSSES`.

    Returns:
        Tensors of the shapes of `real` and `fake`.

    Raises:
        ValueError: If the loss is unknown.

    Example:
        >>> real, fake = discriminator_losses(tf.constant([2.0]), tf.constant([0.5]), "hinge")
        >>> float(real[0]), float(fake[0])
        (0.0, 0.75)

    References:
        Lim and Ye, 2017, arXiv:1705.02894 (hinge); Goodfellow et al., 2014, eq. 1, arXiv:1406.2661;
        Mao et al., 2017, eq. 9, arXiv:1611.04076 (least squares).
    """
    checks.option("loss", loss, LOSSES)
    if loss == "hinge":
        return 0.5 * tf.nn.relu(1.0 - real), 0.5 * tf.nn.relu(1.0 + fake)
    if loss == "non_saturating":
        return tf.math.softplus(-real), tf.math.softplus(fake)
    return 0.5 * tf.square(real - 1.0), 0.5 * tf.square(fake)


def generator_loss(fake: tf.Tensor, loss: str) -> tf.Tensor:
    """Returns the loss that the generator of the fakes minimizes to make them pass for data.

    hinge: -D(x'),  non_saturating: softplus(-D(x')),  least_squares: (D(x') - 1)^2 / 2

    Args:
        fake: D at the fakes, logits of any shape.
        loss: One of `LOSSES`.

    Returns:
        Tensor of the shape of `fake`.

    Raises:
        ValueError: If the loss is unknown.

    Example:
        >>> float(generator_loss(tf.constant(0.5), "hinge"))
        -0.5

    References:
        Goodfellow et al., 2014, section 3, arXiv:1406.2661 (non-saturating); see
        `discriminator_losses` for the others.
    """
    checks.option("loss", loss, LOSSES)
    if loss == "hinge":
        return -fake
    if loss == "non_saturating":
        return tf.math.softplus(-fake)
    return 0.5 * tf.square(fake - 1.0)


def accuracy(real: tf.Tensor, fake: tf.Tensor, loss: str) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns ones where the discriminator is right, on the data and on the fakes, else zeros.

    right at x: D(x) > t,  right at x': D(x') < t,  t = 1/2 for least squares, 0 for the others

    Args:
        real: D at the data, logits of any shape.
        fake: D at the fakes, logits of any shape.
        loss: One of `LOSSES`.

    Returns:
        Tensors of the shapes of `real` and `fake`; 1/2 where D is at the threshold.

    Example:
        >>> right, wrong = accuracy(tf.constant([2.0]), tf.constant([0.5]), "hinge")
        >>> float(right[0]), float(wrong[0])
        (1.0, 0.0)
    """
    threshold = 0.5 if checks.option("loss", loss, LOSSES) == "least_squares" else 0.0
    return 0.5 + 0.5 * tf.sign(real - threshold), 0.5 - 0.5 * tf.sign(fake - threshold)


def gradient_penalty(
    judge: Callable[[tf.Tensor], tf.Tensor], x: tf.Tensor, batch_dims: int = 1
) -> tf.Tensor:
    """Returns R1, the penalty on the slope of a discriminator at the data.

    R1 = ||grad_x D(x)||^2 / 2;  for several logits per example, the slope of their mean

    Args:
        judge: Function from examples `[N, ...]` to logits `[N, ...]`, each example by itself.
        x: The data, `[N, ...]`.
        batch_dims: Number of dimensions for which N stands.

    Returns:
        The penalty of each example, `[N]`.

    Example:
        >>> gradient_penalty(lambda x: 3.0 * x, tf.constant([[2.0]])).numpy()
        array([4.5], dtype=float32)

    References:
        Mescheder et al., 2018, eq. 9, arXiv:1801.04406.
    """
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(x)
        logits = judge(x)
        mean = tf.reduce_mean(logits, axis=list(range(batch_dims, logits.shape.rank)))
    slope = tape.gradient(mean, x)
    axes = list(range(batch_dims, x.shape.rank))
    return 0.5 * tf.reduce_sum(tf.square(slope), axis=axes)


def lecam(
    real: tf.Tensor, fake: tf.Tensor, real_average: tf.Tensor, fake_average: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the two terms of the LeCam regularization: on the data and on the fakes.

    (D(x) - a')^2,  (D(x') - a)^2,  with the moving averages a and a' of D at data and at fakes

    Args:
        real: D at the data, logits of any shape.
        fake: D at the fakes, logits of any shape.
        real_average: The scalar a.
        fake_average: The scalar a'.

    Returns:
        Tensors of the shapes of `real` and `fake`.

    Example:
        >>> real, fake = lecam(*tf.constant([2.0, 0.5]), tf.constant(1.0), tf.constant(0.0))
        >>> float(real), float(fake)
        (4.0, 0.25)

    References:
        Tseng et al., 2021, eq. 5, arXiv:2104.03310.
    """
    return tf.square(real - fake_average), tf.square(fake - real_average)


def adaptive_weight(reconstruction: tf.Tensor, adversarial: tf.Tensor) -> tf.Tensor:
    """Returns the weight at which two losses pull equally on a kernel.

    lambda = clip(||grad_W L_rec|| / (||grad_W L_adv|| + 1e-4), 0, 1e4), with stopped gradient

    If a norm is not finite, which may happen in half precision, the weight is 0.

    Args:
        reconstruction: grad_W L_rec, of any shape.
        adversarial: grad_W L_adv, of that shape.

    Returns:
        A scalar, without gradient.

    Example:
        >>> float(adaptive_weight(tf.constant([3.0, 4.0]), tf.constant([0.0, 1.0]))).__round__(2)
        5.0

    References:
        Esser et al., 2021, eq. 7, arXiv:2012.09841, whose code adds 1e-4 instead of 1e-6.
    """
    ratio = tf.norm(reconstruction) / (tf.norm(adversarial) + 1e-4)
    finite = tf.math.is_finite(ratio)
    clipped = tf.clip_by_value(tf.where(finite, ratio, tf.zeros_like(ratio)), 0.0, 1e4)
    return tf.stop_gradient(clipped)


def permute_dimensions(z: tf.Tensor, seed: Any) -> tf.Tensor:
    """Returns codes with each dimension permuted over the batch, independently of the others.

    z'_bd = z_{pi_d(b) d}: draws from prod_d q(z_d) instead of q(z)

    Args:
        z: Codes `[..., B, D]`.
        seed: Stateless seed `[2]`.

    Returns:
        Tensor of the shape of z.

    Example:
        >>> z = permute_dimensions(tf.constant([[1.0, 10.0], [2.0, 20.0]]), seed=[0, 1])
        >>> tf.reduce_sum(z, axis=0).numpy()
        array([ 3., 30.], dtype=float32)

    References:
        Kim and Mnih, 2018, algorithm 1, arXiv:1802.05983.
    """
    columns = tf.linalg.matrix_transpose(z)  # [..., D, B]
    noise = tf.random.stateless_uniform(tf.shape(columns), seed, alg="philox")
    order = tf.argsort(noise, axis=-1)
    permuted = tf.gather(columns, order, axis=-1, batch_dims=z.shape.rank - 1)
    return tf.linalg.matrix_transpose(tf.ensure_shape(permuted, columns.shape))
