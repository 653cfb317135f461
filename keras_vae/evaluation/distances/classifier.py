"""Features of your own classifier."""

from __future__ import annotations

import os
from typing import Any

import keras

from keras_vae.core import checks


def classifier_features(model: Any) -> keras.Model:
    """Returns the feature extractor of a classifier: the input of its last dense layer.

    f(x) = h(x),  where logits(x) = W h(x) + b

    A small classifier trained on the data themselves is more informative about digits or clothes
    than a network for photographs; `examples/train_classifier.py` trains one. Distances can be
    compared only if their features come from the very same classifier.

    Args:
        model: A Keras classifier, Functional or Sequential, whose last layer with weights is
            `Dense`; or the path of one in a `.keras` file.

    Returns:
        Keras model from images to features `[B, F]`, with the layers of the classifier.

    Raises:
        ValueError: If the model is not such a classifier, or there is no such file.

    Example:
        >>> import numpy as np
        >>> classifier = keras.Sequential([
        ...     keras.Input([8, 8, 1]),
        ...     keras.layers.Flatten(),
        ...     keras.layers.Dense(32, activation="relu"),
        ...     keras.layers.Dense(10, activation="softmax")])
        >>> classifier_features(classifier)(np.zeros([4, 8, 8, 1])).shape
        TensorShape([4, 32])

    References:
        Heusel et al., 2017, arXiv:1706.08500 (features of a classifier); Binkowski et al., 2018,
        arXiv:1801.01401 (of one for MNIST).
    """
    if isinstance(model, (str, os.PathLike)):
        if not os.path.isfile(model):
            raise checks.invalid("model", "must be a Keras model or the path of its file", model)
        model = keras.saving.load_model(model)
    inputs = getattr(model, "inputs", None) if isinstance(model, keras.Model) else None
    if not inputs or len(inputs) != 1:
        rule = "must be a Functional or Sequential Keras model that is built, of one input"
        raise checks.invalid("model", rule, model)
    with_weights = [layer for layer in model.layers if layer.weights]
    if not with_weights or not isinstance(with_weights[-1], keras.layers.Dense):
        rule = "must end with a Dense layer; of others, write the function of its features"
        raise checks.invalid("model", rule, with_weights[-1:])
    return keras.Model(inputs[0], with_weights[-1].input, name="features")
