"""What posteriors that draw z group by group have in common."""

from __future__ import annotations

import tensorflow as tf

from keras_vae.distributions.groups import GroupedDistribution
from keras_vae.posteriors.base import Posterior


class GroupedPosterior(Posterior):
    """A head for a q(z|x) that draws the groups of z one after another, each given those before.

    `distribution` returns a `GroupedDistribution`, whose marginal moments have no closed form.
    """

    def mean(self, q: GroupedDistribution) -> tf.Tensor:
        """Returns the mean of each group at the means of those drawn before it: `[B, D]`.

        Unless the conditionals are linear, only the part of the first group is E_q[z].
        """
        return q.means_along()

    def stddev(self, q: GroupedDistribution) -> tf.Tensor:
        """Returns the scale of each group at the means of those drawn before it: `[B, D]`.

        Only the scales of the first group are marginal standard deviations.
        """
        return q.stddevs_along()
