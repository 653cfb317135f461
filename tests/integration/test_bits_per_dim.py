"""Bits per dimension in the logs of discrete data, and nowhere else."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_vae as kv


@pytest.mark.parametrize(
    ("likelihood", "dimensions"),
    [
        (lambda: kv.likelihoods.DiscretizedLogisticMixture((8, 8, 3), 2), 192),
        (lambda: kv.likelihoods.Categorical((2, 3), 5), 6),  # A class is one dimension, not five.
        (lambda: kv.likelihoods.Categorical((2, 3), 2), None),
        (lambda: kv.likelihoods.Bernoulli((2, 3)), None),
        (lambda: kv.likelihoods.ContinuousBernoulli((2, 3)), None),
        (lambda: kv.likelihoods.Normal((2, 3)), None),
    ],
)
def test_which_likelihoods_are_measured_in_bits(likelihood, dimensions):
    assert likelihood().discrete_dimensions == dimensions


def uniform_classes():
    """Return a model of 8 equally probable classes that knows nothing of x: 3 bits each."""
    return kv.VAE(
        encoder=keras.Sequential([keras.Input((5, 8)), keras.layers.Rescaling(0.0)]),
        decoder=keras.Sequential(
            [
                keras.Input((2,)),
                keras.layers.Dense(40, kernel_initializer="zeros"),
                keras.layers.Reshape((5, 8)),
            ]
        ),
        posterior=kv.posteriors.DiagonalNormal(2),
        likelihood=kv.likelihoods.Categorical((5,), 8),
        objective=kv.objectives.ELBO(beta=0.0),
    )


@pytest.mark.first_is_quick
@pytest.mark.parametrize("kind", ["one", "replicas"])
def test_eight_equal_classes_take_three_bits(kind, request):
    """Fails for nats, a division by 5 x 8, the loss (whose beta is 0), and unequal batches."""
    strategy = request.getfixturevalue("replicas") if kind == "replicas" else None
    with strategy.scope() if strategy else tf.device("CPU:0"):
        model = uniform_classes()
        model.compile(keras.optimizers.SGD(0.0), run_eagerly=True)
    x = np.random.default_rng(0).integers(8, size=(22, 5))
    logs = model.fit(x, validation_data=x, batch_size=16, verbose=0).history
    for found in (logs["bits_per_dim"][0], logs["val_bits_per_dim"][0]):
        np.testing.assert_allclose(found, 3.0, rtol=1e-6)
    measured = model.evaluate(x, batch_size=16, verbose=0, return_dict=True)
    np.testing.assert_allclose(measured["bits_per_dim"], 3.0, rtol=1e-6)
    assert model.evaluate(x, batch_size=16, verbose=0)[:4] == [
        measured[name] for name in ("loss", "elbo", "reconstruction", "kl")
    ]


@pytest.mark.full
def test_colour_photographs(tfds_data_dir):
    """A short training on CIFAR-10 comes below the 8 bits of a uniform guess, above any record."""
    options = {"dtype": "uint8", "batch_size": 32, "data_dir": tfds_data_dir}
    train = kv.data.load("cifar10", split="train", **options).take(20)
    likelihood = kv.likelihoods.DiscretizedLogisticMixture((32, 32, 3), 3)
    model = kv.VAE(
        encoder=kv.networks.ConvEncoder((16, 16)),
        decoder=kv.networks.ConvDecoder(likelihood.params_shape, (16, 16)),
        posterior=kv.posteriors.DiagonalNormal(8),
        likelihood=likelihood,
    )
    model.compile(keras.optimizers.Adam(3e-3))
    logs = model.fit(train, validation_data=train, epochs=2, verbose=0).history
    expected = -np.array(logs["val_elbo"]) / (np.log(2.0) * 32 * 32 * 3)
    np.testing.assert_allclose(logs["val_bits_per_dim"], expected, rtol=1e-6)
    assert 2.5 < logs["val_bits_per_dim"][-1] < min(8.0, logs["bits_per_dim"][0])
