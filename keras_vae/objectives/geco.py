"""Generalized ELBO with constrained optimization."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

from keras_vae import bounds
from keras_vae.controllers import MovingAverage
from keras_vae.core import checks
from keras_vae.core.head import serializable
from keras_vae.objectives.base import Objective
from keras_vae.objectives.constraints import Constraint, Distance
from keras_vae.objectives.elbo import ELBO
from keras_vae.objectives.importance_weighted import ImportanceWeighted
from keras_vae.terms import Terms


@serializable
class GECO(Objective):
    """The lowest rate at which the reconstruction satisfies a constraint, as a Lagrangian.

    loss = KL(q(z|x) || p(z)) + sum_i lambda_i C_i

    `callbacks.GECO` adjusts the multipliers until the constraints are met, C_i = 0; without it,
    they stay as they are, and the loss is a plain Lagrangian. With an importance-weighted bound, q
    is replaced by q_IW, whose samples are those of q resampled by their normalized weights v:

    KL(q_IW || p) ~ -L_K + E_qIW[log p(x|z)],  E_qIW[f] ~ sum_k v_k f_k

    The constraint then applies to the reweighted posterior q_IW, and q itself can become wider than
    the prior: with K = 20, a linear model and a loose constraint, its standard deviation was 2.0.
    For `NegativeLogLikelihood(0)`, the loss is -L_K + (lambda - 1) E_qIW[-log p(x|z)], and for
    K = 1, it is the formula above with a sampled KL.

    The logs hold `constraint`, the mean of C, and, while the callback runs, `lambda` and
    `constraint_ma`, the moving average of C, which takes its place in the reported loss. With
    several constraints, each name ends with that of the constraint: `lambda_squared_error`.

    Args:
        constraint: One of `SquaredError`, `NegativeLogLikelihood`, `FeatureMatch`, `Distance`, a
            function of x and g(z) as `Distance` takes it, or a sequence of them.
        bound: `ELBO()`, the default, or `ImportanceWeighted(K)`; its estimator is used. The score
            function should have two samples or more, because a single one has no baseline here.
        initial_multiplier: λ at the start, > 0: a number, or one for each constraint.
        **kwargs: Passed on to `keras.layers.Layer`.

    Raises:
        ValueError: If an argument is not as above, or the estimator of an importance-weighted bound
            is neither `"reparameterized"` nor `"sticking_the_landing"`.

    Example:
        >>> from keras_vae.objectives import NegativeLogLikelihood
        >>> objective = GECO(NegativeLogLikelihood(80.0), initial_multiplier=2.0)
        >>> terms = Terms(log_p_x=tf.constant([[-90.0]]), log_p_z=tf.constant([[-3.0]]),
        ...               log_q=tf.constant([[-1.0]]), kl=tf.constant([[1.5, 0.5]]))
        >>> objective.loss(terms).numpy()  # 2 + 2 (90 - 80)
        array([22.], dtype=float32)

    References:
        Rezende and Viola, 2018, eq. 2 and algorithm 1, arXiv:1810.00597.
    """

    def __init__(
        self,
        constraint: Constraint | Callable[..., Any] | Sequence[Any],
        bound: Objective | None = None,
        initial_multiplier: float | Sequence[float] = 1.0,
        **kwargs: Any,
    ):
        bound = _checked_bound(ELBO() if bound is None else bound)
        super().__init__(num_samples=bound.num_samples, **kwargs)
        self.bound = bound
        self.pathwise, self.computes_with_z = bound.pathwise, bound.computes_with_z
        several = isinstance(constraint, (list, tuple))
        given: Sequence[Any] = constraint if several else [constraint]  # type: ignore[assignment]
        self.constraints = [_checked_constraint(one) for one in given]
        self._initial_multiplier = initial_multiplier
        values = _checked_multipliers(initial_multiplier, len(self.constraints))
        self.suffixes = _suffixes(self.constraints)
        self.measure_names = tuple("constraint" + suffix for suffix in self.suffixes)
        self.multipliers = [
            self.add_hyperparameter("lambda" + suffix, value)
            for suffix, value in zip(self.suffixes, values, strict=True)
        ]
        self._averages = [
            (self.add_state("constraint_ma" + suffix), self.add_state("constraint_seen" + suffix))
            for suffix in self.suffixes
        ]

    def loss(self, terms: Terms) -> tf.Tensor:
        return self.loss_and_measures(terms)[0]

    def loss_and_measures(self, terms: Terms) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        # Before the distances are computed, which may use log q too.
        terms = self.bound.estimator.prepare(terms)
        distances = [_distance(constraint, terms) for constraint in self.constraints]  # [S, B]
        loss, means = self.bound.rate_and_expectations(terms, distances)
        measures = {}
        parts = zip(self.constraints, means, self.multipliers, self.measure_names, strict=True)
        for constraint, mean, multiplier, name in parts:
            measures[name] = mean - tf.cast(constraint.tolerance(), mean.dtype)
            loss = bounds.lagrangian(loss, measures[name], tf.cast(multiplier, loss.dtype))
        return loss, measures

    def moving_averages(self, decay: float) -> list[MovingAverage]:
        """Returns the rule for the moving average of each constraint, for `callbacks.GECO`."""
        parts = zip(self.suffixes, self._averages, self.measure_names, strict=True)
        return [
            MovingAverage("constraint_ma" + suffix, *weights, measure=name, decay=decay)
            for suffix, weights, name in parts
        ]

    def get_config(self) -> dict[str, Any]:
        serialize = keras.saving.serialize_keras_object
        return {
            **super().get_config(),
            "constraint": [serialize(constraint) for constraint in self.constraints],
            "bound": serialize(self.bound),
            "initial_multiplier": self._initial_multiplier,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> GECO:
        revive = keras.saving.deserialize_keras_object
        constraints = [revive(constraint) for constraint in config["constraint"]]
        return cls(**{**config, "constraint": constraints, "bound": revive(config["bound"])})


def _checked_bound(bound: Any) -> ELBO | ImportanceWeighted:
    if not isinstance(bound, (ELBO, ImportanceWeighted)):
        raise checks.invalid("bound", "must be an ELBO or an ImportanceWeighted", bound)
    if bound.loss_parts:
        # GECO minimizes one Lagrangian of its rate and expectations, not its loss.
        raise checks.invalid("bound", "must not have losses by part", bound.loss_parts)
    if isinstance(bound, ImportanceWeighted):
        name, known = bound.estimator.name, ("reparameterized", "sticking_the_landing")
        if name not in known or bound.elbo_weight > 0.0:
            # Their gradients are made for L_K alone, and would be wrong for E_qIW.
            rule = f"must have an estimator of {list(known)} and elbo_weight 0"
            raise checks.invalid("bound", rule, f"estimator {name!r}, {bound.elbo_weight}")
    return bound


def _checked_constraint(constraint: Any) -> Constraint:
    if isinstance(constraint, Constraint):
        return constraint
    if callable(constraint) and not isinstance(constraint, type):
        return Distance(constraint)
    rule = "must be a Constraint such as SquaredError(kappa), a function, or a sequence of them"
    raise checks.invalid("constraint", rule, constraint)


def _distance(constraint: Constraint, terms: Terms) -> tf.Tensor:
    """Returns the distance of a constraint, `[S, B]`, or raises."""
    shape = terms.log_p_x.shape
    distance = tf.cast(constraint.distance(terms), terms.log_p_x.dtype)
    if not distance.shape.is_compatible_with(shape):
        # A mean over the samples, say, would be broadcast to something else.
        rule = f"must give a distance of every sample of z, shape {shape}"
        raise checks.invalid("constraint", rule, f"{constraint.label} of shape {distance.shape}")
    return distance


def _checked_multipliers(values: Any, count: int) -> tuple[float, ...]:
    several = isinstance(values, (list, tuple))
    numbers = tuple(values) if several else (values,) * count
    if not count or len(numbers) != count:
        rule = f"must be one number, or one for each of the {count} constraints"
        raise checks.invalid("initial_multiplier", rule, values)
    return tuple(checks.number("initial_multiplier", n, 0.0, exclusive=True) for n in numbers)


def _suffixes(constraints: Sequence[Constraint]) -> list[str]:
    """Returns the suffixes that tell the constraints apart in names; a single one needs none."""
    if len(constraints) == 1:
        return [""]
    labels = [constraint.label for constraint in constraints]
    numbered = [f"{label}_{labels[:i].count(label) + 1}" for i, label in enumerate(labels)]
    pairs = zip(labels, numbered, strict=True)
    suffixes = ["_" + (unique if labels.count(label) > 1 else label) for label, unique in pairs]
    if len(set(suffixes)) < len(suffixes):
        raise checks.invalid("constraint", "must have labels that numbers keep apart", labels)
    return suffixes
