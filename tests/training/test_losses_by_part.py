"""One forward pass, several losses: each part of a model follows its own."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_vae as kv

SHAPE = (4, 4, 1)


@keras.saving.register_keras_serializable(package="tests")
class TwoLosses(kv.objectives.ELBO):
    """The decoder minimizes the distortion alone, all else the negative ELBO."""

    loss_parts = ("decoder",)

    def loss(self, terms):
        return {"": super().loss(terms), "decoder": 3.0 * terms.reconstruction}


def make(objective, optimizer=None, **options):
    keras.utils.set_random_seed(0)
    model = kv.VAE(
        encoder=kv.networks.MLPEncoder((6,)),
        decoder=kv.networks.MLPDecoder(SHAPE, (6,)),
        posterior=kv.posteriors.DiagonalNormal(2),
        prior=kv.priors.MixtureOfNormals(2, 3),
        likelihood=kv.likelihoods.Bernoulli(SHAPE),
        objective=objective,
    )
    model.compile(optimizer or keras.optimizers.SGD(0.1), **options)
    return model


@pytest.fixture
def x():
    return (np.random.default_rng(0).random((8, *SHAPE)) < 0.5).astype("float32")


def expected_steps(x, jit_compile):
    """Return how far each variable moves, by a tape for each loss."""
    model = make(kv.objectives.ELBO())
    own = {id(v) for v in model.trainable_parts["decoder"]}

    @tf.function(jit_compile=jit_compile, autograph=False)  # XLA draws normal numbers of its own.
    def steps():
        with tf.GradientTape(persistent=True) as tape:
            # The noise of the first step of training.
            seed = model.training_step._seed("train", model.trained_batches, tf.constant(0))
            terms = model.compute_terms(tf.constant(x), 1, True, seed)
            elbo, decoder = -tf.reduce_mean(terms.elbo), 3.0 * tf.reduce_mean(terms.reconstruction)
        variables = model.trainable_variables
        return [-0.1 * tape.gradient(decoder if id(v) in own else elbo, v) for v in variables]

    return [step.numpy() for step in steps()]


@pytest.mark.first_is_quick
@pytest.mark.parametrize("options", [{"run_eagerly": True}, {"jit_compile": True}])
def test_each_part_follows_its_own_loss(x, options):
    expected = expected_steps(x, options.get("jit_compile", False))
    model = make(TwoLosses(), **options)
    before = [v.numpy() for v in model.trainable_variables]
    logs = model.fit(x, batch_size=8, shuffle=False, verbose=0).history
    for variable, old, step in zip(model.trainable_variables, before, expected, strict=True):
        np.testing.assert_allclose(variable.numpy() - old, step, rtol=1e-3, atol=1e-6)
    assert logs["loss"] == pytest.approx([-logs["elbo"][0]], rel=1e-5)


@pytest.mark.full
def test_a_bad_loss_of_one_part_is_named_and_moves_nothing(x):
    class Bad(TwoLosses):
        def loss(self, terms):
            return {**super().loss(terms), "decoder": terms.reconstruction * np.nan}

    model = make(Bad(), run_eagerly=True)
    before = [v.numpy() for v in model.trainable_variables]
    with pytest.raises(ArithmeticError, match="the loss of the decoder is not finite"):
        model.fit(x, verbose=0)
    for variable, old in zip(model.trainable_variables, before, strict=True):
        np.testing.assert_array_equal(variable.numpy(), old)


def test_a_part_that_the_model_lacks_is_refused():
    class Unknown(TwoLosses):
        loss_parts = ("discriminator",)

    with pytest.raises(ValueError, match=r"for parts .*'encoder', 'decoder', 'prior'"):
        make(Unknown())


def test_a_loss_that_is_missing_is_refused(x):
    class Missing(TwoLosses):
        def loss(self, terms):
            return {"": terms.kl_total}

    with pytest.raises(ValueError, match=r"a loss for each of \['', 'decoder'\]"):
        make(Missing(), run_eagerly=True).fit(x, verbose=0)
