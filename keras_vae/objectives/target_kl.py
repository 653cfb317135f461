"""The ELBO whose β holds the KL at a target."""

from __future__ import annotations

from typing import Any

from keras_vae.core import checks
from keras_vae.core.head import serializable
from keras_vae.objectives.elbo import ELBO


@serializable
class TargetKL(ELBO):
    """The negative ELBO, with β adjusted by a controller until the KL is at a target (ControlVAE).

    loss = -E_q[log p(x|z)] + beta KL(q(z|x) || p(z))

    `callbacks.KLController` adjusts β, starting from its value here; without it, β is constant.

    Args:
        target: The desired KL in nats, > 0, drivable as `"target_kl"`.
        beta: Weight of the KL at the start, >= 0.
        **kwargs: Passed on to `ELBO`.

    Raises:
        ValueError: If an argument is out of its range or unknown.

    Example:
        >>> objective = TargetKL(20.0, beta=0.0)
        >>> sorted(objective.hyperparameters)
        ['beta', 'free_bits', 'target_kl']

    References:
        Shao et al., 2020, algorithm 1, arXiv:2004.05988.
    """

    def __init__(self, target: float, beta: float = 1.0, **kwargs: Any):
        super().__init__(beta=beta, **kwargs)
        self._initial_target = checks.number("target", target, 0.0, exclusive=True)
        self.target = self.add_hyperparameter("target_kl", self._initial_target)
        # The part of β that the controller accumulates: what β would be without an error.
        self.integral = self.add_state("integral", beta)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "target": self._initial_target}
