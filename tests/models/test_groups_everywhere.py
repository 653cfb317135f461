"""Groups of z where prior and posterior differ in them, and at the edges of what is allowed."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_vae as kv
from keras_vae.evaluation.latent_statistics import LatentReader
from keras_vae.networks.latent_group import LatentGroup
from tests.small_models import SHAPE, binary_images, make_vae, parts, randomize


@pytest.fixture(scope="module")
def x():
    return binary_images(6)


def hierarchy(likelihood=None, cell=None, **changes):
    return kv.HierarchicalVAE(
        bottom_up=kv.networks.BottomUp({4: 6, 1: 8}, blocks=1),
        top_down=kv.networks.TopDown({1: (2, 3), 4: (1, 2)}, **({"cell": cell} if cell else {})),
        likelihood=likelihood or kv.likelihoods.Bernoulli(SHAPE),
        **changes,
    )


def ladder():
    return kv.LadderVAE((3, 2), (8, 6), likelihood=kv.likelihoods.Bernoulli(SHAPE))


# A prior of several groups under a posterior of one.


@pytest.fixture(scope="module")
def grouped_prior():
    prior = kv.priors.Chain([3, 2], hidden=(4,))
    return make_vae(posterior=kv.posteriors.DiagonalNormal(5), prior=prior)


def test_the_temperature_reaches_all_groups_of_the_prior(grouped_prior):
    model = grouped_prior
    drawn = model.sample(6, seed=1, temperature=0.0).numpy()
    assert np.ptp(drawn, axis=0).max() == 0.0
    z = model.prior().draw_groups([6], [0, 1], temperatures={0: 0.5, 1: 0.5})
    plain = model.prior().draw_groups([6], [0, 1])
    assert not np.allclose(z[:, 3:], plain[:, 3:])
    np.testing.assert_array_equal(
        model.sample(6, seed=1, temperature={"z": 1.0}), model.sample(6, seed=1)
    )


def test_z_as_a_whole_is_given_and_kept(grouped_prior, x):
    model, z = grouped_prior, np.linspace(-1.0, 1.0, 5, dtype="float32")
    drawn = model.sample(2, given={"z": z}, seed=1)
    np.testing.assert_allclose(drawn, model.decode(np.stack([z, z])).mean(), rtol=1e-5, atol=1e-6)
    kept = model.reconstruct(x, keep="z", seed=1)
    np.testing.assert_allclose(kept, model.reconstruct(x), rtol=1e-5, atol=1e-6)


def test_what_is_kept_is_named():
    with pytest.raises(ValueError, match=r"`keep` must be names of the groups .* Received: keep=1"):
        ladder().reconstruct(binary_images(2), keep=1)


# Joining.


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ({"z1": tf.zeros([2, 3]), "z2": tf.zeros([3, 2])}, "same dimensions before those of the"),
        (
            {"z1": tf.zeros([2, 3], "float64"), "z2": tf.zeros([2, 2])},
            "`groups` must have one dtype. Received: groups={'z1': 'float64', 'z2': 'float32'}",
        ),
    ],
)
def test_groups_that_do_not_fit_together_are_refused(groups, message):
    with pytest.raises(ValueError, match=message):
        ladder().join(groups)


# Passes through a network with random numbers of its own.


@keras.saving.register_keras_serializable(package="tests")
class Noisy(keras.layers.Layer):
    """A cell with dropout."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.dropout = keras.layers.Dropout(0.3)

    def call(self, maps, training=False):
        return maps + self.dropout(keras.ops.tanh(maps), training=training)

    def compute_output_shape(self, shape):
        return shape


@pytest.mark.parametrize(
    "make",
    [
        lambda: kv.objectives.ELBO(estimator="sticking_the_landing"),
        lambda: kv.objectives.ImportanceWeighted(2, "doubly_reparameterized"),
        lambda: kv.objectives.GECO(
            kv.objectives.SquaredError(1.0),
            bound=kv.objectives.ELBO(estimator="sticking_the_landing"),
        ),
    ],
)
def test_a_pass_with_random_numbers_is_not_run_again(make):
    with pytest.raises(ValueError, match="`objective` must have estimator='reparameterized':"):
        hierarchy(cell=Noisy(), objective=make())
    assert hierarchy(cell=Noisy()).built


def test_cells_know_that_they_are_in_training(x):
    model = hierarchy(cell=Noisy())
    again, still, noisy = (
        model.compute_terms(x, 1, training, seed=1).log_p_x for training in (False, False, True)
    )
    np.testing.assert_array_equal(again, still)
    assert np.abs(noisy - still).max() > 1e-3


def test_densities_of_two_precisions_are_refused():
    with pytest.raises(ValueError, match="`likelihood` must compute densities as the networks do"):
        hierarchy(kv.likelihoods.Bernoulli(SHAPE, dtype="float64"))


# Statistics of groups.


@pytest.fixture(scope="module")
def chain():
    """Return a chain x -> z1 -> z2 of normals, whose aggregate posterior is known."""
    dense = keras.layers.Dense
    model = kv.VAE(
        encoder=keras.Sequential([keras.layers.Flatten()]),
        decoder=keras.Sequential([dense(1), keras.layers.Reshape((1, 1, 1))]),
        posterior=kv.posteriors.Chain([1, 1], hidden=()),
        prior=kv.priors.Chain([1, 1], hidden=()),
        likelihood=kv.likelihoods.Normal((1, 1, 1), scale=0.5),
    )

    def assign(layer, kernel, bias):
        layer.kernel.assign([[kernel]])
        layer.bias.assign([bias])

    q, p = model.posterior_head, model.prior_head
    assign(q.base.loc, 0.8, 0.0)
    assign(q.base.raw_scale, 0.0, _before_softplus(0.45))
    for conditional in (q.chain.conditionals[0], p.chain.conditionals[0]):
        assign(conditional.loc, 1.0, 0.0)
        assign(conditional.raw_scale, 0.0, _before_softplus(0.1))
    assign(model.decoder.layers[0], 1.0, 0.0)
    return model


def _before_softplus(scale):
    return float(np.log(np.expm1(scale)))


@pytest.fixture(scope="module")
def numbers():
    return np.random.default_rng(0).normal(size=(2000, 1, 1, 1)).astype("float32") * 1.1


def test_the_variance_of_a_chain_has_that_of_the_group_above(chain, numbers):
    found = LatentReader(chain, tf.data.Dataset.from_tensors(numbers))(0.01, None).variance
    # z1 ~ N(0.8 x, 0.45^2), z2 ~ N(z1, 0.1^2); scales have a floor of 1e-4 or so.
    above = 0.64 * np.var(numbers) + 0.45**2
    # Of 16,000 draws, the standard error is 1% of the variance.
    np.testing.assert_allclose(found, [above, above + 0.01], rtol=0.045)


def test_a_group_with_a_negative_log_ratio_is_not_off(chain, numbers):
    chain.compile(keras.optimizers.SGD(0.0), run_eagerly=True)
    check = kv.callbacks.HealthCheck(grace=1, data_range=None)
    monitor = kv.callbacks.LatentMonitor(numbers)
    chain.fit(numbers, epochs=2, batch_size=500, verbose=0, callbacks=[check, monitor])
    lower, upper = (group.kl for group in monitor.history[1].groups)
    assert lower < -0.5 < 0.5 < upper
    assert "latent groups switched off" not in {finding.symptom for finding in check.findings}
    assert not any("switched off" in finding.text for finding in check.findings)


@pytest.mark.full
def test_a_large_group_that_leaves_the_prior_in_every_dimension_is_reported():
    model = kv.HierarchicalVAE(
        bottom_up=kv.networks.BottomUp({4: 6, 1: 8}, blocks=1),
        top_down=kv.networks.TopDown({1: (1, 3), 4: (1, 20)}),
        likelihood=kv.likelihoods.Bernoulli(SHAPE),
    )
    model.compile(keras.optimizers.SGD(0.0), run_eagerly=True)
    (large,) = (
        layer
        for layer in model._flatten_layers()
        if isinstance(layer, LatentGroup) and layer.channels == 20
    )

    class Push(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 2:  # By three standard deviations of the prior: 4.5 nats a dimension.
                large.of_posterior.bias.assign_add(np.repeat([3.0, 0.0], 20))

    check = kv.callbacks.HealthCheck()
    with pytest.warns(kv.callbacks.HealthWarning, match="KL of the group z2 has grown from"):
        model.fit(binary_images(8), epochs=3, verbose=0, callbacks=[check, Push()])
    (finding,) = (one for one in check.findings if one.symptom == "KL explosion")
    assert finding.epoch == 2


# Critics and discriminators.


def critic():
    return keras.Sequential([keras.layers.Dense(4, "tanh"), keras.layers.Dense(1)])


def test_the_prior_of_a_hierarchy_learns_from_the_kl_beside_a_learned_similarity(x):
    """It belongs to the part "decoder", whose loss must not be that of the images alone."""
    layers = keras.layers.Dense(3, kernel_initializer="zeros"), keras.layers.Dense(1)
    judge = keras.Sequential([keras.Input(SHAPE), keras.layers.Flatten(), *layers])
    objective = kv.objectives.LearnedSimilarity(judge, gamma=0.0, beta=0.7)
    model = hierarchy(objective=objective)
    randomize(model.bottom_up, model.top_down, scale=0.3)
    with tf.GradientTape(persistent=True) as tape:
        terms = model.compute_terms(tf.constant(x), 1, True, seed=1)
        loss, kl = objective.loss(terms)["decoder"], terms.kl_total
    for group in model.top_down.latent_groups:
        found, of_kl = (tape.gradient(one, group.of_prior.bias.value) for one in (loss, kl))
        assert np.abs(of_kl).max() > 0.0
        np.testing.assert_allclose(found, 0.7 * of_kl, rtol=1e-5, atol=1e-6)


def test_a_critic_leaves_the_prior_of_a_hierarchy_without_a_loss():
    with pytest.raises(ValueError, match="`prior` must have no weights that learn, as nothing"):
        hierarchy(objective=kv.objectives.AdversarialPosterior(critic())).compile("sgd")
    around = kv.objectives.AdversarialPosterior(critic(), objective=kv.objectives.ELBO(beta=0.5))
    hierarchy(objective=around).compile("sgd")


def test_a_critic_sees_a_single_group_of_maps_as_the_vector_that_z_is(x):
    objective = kv.objectives.FactorVAE(critic())
    model = kv.HierarchicalVAE(
        kv.networks.BottomUp({4: 6}, blocks=1),
        kv.networks.TopDown({4: (1, 2)}),
        kv.likelihoods.Bernoulli(SHAPE),
        objective=objective,
    )
    assert objective.critic.input_shape == (None, 32)
    model.compile("sgd", run_eagerly=True)
    assert np.isfinite(model.fit(x, verbose=0).history["adversarial"][0])


# Priors and conditionals that do not fit.


def test_a_ladder_refuses_what_is_no_prior():
    with pytest.raises(ValueError, match="`prior` must be an instance of keras_vae.priors.Prior"):
        ladder().with_prior(None)


@pytest.mark.parametrize(
    ("chain", "message"),
    [
        (kv.priors.Chain([3, 2], hidden=(6,)), "must be an instance of"),
        (kv.priors.Chain([2, 3], hidden=(6,)).chain, "must be drawn from the top down, with the"),
        (kv.posteriors.Chain([3, 2], hidden=(6,)).chain, "must be drawn from the top down"),
    ],
)
def test_shared_conditionals_are_those_of_the_ladder(chain, message):
    with pytest.raises(ValueError, match=f"`top_down` {message}"):
        kv.posteriors.Ladder([3, 2], (8, 6), top_down=chain)


# Files and empty batches.


def test_parts_that_share_layers_are_refused_before_anything_is_written(tmp_path):
    prior = kv.priors.Chain([3, 2], hidden=[(6, 6)], activation="leaky_relu")
    own = kv.posteriors.Ladder([3, 2], (8, 6), top_down=prior.chain)
    encoder = kv.networks.LadderEncoder((8, 6))
    decoder = kv.networks.MLPDecoder(SHAPE, (8,))
    model = make_vae(encoder=encoder, decoder=decoder, posterior=own, prior=prior)
    with pytest.raises(ValueError, match="`prior` must share no layer with `posterior` in a model"):
        model.save(tmp_path / "model.keras")
    assert not list(tmp_path.iterdir())
    ladder().save(tmp_path / "ladder.keras")
    keras.saving.load_model(tmp_path / "ladder.keras")


def test_a_discriminator_of_layers_of_the_model_is_refused_by_save(tmp_path):
    trunk = keras.layers.Dense(6, "tanh")
    encoder = keras.Sequential([keras.Input(SHAPE), keras.layers.Flatten(), trunk])
    judge = keras.Sequential([keras.Input(SHAPE), keras.layers.Flatten(), trunk])
    judge.add(keras.layers.Dense(1))
    objective = kv.objectives.Adversarial(kv.objectives.ELBO(), judge)
    for model in (
        make_vae(encoder=encoder, objective=objective),
        kv.VAEGAN(**parts(encoder=encoder), discriminator=judge),
    ):
        with pytest.raises(ValueError, match="`objective` must share no layer with `encoder`"):
            model.save(tmp_path / "model.keras")
    assert not list(tmp_path.iterdir())


def test_the_bound_of_no_examples_is_empty(tmp_path):
    model = make_vae(**parts())
    served = tf.saved_model.load(kv.export_saved_model(model, tmp_path / "1")).signatures
    two = {"count": tf.constant(2), "seed": tf.constant(0)}
    found = served["log_likelihood"](x=tf.zeros([0, *SHAPE]), **two)["log_likelihood"]
    assert found.shape == (0,)
