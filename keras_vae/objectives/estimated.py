"""What objectives of E_q[log p(x|z)] have in common: samples of z, and an estimator."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from keras_vae.controllers import MovingAverage
from keras_vae.objectives import estimators
from keras_vae.objectives.base import Objective
from keras_vae.terms import Terms

BASELINE_DECAY = 0.99


class Estimated(Objective):
    """An objective that averages log p(x|z) over samples and takes its gradient by an estimator.

    Args:
        num_samples: Number of samples of z for every x.
        estimator: How the encoder's gradient is estimated, one of `KNOWN_ESTIMATORS`.
        baseline: `"leave_one_out"` or `"none"`, for the score function.
        **kwargs: Passed on to `keras.layers.Layer`.
    """

    KNOWN_ESTIMATORS: tuple[str, ...] = (
        "reparameterized",
        "sticking_the_landing",
        "score_function",
    )

    def __init__(
        self,
        *,
        num_samples: int = 1,
        estimator: str = "reparameterized",
        baseline: str = "leave_one_out",
        **kwargs: Any,
    ):
        super().__init__(num_samples=num_samples, **kwargs)
        self.baseline = baseline
        self.estimator = estimators.get(estimator, baseline, self.KNOWN_ESTIMATORS)
        self.pathwise = self.estimator.pathwise
        if not self.pathwise and self.num_samples == 1 and baseline != "none":
            average = self.add_state("distortion_average")
            rule = (average, self.add_state("distortion_seen"), "reconstruction", BASELINE_DECAY)
            self.controllers = (MovingAverage("distortion_average", *rule),)

    def _log_p_x(self, terms: Terms) -> tf.Tensor:
        """Returns log p(x|z) of prepared terms with the estimator's gradient, `[S, B]`."""
        average = self.controllers[0].variable if self.controllers else 0.0
        return self.estimator.expectation(terms.log_p_x, terms, baseline=-average)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "num_samples": self.num_samples,
            "estimator": self.estimator.name,
            "baseline": self.baseline,
        }
