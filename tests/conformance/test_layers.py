"""Every head and every network does what all of its kind must."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests import contracts, registry
from tests.small_models import randomize


def names(room):
    layers = {n for n, kind in registry.saved_classes().items() if issubclass(kind, keras.Layer)}
    return [name for name in sorted(registry.ARGUMENTS) if name.startswith(room) and name in layers]


@pytest.mark.first_is_quick
@pytest.mark.parametrize("name", names("posteriors."))
def test_posterior(name):
    contracts.check_posterior(name)


@pytest.mark.first_is_quick
@pytest.mark.parametrize("name", names("priors."))
def test_prior(name):
    contracts.check_prior(name)


@pytest.mark.first_is_quick
@pytest.mark.parametrize("name", [n for n in names("networks.") if not n.endswith("Bias")])
def test_network(name, tmp_path):
    contracts.check_network(name, tmp_path)


# What has loops, gradients or densities of its own. What is not here is made of layers of Keras, or
# of what is here, or is too large to be compiled twice.
LAYERS = [n for n in names("posteriors.") + names("priors.") if not n.startswith("priors.Pixel")]
LAYERS += ["networks.BottomUp", "networks.SpectralNormalization"]


@pytest.mark.full
@pytest.mark.parametrize("name", LAYERS)
def test_xla_in_mixed_precision(name):
    layer, outputs = contracts.rooms()[name.partition(".")[0]](name, "mixed_bfloat16")
    randomize(layer)
    weights = layer.trainable_weights
    compiled = contracts.in_mode(lambda: contracts.with_gradients(outputs, weights), "xla")
    found, gradients = compiled()
    contracts.check_gradients(weights, gradients)
    assert [value.dtype for value in found] == [value.dtype for value in outputs()]
    assert all(np.all(np.isfinite(tf.cast(value, "float32"))) for value in found)
