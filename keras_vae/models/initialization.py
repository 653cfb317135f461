"""The initialization of a decoder."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from keras_vae.core import checks
from keras_vae.networks import OutputBias
from keras_vae.training.data import Data


def initialize_output_bias(model: Any, data: Any) -> None:
    """Makes p(x|z) of a `VAE` start at the mean of the data; see `VAE.initialize_output_bias`."""
    layers = model.decoder._flatten_layers()
    biases = [layer for layer in layers if isinstance(layer, OutputBias)]
    if not biases or tuple(biases[-1].bias.shape) != model.likelihood_head.params_shape:
        rule = "must end with keras_vae.networks.OutputBias()"
        raise checks.invalid("decoder", rule, model.decoder)
    data = Data.of("data", data)
    data.check_ends()
    total, count = 0.0, 0
    for x, _ in data.checked_batches(model._checked):
        total, count = total + tf.reduce_sum(x, axis=0), count + len(x)
    mean = total / count  # [*event_shape]
    biases[-1].bias.assign(model.likelihood_head.params_from_mean(mean))
