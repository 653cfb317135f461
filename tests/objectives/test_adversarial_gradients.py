"""Each part of an adversarial model follows its own loss: gradients against tapes by definition.

A formula is written out here for each objective and each loss, and differentiated on a tape of its
own for each part, in float64.
"""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_vae as kv
from keras_vae.core.seeds import fold, purpose
from keras_vae.objectives import (
    ELBO,
    GECO,
    Adversarial,
    AdversarialPosterior,
    FactorVAE,
    LearnedSimilarity,
    SquaredError,
    latent_adversaries,
)
from tests.small_models import make_vae

SHAPE, SIZE = (8, 8, 1), 6


@pytest.fixture(autouse=True)
def float64():
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")


@pytest.fixture
def x():
    return tf.constant(np.random.default_rng(0).normal(size=(SIZE, *SHAPE)))


def dense_discriminator(name="judge"):
    layers = [keras.Input(SHAPE), keras.layers.Flatten(), keras.layers.Dense(5, "tanh", name=name)]
    return keras.Sequential([*layers, keras.layers.Dense(1)])


def critic():
    return keras.Sequential([keras.layers.Dense(5, "tanh"), keras.layers.Dense(1)])


def make(objective):
    model = make_vae(objective=objective, likelihood=kv.likelihoods.Normal(SHAPE, 0.7))
    model.compile("sgd")
    return model


def attempt(model, x):
    """Return the gradients and measures of a step that moves nothing."""
    size = tf.constant(float(len(x)), x.dtype)
    return model.training_step._attempt(x, None, tf.ones(len(x), x.dtype), size, 0)


def terms_of(model, x):
    """Return the terms of that step."""
    seed = model.training_step._seed("train", model.trained_batches, tf.constant(0))
    return model.compute_terms(x, 1, True, seed)


def check_parts(model, x, definition, **measures):
    """Hold the gradients of all parts against those of a function of terms to losses by part."""
    found = attempt(model, x)
    of = {
        id(v): gradient
        for v, gradient in zip(model.trainable_variables, found.gradients, strict=True)
    }
    for part, variables in model.trainable_parts.items():
        with tf.GradientTape() as tape:  # one for each part
            losses = definition(terms_of(model, x))
            total = tf.reduce_mean(losses.get(part, losses[""]))
        for variable, expected in zip(variables, tape.gradient(total, variables), strict=True):
            # At the bias of the last layer, the two halves of a hinge may cancel.
            assert np.abs(expected).max() > 0.0 or variable.shape == (1,), variable.path
            np.testing.assert_allclose(
                of[id(variable)], expected, rtol=1e-9, atol=1e-12, err_msg=variable.path
            )
    for name, value in measures.items():
        np.testing.assert_allclose(found.measures[name], value, rtol=1e-9, err_msg=name)


# By hand: the two terms of the discriminator, and the loss of the maker, of logits.
FORMULAS = {
    "hinge": (
        lambda d: 0.5 * tf.maximum(1.0 - d, 0.0),
        lambda d: 0.5 * tf.maximum(1.0 + d, 0.0),
        lambda d: -d,
    ),
    "non_saturating": (
        lambda d: -tf.math.log(tf.sigmoid(d)),
        lambda d: -tf.math.log(1.0 - tf.sigmoid(d)),
        lambda d: -tf.math.log(tf.sigmoid(d)),
    ),
    "least_squares": (
        lambda d: 0.5 * (d - 1.0) ** 2,
        lambda d: 0.5 * d**2,
        lambda d: 0.5 * (d - 1.0) ** 2,
    ),
}


def flat(logits):
    return tf.reduce_mean(tf.reshape(logits, [SIZE, -1]), axis=1)


def draws_of_prior(terms, latent=2):
    return terms.draws.p_z.sample([1, SIZE], seed=fold(terms.draws.seed, purpose("prior")))


@pytest.mark.first_is_quick
@pytest.mark.parametrize("loss", FORMULAS)
def test_adversarial(x, loss):
    discriminator = kv.networks.PatchDiscriminator((4,), kernel_size=3)
    phi = keras.Sequential([keras.Input(SHAPE), keras.layers.Conv2D(3, 3, activation="tanh")])
    model = make(
        Adversarial(ELBO(0.5), discriminator, loss, 0.3, perceptual=phi, perceptual_weight=2.0)
    )
    on_real, on_fake, on_maker = FORMULAS[loss]

    def definition(terms):
        fake = terms.draws.p_x.mean()[0]
        perceptual = tf.reduce_mean((phi(x) - phi(fake)) ** 2, axis=[1, 2, 3])
        adversarial = flat(on_maker(discriminator(fake)))
        elbo = terms.reconstruction + 0.5 * terms.kl_total
        return {
            "": elbo + 0.3 * adversarial + 2.0 * perceptual,
            "discriminator": flat(on_real(discriminator(x))) + flat(on_fake(discriminator(fake))),
        }

    fake = terms_of(model, x).draws.p_x.mean()[0]
    real_term, fake_term = flat(on_real(discriminator(x))), flat(on_fake(discriminator(fake)))
    check_parts(
        model,
        x,
        definition,
        adversarial=flat(on_maker(discriminator(fake))),
        adversarial_weight=np.full(SIZE, 0.3),
        discriminator_real=real_term,
        discriminator_fake=fake_term,
        discriminator_loss=real_term + fake_term,
        perceptual=tf.reduce_mean((phi(x) - phi(fake)) ** 2, axis=[1, 2, 3]),
    )
    assert not phi.trainable_variables


def test_adversarial_around_geco(x):
    discriminator = dense_discriminator()
    model = make(Adversarial(GECO(SquaredError(2.0), initial_multiplier=3.0), discriminator))

    def definition(terms):
        fake = terms.draws.p_x.mean()[0]
        error = tf.reduce_sum((x - fake) ** 2, axis=[1, 2, 3]) - 4.0
        hinge = FORMULAS["hinge"]
        return {
            "": terms.kl_total + 3.0 * error + flat(hinge[2](discriminator(fake))),
            "discriminator": flat(hinge[0](discriminator(x))) + flat(hinge[1](discriminator(fake))),
        }

    check_parts(model, x, definition)


def test_regularization_of_the_discriminator(x):
    """Fails for a slope at the fakes, for a norm that is not squared, and for averages swapped."""
    discriminator = kv.networks.PatchDiscriminator((4,), kernel_size=3, normalization="none")
    objective = Adversarial(ELBO(), discriminator, "non_saturating", r1=0.6, lecam=0.4)
    model = make(objective)
    states = {rule.name: rule for rule in objective.controllers}
    for name, value in {"real": 0.8, "fake": -0.5}.items():
        rule = states[f"discriminator_{name}_output_average"]
        rule.variable.assign(value)
        rule.seen.assign(1.0)
    on_real, on_fake, on_maker = FORMULAS["non_saturating"]

    def definition(terms):
        fake = terms.draws.p_x.mean()[0]
        real_logits, fake_logits = discriminator(x), discriminator(fake)
        with tf.GradientTape() as tape:
            tape.watch(x)
            output = flat(discriminator(x))
        slope = tape.gradient(output, x)
        r1 = 0.5 * tf.reduce_sum(slope**2, axis=[1, 2, 3])
        lecam = flat((real_logits + 0.5) ** 2) + flat((fake_logits - 0.8) ** 2)
        main = flat(on_real(real_logits)) + flat(on_fake(fake_logits))
        return {
            "": -terms.elbo + flat(on_maker(fake_logits)),
            "discriminator": main + 0.6 * r1 + 0.4 * lecam,
        }

    check_parts(model, x, definition)


@pytest.mark.first_is_quick
@pytest.mark.parametrize("with_perceptual", [True, False])
def test_the_adaptive_weight_balances_the_slopes_at_the_last_kernel(x, with_perceptual):
    discriminator = dense_discriminator()
    phi = keras.Sequential([keras.Input(SHAPE), keras.layers.AveragePooling2D(2)])
    options = {"perceptual": phi if with_perceptual else None, "perceptual_weight": 50.0}
    model = make(Adversarial(ELBO(0.5), discriminator, weight=0.3, adaptive=True, **options))
    kernel = model.decoder.chain[-3].kernel
    assert kernel.shape == (8, 64)

    def losses(terms):
        fake = terms.draws.p_x.mean()[0]
        distance = tf.reduce_mean((phi(x) - phi(fake)) ** 2, axis=[1, 2, 3])
        whole = terms.reconstruction + (50.0 * distance if with_perceptual else 0.0)
        return whole, flat(-discriminator(fake)), terms.kl_total

    with tf.GradientTape(persistent=True) as tape:
        whole, adversarial, _ = (tf.reduce_mean(loss) for loss in losses(terms_of(model, x)))
    norms = [tf.norm(tape.gradient(loss, kernel.value)) for loss in (whole, adversarial)]
    weight = 0.3 * float(norms[0] / (norms[1] + 1e-4))
    assert weight > 1.0

    def definition(terms):
        whole, adversarial, kl = losses(terms)
        hinge = FORMULAS["hinge"]
        fake = terms.draws.p_x.mean()[0]
        return {
            "": whole + 0.5 * kl + weight * adversarial,
            "discriminator": flat(hinge[0](discriminator(x))) + flat(hinge[1](discriminator(fake))),
        }

    check_parts(model, x, definition, adversarial_weight=np.full(SIZE, weight))


@pytest.mark.first_is_quick
@pytest.mark.parametrize("loss", FORMULAS)
def test_learned_similarity(x, loss):
    discriminator = dense_discriminator("features")
    options = {"loss": loss, "feature_layer": "features" if loss == "hinge" else None}
    model = make(LearnedSimilarity(discriminator, 0.4, beta=0.5, **options))
    hidden, last = discriminator.layers[-2:]
    on_real, on_fake, on_maker = FORMULAS[loss]

    def features(images):
        return hidden(tf.reshape(images, [SIZE, -1]))

    def similarity(fake):
        error = tf.reduce_sum((features(x) - features(fake)) ** 2, axis=1)
        return 0.5 * error + 0.5 * 5 * np.log(2.0 * np.pi)

    def definition(terms):
        fake = terms.draws.p_x.mean()[0]
        of_prior = model.decode(draws_of_prior(terms)).mean()[0]
        logits = [flat(last(features(images))) for images in (x, fake, of_prior)]
        return {
            "": 0.5 * terms.kl_total + similarity(fake),
            "decoder": 0.4 * similarity(fake) + on_maker(logits[1]) + on_maker(logits[2]),
            "discriminator": on_real(logits[0]) + on_fake(logits[1]) + on_fake(logits[2]),
        }

    terms = terms_of(model, x)
    measures = {name: getattr(terms, name) for name in ("elbo", "reconstruction")}
    similar = similarity(terms.draws.p_x.mean()[0])
    check_parts(model, x, definition, feature_reconstruction=similar, **measures)


@pytest.mark.full
def test_factor_vae(x):
    judge = critic()
    model = make(FactorVAE(judge, gamma=7.0))

    def definition(terms):
        z = terms.draws.z[0]
        permuted = kv.adversaries.permute_dimensions(
            terms.draws.z, fold(terms.draws.seed, purpose("permutation"))
        )[0]
        d, d_permuted = tf.sigmoid(judge(z)), tf.sigmoid(judge(permuted))
        return {
            "": -terms.elbo + 7.0 * flat(tf.math.log(d / (1.0 - d))),
            "discriminator": -0.5 * flat(tf.math.log(d) + tf.math.log(1.0 - d_permuted)),
        }

    d = tf.sigmoid(judge(terms_of(model, x).draws.z[0]))
    check_parts(model, x, definition, adversarial=flat(tf.math.log(d / (1.0 - d))))


def test_adversarial_posterior(x):
    judge = critic()
    model = make(AdversarialPosterior(judge, 4.0, "least_squares"))
    on_real, on_fake, on_maker = FORMULAS["least_squares"]

    def definition(terms):
        fake, real = judge(terms.draws.z[0]), judge(draws_of_prior(terms)[0])
        return {
            "": terms.reconstruction + 4.0 * flat(on_maker(fake)),
            "discriminator": flat(on_real(real)) + flat(on_fake(fake)),
        }

    check_parts(model, x, definition)


def test_dimensions_are_permuted_each_by_itself():
    z = tf.constant(np.arange(40.0).reshape(1, 20, 2))
    permuted = kv.adversaries.permute_dimensions(z, [0, 1]).numpy()[0]
    for d in range(2):
        np.testing.assert_array_equal(np.sort(permuted[:, d]), z[0, :, d])
        assert np.any(permuted[:, d] != z[0, :, d].numpy())
    assert np.any(permuted[:, 1] - permuted[:, 0] != 1.0)


def test_one_hot_dimensions_are_permuted_as_a_whole():
    classes = np.random.default_rng(0).integers(3, size=(2, 20, 4))
    z = tf.one_hot(classes, 3, dtype=tf.float64)
    permuted = latent_adversaries._permute_batch(z, tf.constant([0, 1])).numpy()
    found = np.argmax(permuted, axis=-1)
    np.testing.assert_array_equal(np.sort(permuted, axis=-1)[..., :2], 0.0)
    for s, d in np.ndindex(2, 4):
        np.testing.assert_array_equal(np.sort(found[s, :, d]), np.sort(classes[s, :, d]))
    # The dimensions of an example are no longer those of any example together.
    rows = {tuple(row) for row in classes[0]}
    assert any(tuple(row) not in rows for row in found[0])


def test_a_critic_gives_one_logit_for_one_hot_z():
    one_hot = {
        "posterior": kv.posteriors.Categorical(2, 3, temperature=0.5),
        "prior": kv.priors.Categorical(2, 3),
    }
    with pytest.raises(ValueError, match="`critic` must return a single logit for each z"):
        make_vae(objective=FactorVAE(critic()), **one_hot)
    flattening = keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(1)])
    assert make_vae(objective=FactorVAE(flattening), **one_hot).built


def test_the_loss_of_the_discriminator_moves_no_other_part_by_one_bit(x):
    """R1 is in the discriminator's loss alone. Whatever else it reached would move, too."""
    gradients = []
    for r1 in (1e-6, 100.0):
        keras.utils.set_random_seed(1)
        discriminator = dense_discriminator()
        model = make(Adversarial(ELBO(), discriminator, r1=r1, adaptive=True))
        found = attempt(model, x)
        own = {id(v) for v in model.trainable_parts["discriminator"]}
        pairs = zip(model.trainable_variables, found.gradients, strict=True)
        gradients.append([(id(v) in own, g.numpy()) for v, g in pairs])
    for (is_own, one), (_, other) in zip(*gradients, strict=True):
        assert np.any(one != other) or not is_own or one.shape == (1,)
        assert is_own or np.array_equal(one, other)


@pytest.mark.parametrize(
    ("objective", "shape"),
    [
        (lambda judge: Adversarial(ELBO(), judge), SHAPE),
        (lambda judge: LearnedSimilarity(judge, feature_layer="judge"), SHAPE),
        (FactorVAE, (2,)),
        (AdversarialPosterior, (2,)),
    ],
)
def test_what_a_discriminator_adds_by_itself_is_its_own_affair(x, objective, shape):
    """A penalty of its activities depends on what others make. It moves them by not one bit."""
    gradients = []
    for weight in (1e-6, 10.0):
        keras.utils.set_random_seed(1)
        penalty = keras.regularizers.L2(weight)
        hidden = keras.layers.Dense(5, "tanh", activity_regularizer=penalty, name="judge")
        layers = [keras.Input(shape), keras.layers.Flatten(), hidden, keras.layers.Dense(1)]
        model = make(objective(keras.Sequential(layers)))
        found = attempt(model, x)
        own = {id(v) for v in model.trainable_parts["discriminator"]}
        pairs = zip(model.trainable_variables, found.gradients, strict=True)
        gradients.append([(id(v) in own, g.numpy()) for v, g in pairs])
    pairs = list(zip(*gradients, strict=True))
    assert any(is_own and np.any(one != other) for (is_own, one), (_, other) in pairs)
    assert all(is_own or np.array_equal(one, other) for (is_own, one), (_, other) in pairs)


def test_kinds_seen_in_one_batch_are_judged_as_each_by_itself(x, monkeypatch):
    keras.utils.set_random_seed(0)
    discriminator = kv.networks.ConvDiscriminator((8, 8), 3, 6, "spectral")
    model = make(LearnedSimilarity(discriminator, loss="hinge", r1=0.3))
    assert discriminator.works_once_per_call
    at_once = attempt(model, x)
    monkeypatch.setattr(type(discriminator), "works_once_per_call", False)
    one_by_one = attempt(model, x)
    for name, values in one_by_one.measures.items():
        np.testing.assert_allclose(at_once.measures[name], values, rtol=1e-9, err_msg=name)
    for one, other in zip(at_once.gradients, one_by_one.gradients, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-7, atol=1e-10)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_the_adaptive_weight_of_slopes_that_are_not_finite_is_zero(dtype):
    """Fails for NaN of an overflow in half precision, and for a weight without a limit."""
    one = tf.ones([2], dtype)
    for bad in (np.inf, np.nan):
        for pair in ((bad * one, one), (one, bad * one), (bad * one, bad * one)):
            assert float(kv.adversaries.adaptive_weight(*pair)) == 0.0
    assert float(kv.adversaries.adaptive_weight(0.0 * one, 0.0 * one)) == 0.0
    assert float(kv.adversaries.adaptive_weight(3.0 * one, 0.0 * one)) == 1e4
    with tf.GradientTape() as tape:
        tape.watch(one)
        weight = kv.adversaries.adaptive_weight(3.0 * one, one)
    assert tape.gradient(weight, one) is None
