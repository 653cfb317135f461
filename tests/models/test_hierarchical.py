"""Hierarchies of latent groups: one pass for everything, and what a model needs of it."""

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import keras_vae as kv
from keras_vae.callbacks.health.examiner import Examiner
from tests.small_models import binary_images, normal_values, randomize, trainable_weights_of

tfd = tfp.distributions

EXACT = {"rtol": 1e-5, "atol": 1e-5}
GROUPS = {1: (1, 3), 4: (2, 2)}


def hierarchy(groups=GROUPS, likelihood=None, bottom=None, top=None, **changes):
    """Return a small model of three groups, whose weights are always the same."""
    keras.utils.set_random_seed(0)
    model = kv.HierarchicalVAE(
        bottom_up=kv.networks.BottomUp({4: 6, 1: 8}, blocks=1, **(bottom or {})),
        top_down=kv.networks.TopDown(groups, **(top or {})),
        likelihood=likelihood or kv.likelihoods.Bernoulli((8, 8, 1)),
        **changes,
    )
    randomize(model.bottom_up, model.top_down, scale=0.3)
    return model


def of_four_by_four():
    maps = keras.Input((4, 4, 8))
    return keras.Model(maps, keras.layers.Dense(8)(maps))


def dense(layer, value):
    """Return what a dense layer makes of an array."""
    kernel, *bias = (weight.numpy() for weight in layer.weights)
    return value @ kernel + (bias[0] if bias else 0.0)


@pytest.fixture(scope="module")
def x():
    return binary_images(6)


@pytest.mark.first_is_quick
@pytest.mark.parametrize("posterior", ["delta", "plain"])
def test_terms_are_what_the_distributions_say(x, posterior):
    """The single pass has the draws and densities of the three distributions."""
    model = hierarchy(top={"posterior": posterior})
    terms, q = model.compute_terms(x, 3, seed=1), model.encode(x)
    z = q.sample(3, seed=tf.constant([1, 0]))
    np.testing.assert_array_equal(terms.draws.z, z)
    np.testing.assert_allclose(terms.log_q, q.log_prob(z), **EXACT)
    np.testing.assert_allclose(terms.log_p_z, model.prior().log_prob(z), **EXACT)
    np.testing.assert_allclose(terms.log_p_x, model.decode(z).log_prob(x), **EXACT)
    again = terms.draws.rescore(terms)
    np.testing.assert_allclose(again.log_w, terms.log_w, **EXACT)
    np.testing.assert_allclose(again.kl, terms.kl, **EXACT)
    np.testing.assert_allclose(model.log_weights(x, 3, seed=1), terms.log_w, **EXACT)


@pytest.mark.parametrize("posterior", ["delta", "plain"])
def test_kl_is_that_of_two_normals_given_the_groups_above(x, posterior):
    model = hierarchy(top={"posterior": posterior})
    terms, q = model.compute_terms(x, 5, seed=1), model.encode(x)
    pairs = zip(q.walk_along(terms.draws.z), model.prior().walk_along(terms.draws.z), strict=True)
    expected = [
        np.broadcast_to(
            tfd.kl_divergence(
                tfd.MultivariateNormalDiag(one.mean(), one.stddev()),
                tfd.MultivariateNormalDiag(other.mean(), other.stddev()),
            ),
            (5, 6),
        ).mean(axis=0)
        for (one, _), (other, _) in pairs
    ]
    assert terms.kl.shape == (6, 3)
    np.testing.assert_allclose(terms.kl, np.stack(expected, axis=-1), rtol=1e-4)


def test_the_pass_in_numpy():
    """Two groups of vectors without cells: every density, from the weights."""
    keras.config.set_dtype_policy("float64")
    keras.utils.set_random_seed(0)
    model = kv.HierarchicalVAE(
        bottom_up=kv.networks.BottomUp({1: 5}, blocks=0),
        top_down=kv.networks.TopDown({1: (2, 3)}, blocks=0, scale_bounds=(0.05, 1.3)),
        likelihood=kv.likelihoods.Normal((2, 2, 1)),
    )
    randomize(model.bottom_up, model.top_down, scale=0.7)
    x = np.random.default_rng(1).normal(size=(4, 2, 2, 1))
    terms = model.compute_terms(x, 1, seed=1)

    def elu(value):
        return np.where(value > 0.0, value, np.expm1(np.minimum(value, 0.0)))

    def scale_of(raw):
        one = np.log(np.expm1(1.0 - 0.05))  # where the scale is 1
        return np.minimum(np.log1p(np.exp(raw + one)) + 0.05, 1.3)

    def log_normal(value, loc, scale):
        white = (value - loc) / scale
        return np.sum(-0.5 * white**2 - np.log(scale) - 0.5 * np.log(2.0 * np.pi), axis=-1)

    maps = dense(model.bottom_up.reductions[0].projection, x.reshape(4, 4))
    state = np.tile(model.top_down.start.numpy().reshape(1, -1), (4, 1))
    log_q, log_p, kl, scales = [], [], [], []
    for number, group in enumerate(model.top_down.latent_groups):
        z = terms.draws.z[0, :, 3 * number : 3 * number + 3].numpy()
        loc, raw = np.split(dense(group.of_prior, elu(state)), 2, axis=-1)
        scale = scale_of(raw)
        hidden = elu(dense(group.of_state, elu(state)) + dense(group.of_maps, elu(maps)))
        hidden = elu(dense(group.convolution, hidden))
        shift, raw = np.split(dense(group.of_posterior, hidden), 2, axis=-1)
        ratio = scale_of(raw)
        scales += [scale, ratio]
        log_q.append(log_normal(z, loc + shift, scale * ratio))
        log_p.append(log_normal(z, loc, scale))
        kl.append(0.5 * np.sum((shift / scale) ** 2 + ratio**2 - np.log(ratio**2) - 1.0, axis=-1))
        state = state + dense(group.of_latent, z)
    np.testing.assert_allclose(terms.log_q[0], sum(log_q), rtol=1e-9)
    np.testing.assert_allclose(terms.log_p_z[0], sum(log_p), rtol=1e-9)
    np.testing.assert_allclose(terms.kl, np.stack(kl, axis=-1), rtol=1e-9)
    assert 0.0 < np.mean(np.stack(scales) == 1.3) < 1.0, "some of the scales are at their ceiling"
    mean = dense(model.top_down.output_maps.projection, elu(state)).reshape(4, 2, 2, 1)
    mean += model.top_down.output_bias.bias.numpy()
    np.testing.assert_allclose(terms.draws.p_x.mean()[0], mean, rtol=1e-9)


def test_x_reaches_p_x_through_z_alone(x):
    """The last state of inference, at a given z, is that of any other x, and of generation."""
    model = hierarchy()
    z = model.encode(x).sample(seed=[0, 1])
    values = tf.split(z, model.encode(x).sizes, axis=-1)
    states = [
        model.encode(image).score(lambda position, _: values[position]).state
        for image in (x, 1.0 - x)
    ]
    np.testing.assert_array_equal(*states)
    np.testing.assert_allclose(model.top_down.parameters(states[0]), model.top_down(z), **EXACT)
    with tf.GradientTape() as tape:
        image = tf.constant(x)
        tape.watch(image)
        values = tf.split(tf.stop_gradient(z), model.encode(x).sizes, axis=-1)
        state = model.encode(image).score(lambda position, _: values[position]).state
    assert tape.gradient(state, image) is None


def test_groups_come_from_the_top_down():
    model = hierarchy()
    assert model.latents == {"z1": (3,), "z2": (4, 4, 2), "z3": (4, 4, 2)}
    z = model.prior().sample(2, seed=[0, 1])
    groups = model.split(z)
    np.testing.assert_array_equal(model.join(groups), z)
    top = model.split(model.prior().draw_groups([2], [5, 5], given={0: groups["z1"]}))
    np.testing.assert_array_equal(top["z1"], groups["z1"])
    assert np.abs(top["z2"] - groups["z2"]).max() > 0.1


def test_temperature_reaches_every_group():
    model = hierarchy()
    z = model.split(model.prior().sample(4, seed=[0, 1]))
    for position, name in enumerate(z):
        cool = model.prior().draw_groups([4], [0, 1], temperatures={position: 0.5})
        walked = model.prior().walk_along(model.join(z))[position][0]
        centre = tf.reshape(walked.mean(), [-1, *model.latents[name]])
        found = model.split(cool)[name]
        np.testing.assert_allclose(found - centre, 0.5 * (z[name] - centre), **EXACT)


@pytest.mark.full
def test_reconstruction_with_lower_groups_of_the_prior(x):
    model = hierarchy()
    whole = model.reconstruct(x, keep=list(model.latents))
    np.testing.assert_allclose(whole, model.reconstruct(x), **EXACT)
    top = model.split(model.posterior_head.mean(model.encode(x)))["z1"]
    found = model.reconstruct(x, keep="z1", temperature=0.0)
    expected = model.sample(6, temperature=0.0, given={"z1": top})
    np.testing.assert_allclose(found, expected, **EXACT)


def gradients_of(model, x):
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(model.objective.loss(model.compute_terms(x, 1, True, seed=1)))
    return tape.gradient(loss, [weight.value for weight in model.trainable_variables])


@pytest.mark.full
def test_recomputation_changes_no_gradient(x):
    def make(recompute):
        keras.utils.set_random_seed(0)
        model = kv.HierarchicalVAE(
            kv.networks.BottomUp({4: 6, 1: 8}, recompute=recompute),
            kv.networks.TopDown(GROUPS, recompute=recompute),
            kv.likelihoods.Bernoulli((8, 8, 1)),
        )
        randomize(model.bottom_up, model.top_down, scale=0.3)
        return model

    plain, again = make(False), make(True)
    in_graph = tf.function(lambda: gradients_of(again, x), autograph=False)()
    for one, other in zip(gradients_of(plain, x), in_graph, strict=True):
        assert other is not None
        np.testing.assert_allclose(other, one, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("recompute", [False, True])
def test_cells_run_again_only_to_be_recomputed(recompute, x):
    options = {"channels": {4: 8, 1: 8}, "cell": Composite(), "recompute": recompute}
    model = kv.HierarchicalVAE(
        kv.networks.BottomUp(**options),
        kv.networks.TopDown(GROUPS, **options),
        kv.likelihoods.Bernoulli((8, 8, 1)),
    )
    CALLS.clear()
    gradients_of(model, tf.constant(x))
    counts = {name: CALLS.count(name) for name in CALLS}
    assert len(counts) == 7  # Two cells at both scales on the way up, one after each group.
    assert set(counts.values()) == {2 if recompute else 1}


def test_networks_of_ones_own(x):
    """A functional network with maps of two scales, and cells that are layers of Keras."""
    image = keras.Input((8, 8, 1))
    large = keras.layers.Conv2D(5, 2, strides=2, activation="elu")(image)
    small = keras.layers.Conv2D(6, 4, activation="elu")(large)
    model = kv.HierarchicalVAE(
        keras.Model(image, [small, large]),
        kv.networks.TopDown(GROUPS, cell=keras.layers.LayerNormalization()),
        kv.likelihoods.Bernoulli((8, 8, 1)),
    )
    assert np.all(np.isfinite(model.log_weights(x, 2)))
    gradients = gradients_of(model, tf.constant(x))
    assert all(gradient is not None for gradient in gradients)


def test_cells_are_copies_of_a_model(x, tmp_path):
    """One of several layers, for maps of every size."""
    cell = keras.Sequential([keras.layers.LayerNormalization(), keras.layers.Dense(8, "tanh")])
    model = hierarchy(top={"cell": cell, "channels": {4: 8}})
    gradients = gradients_of(model, tf.constant(x))
    assert all(gradient is not None for gradient in gradients)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded.log_weights(x, 2), model.log_weights(x, 2))


def of_any_size():
    maps = keras.Input((None, None, 8))
    return keras.Model(maps, keras.layers.Dense(8)(maps))


def sequence_of_any_size():
    return keras.Sequential([keras.Input((None, None, 8)), keras.layers.Dense(8)])


CALLS = []


@keras.saving.register_keras_serializable(package="tests")
class Composite(keras.layers.Layer):
    """A cell with a layer inside that only a call builds, and which notes its calls."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.dense = keras.layers.Dense(8, "tanh")

    def call(self, maps):
        CALLS.append(self.name)
        return maps + self.dense(maps)


@pytest.mark.first_is_quick
@pytest.mark.parametrize(
    "make", [Composite, kv.networks.BottleneckCell, of_any_size, sequence_of_any_size]
)
def test_a_cell_that_is_copied_is_no_part_of_the_model(make, x):
    """Else evaluations refuse a layer that is not built, and its weights are never trained.

    There are two of each in a row: both have to be built, and in the same way.
    """
    model = kv.HierarchicalVAE(
        kv.networks.BottomUp({4: 8, 1: 8}, blocks=2, cell=make()),
        kv.networks.TopDown(GROUPS, blocks=2, cell=make()),
        kv.likelihoods.Bernoulli((8, 8, 1)),
    )
    assert all(layer.built for layer in model._flatten_layers())
    count = len(model.weights)
    gradients = gradients_of(model, tf.constant(x))
    assert len(model.weights) == count
    assert all(gradient is not None for gradient in gradients)
    found = kv.evaluation.log_likelihood(model, x, num_samples=1, verbose=False)
    assert np.isfinite(found.mean)


def test_a_single_group_of_maps_is_given_kept_and_exported(x, tmp_path):
    model = kv.HierarchicalVAE(
        kv.networks.BottomUp({4: 6}, blocks=1),
        kv.networks.TopDown({4: (1, 2)}),
        kv.likelihoods.Bernoulli((8, 8, 1)),
    )
    randomize(model.bottom_up, model.top_down, scale=0.3)
    z = model.encode(x).means_along()
    given = {"z1": tf.reshape(z, [-1, 4, 4, 2])}
    np.testing.assert_allclose(model.sample(6, given=given), model.decode(z).mean(), **EXACT)
    np.testing.assert_allclose(model.reconstruct(x, keep="z1"), model.reconstruct(x), **EXACT)
    served = tf.saved_model.load(kv.export_saved_model(model, tmp_path / "1"))
    found = served.signatures["encode"](x=tf.constant(x))
    assert found.keys() == {"mean", "scale", "mean_z1", "scale_z1"}
    np.testing.assert_array_equal(found["mean_z1"], tf.reshape(found["mean"], [-1, 4, 4, 2]))


def test_the_health_check_sees_the_kl_of_each_dimension(x):
    """So that one pixel of a map is found, of which the mean over the group shows nothing."""
    model = hierarchy()
    seen = Examiner(model)(tf.constant(x), None, posterior_learns=True)
    terms = model.compute_terms(tf.constant(x))
    assert seen.kl.shape == (seen.dimensions,)
    groups = [group.kl for group in seen.groups]
    np.testing.assert_allclose(groups, tf.reduce_mean(terms.kl, axis=0), rtol=1e-4)


def test_the_health_check_leaves_statistics_inside_the_networks_alone(x):
    """It also compares the two modes of training and evaluation that they set apart."""
    cell = keras.Sequential([keras.layers.BatchNormalization(), keras.layers.Dense(8)])
    model = hierarchy(top={"cell": cell, "channels": {4: 8}})
    state = model.top_down.non_trainable_variables
    before = [variable.numpy() for variable in state]
    seen = Examiner(model)(tf.constant(x), None, posterior_learns=True)
    assert len(state) == 2 * 3 and seen.modes is not None
    for variable, value in zip(state, before, strict=True):
        np.testing.assert_array_equal(variable, value, err_msg=variable.path)


def test_activations_may_be_functions_that_keras_does_not_know(x):
    options = {"activation": lambda value: tf.nn.leaky_relu(value, 0.1)}
    assert np.all(np.isfinite(hierarchy(bottom=options, top=options).log_weights(x, 2)))


@pytest.mark.first_is_quick
@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_a_posterior_is_fitted_in_full_precision(policy, x):
    """Else Adam's second moments of small gradients would be zero."""
    networks = {"dtype": policy}
    likelihood = kv.likelihoods.Bernoulli((8, 8, 1), dtype=policy)
    model = hierarchy(likelihood=likelihood, bottom=networks, top=networks)
    parameters = model.posterior_parameters(tf.constant(x))
    assert [one.dtype for one in parameters] == [tf.float32] * 3
    fitted = kv.evaluation.fit_posterior(model, x, steps=30, verbose=False)
    assert fitted.amortization_gap > 0.0


def test_the_mean_of_z_is_refused_with_what_there_is(x):
    with pytest.raises(NotImplementedError, match="each group depends on those drawn before it"):
        hierarchy().encode(x).mean()


def test_parts_have_every_variable_once():
    model = hierarchy()
    parts = model.trainable_parts
    ids = [id(variable) for part in parts.values() for variable in part]
    assert len(set(ids)) == len(ids)
    assert set(ids) == {id(variable) for variable in model.trainable_variables}
    model.compile(kv.optimizers.by_part(model, encoder="sgd", decoder="adam"))
    with tf.GradientTape() as tape:
        z = model.prior().sample(3, seed=[0, 1])
        loss = tf.reduce_sum(model.decode(z).mean() ** 2) + tf.reduce_sum(z**2)
    needed = tape.gradient(loss, [weight.value for weight in parts["encoder"]])
    assert all(gradient is None for gradient in needed), "generation needs part of the encoder"


def test_the_output_starts_at_the_mean_of_the_data():
    model = hierarchy()
    model.top_down.output_maps.projection.kernel.assign(
        tf.zeros_like(model.top_down.output_maps.projection.kernel)
    )
    data = np.random.default_rng(0).random((50, 8, 8, 1)).astype("float32")
    model.initialize_output_bias(data)
    np.testing.assert_allclose(model.sample(1)[0], data.mean(axis=0), atol=2e-3)


def test_weights_in_chunks_encode_once(x):
    model, calls = hierarchy(), []
    call = model.bottom_up.call
    model.bottom_up.call = lambda *args, **kwargs: (calls.append(1), call(*args, **kwargs))[1]
    x, _ = model._checked(x, None)
    weigh = model.weighting(x)
    found = [weigh(2, tf.constant([0, n])) for n in range(3)]
    assert len(calls) == 1 and found[0].shape == (2, 6)
    assert not np.any(found[0] == found[1])


IMAGE = kv.likelihoods.Bernoulli((8, 8, 1))


class NoArguments(keras.layers.Layer):
    def __init__(self):
        super().__init__()

    def call(self, maps):
        return maps


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: kv.networks.TopDown({}), "`groups` must map scales to"),
        (lambda: kv.networks.TopDown({1: (0, 4)}), r"both at least 1, .* groups={1: \(0, 4\)}"),
        (lambda: kv.networks.TopDown({1: 4}), r"such as {1: \(2, 16\), 7: \(3, 4\)}"),
        (lambda: kv.networks.TopDown({0: (1, 4)}), "`groups` must map scales to"),
        (lambda: kv.networks.TopDown({1: (1, 4)}, posterior="bottom"), "`posterior` must be one"),
        (
            lambda: kv.networks.TopDown({1: (1, 4)}, scale_bounds=(2.0, 3.0)),
            "`scale_bounds` must have 1 between them",
        ),
        (lambda: kv.networks.TopDown({1: (1, 4)}, cell="cell"), "`cell` must be a Keras layer"),
        (lambda: kv.networks.BottomUp({8: 0}), "`channels` must be an integer >= 1"),
        (
            lambda: hierarchy(groups={1: (1, 2), 3: (1, 2)}),
            r"`groups` must have scales of the bottom-up network, \[1, 4\]",
        ),
        (
            lambda: hierarchy(groups={4: (1, 2)}),
            "`groups` must have a group at the smallest scale of the bottom-up network, 1",
        ),
        (
            lambda: hierarchy(top={"channels": {2: 8}}),
            r"`channels` must have scales of the bottom-up network, \[1, 4\]",
        ),
        (
            lambda: hierarchy(likelihood=kv.likelihoods.Bernoulli((6, 6, 1))),
            "`channels` must have scales that divide the side of the larger maps, 6",
        ),
        (
            lambda: hierarchy(likelihood=kv.likelihoods.Bernoulli((8, 4, 1))),
            r"must be \[batch, side, side, channels\]",
        ),
        (
            lambda: hierarchy(likelihood=kv.likelihoods.Bernoulli((12,))),
            r"`bottom_up` must take images of shape \(None, 12\)",
        ),
        (
            lambda: kv.HierarchicalVAE(
                kv.networks.MLPEncoder((4,)), kv.networks.TopDown({1: (1, 2)}), IMAGE
            ),
            "`bottom_up` must return a list of maps",
        ),
        (
            lambda: kv.HierarchicalVAE(
                kv.networks.BottomUp(), kv.networks.MLPDecoder((8, 8, 1)), IMAGE
            ),
            "`top_down` must be an instance of keras_vae.networks",
        ),
        (
            lambda: kv.HierarchicalVAE(
                kv.networks.BottomUp({4: 6, 1: 9}), hierarchy().top_down, IMAGE
            ),
            r"`bottom_up` must return maps of the channels {4: 6, 1: 8}",
        ),
        (
            lambda: hierarchy(top={"cell": keras.layers.Conv2D(3, 1)}),
            r"`cell` must keep the shape of maps, \(None, 1, 1, 8\)",
        ),
        (
            lambda: hierarchy(top={"cell": of_four_by_four()}),
            r"`cell` must take maps of shape \(None, 1, 1, 8\)",
        ),
        (
            lambda: hierarchy(top={"cell": keras.layers.Dropout(0.5), "recompute": True}),
            "`recompute` must be False for a cell with random numbers or statistics",
        ),
        (lambda: kv.networks.TopDown({1: (1, 2), "1": (3, 4)}), "each scale once"),
        (lambda: kv.networks.TopDown({1: (True, 2)}), r"groups={1: \(True, 2\)}"),
        (
            lambda: hierarchy(top={"cell": keras.layers.Conv2D(8, 3)}),
            r"`cell` must take maps of shape \(None, 1, 1, 8\).*, which fails with: ",
        ),
        (
            lambda: hierarchy(top={"cell": NoArguments()}),
            "`cell` must be a layer that can be copied by `get_config` and `from_config`",
        ),
        (
            lambda: kv.evaluation.fit_prior(
                hierarchy(), np.zeros([2, 8, 8, 1]), kv.priors.MixtureOfNormals(67, 2)
            ),
            "`prior` cannot be another one",
        ),
        (lambda: hierarchy().join([1, 2]), r"`groups` must map the names \['z1', 'z2', 'z3'\]"),
        (
            lambda: hierarchy().sample(2, given={"z1": tf.fill([3], np.nan)}),
            "`given` must hold finite numbers for 'z1'",
        ),
        (
            lambda: hierarchy().sample(2, given={"z1": tf.constant(["a", "b", "c"])}),
            "`given` must be an array of numbers",
        ),
        (
            lambda: hierarchy().reconstruct(np.zeros([2, 8, 8, 1]), temperature=-1.0),
            "`temperature` must be a finite number >= 0",
        ),
        (
            lambda: hierarchy().with_prior(kv.priors.StandardNormal(67)),
            "shares its pass with p",
        ),
    ],
)
def test_bad_input_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.full
@pytest.mark.parametrize(
    ("shape", "latents"),
    [((28, 28, 1), {1: (1, 16), 7: (1, 4), 14: (1, 2)}), ((32, 32, 3), {1: (1, 8), 8: (1, 4)})],
)
def test_networks_of_a_line_each(shape, latents):
    """The default bottom-up network has the scales of common images; a mixture has its maps."""
    likelihood = kv.likelihoods.DiscretizedLogisticMixture(shape, num_components=2)
    model = kv.HierarchicalVAE(kv.networks.BottomUp(), kv.networks.TopDown(latents), likelihood)
    assert model.sample(2).shape == (2, *shape)
    x = np.random.default_rng(0).integers(0, 256, (2, *shape))
    assert np.all(np.isfinite(model.log_weights(x)))
    assert np.all(np.isfinite(model.compute_terms(*model._checked(x, None)[:1]).kl))


# Networks: where they start, and what they are penalized for.


def cells_of(network):
    """Return the cells of a network, row by row."""
    parts = [*network.rows, *(group.cells for group in getattr(network, "latent_groups", ()))]
    return [cell for row in parts for cell in row.cells]


def size_of(kernel):
    """Return the largest entry of a kernel `[..., C, C']`, 1 where Glorot has its bound."""
    return np.abs(kernel.numpy()).max() / np.sqrt(6.0 / sum(kernel.shape[-2:]))


def test_last_kernels_start_small_by_the_number_of_cells():
    """By 1 / sqrt(N), of all N cells on the way up, or of all that follow a group or a scale."""
    model = kv.HierarchicalVAE(
        kv.networks.BottomUp({4: 16, 2: 16, 1: 16}, blocks=3),
        kv.networks.TopDown({1: (2, 8), 4: (1, 8)}, blocks=2),
        IMAGE,
    )
    for network, count in ((model.bottom_up, 9), (model.top_down, 8)):
        cells = cells_of(network)
        assert len(cells) == count
        # Of 128 uniform entries all are below 0.9 of the bound with a probability of 1.4e-6.
        for cell in cells:
            assert 0.9 < size_of(cell.first.kernel) < 1.001
            assert 0.9 < count**0.5 * size_of(cell.last.kernel) < 1.001
    for group in model.top_down.latent_groups:
        assert 0.9 < 8**0.5 * size_of(group.of_latent.kernel) < 1.001


def test_kernels_of_z_start_small_by_the_number_of_groups_if_there_are_no_cells():
    top_down = kv.networks.TopDown({1: (7, 16)}, blocks=0)
    top_down.build([(None, 1, 1, 16)], (4, 4, 1))
    sizes = [size_of(group.of_latent.kernel) for group in top_down.latent_groups]
    assert all(0.9 < 7**0.5 * size < 1.001 for size in sizes)


@pytest.mark.parametrize("last_scale", [0.0, 0.5])
def test_cells_of_ones_own_keep_the_scale_of_their_last_kernels(last_scale, x):
    cell = kv.networks.BottleneckCell(bottleneck=1.0, last_scale=last_scale)
    bottom_up = kv.networks.BottomUp({4: 12, 1: 12}, cell=cell)
    model = kv.HierarchicalVAE(bottom_up, kv.networks.TopDown(GROUPS, cell=cell), IMAGE)
    cells = [one for part in (model.bottom_up, model.top_down) for one in cells_of(part)]
    lasts = [one.last.kernel for one in cells]
    assert len(lasts) == 7
    assert all(0.9 * last_scale <= size_of(last) <= 1.001 * last_scale for last in lasts)
    model.compile(keras.optimizers.SGD(1e-3), run_eagerly=True)
    model.fit(x, verbose=0)
    assert all(np.any(last.numpy()) for last in lasts), "a cell stays the identity for ever"


def test_squeeze_and_excite_in_numpy():
    cell = kv.networks.BottleneckCell(0.75, 3, "tanh", squeeze_excite=True, dtype="float64")
    maps = normal_values(2, 5, 4, 8).numpy()
    cell.build(maps.shape)
    randomize(cell)
    assert cell.squeeze.units == 2
    kernel, bias = cell.middle.weights
    hidden = np.tanh(dense(cell.first, np.tanh(maps)))
    hidden = np.tanh(tf.nn.conv2d(hidden, kernel, 1, "SAME") + bias)
    added = dense(cell.last, hidden)
    squeezed = np.tanh(dense(cell.squeeze, added.mean(axis=(1, 2))))
    gates = 1.0 / (1.0 + np.exp(-dense(cell.excite, squeezed)))
    expected = maps + added * gates[:, None, None, :]
    np.testing.assert_allclose(cell(maps), expected, rtol=1e-9)
    assert np.ptp(gates) > 0.1, "gates that are all alike would show nothing"


def test_the_spectral_penalty_enters_the_loss_and_the_step(x):
    """The loss has the largest singular value of every kernel more, and the step its slope."""
    keras.config.set_dtype_policy("float64")

    def one_step(weight):
        options = {"kernel_regularizer": kv.networks.SpectralRegularizer(weight)}
        model = hierarchy(bottom=options, top=options)
        start = trainable_weights_of(model)
        (logs,) = single_steps(model, x, rate=1.0, steps=1)
        return model.trainable_variables, start, logs

    (variables, start, plain), (others, _, penalized) = one_step(0.0), one_step(0.2)
    total = 0.0
    for variable, other, before in zip(variables, others, start, strict=True):
        slope = np.zeros_like(before)
        if variable.name == "kernel":
            left, sizes, right = np.linalg.svd(before.reshape(-1, before.shape[-1]))
            total += 0.2 * sizes[0]
            slope = 0.2 * np.outer(left[:, 0], right[0]).reshape(before.shape)
        np.testing.assert_allclose(variable - other, slope, atol=1e-6, err_msg=variable.path)
    np.testing.assert_allclose(penalized["loss"] - plain["loss"], total, rtol=1e-6)
    assert penalized["elbo"] == plain["elbo"] and total > 1.0


# Objectives and what drives them.


def single_steps(model, x, *callbacks, rate=1e-4, steps=2):
    """Return the logs of so many steps, each of which has all data."""
    model.compile(keras.optimizers.SGD(rate), run_eagerly=True)
    options = {"batch_size": len(x), "epochs": steps, "shuffle": False, "verbose": 0}
    history = model.fit(x, callbacks=list(callbacks), **options).history
    logs = [
        dict(zip(history, values, strict=True)) for values in zip(*history.values(), strict=True)
    ]
    assert all(np.isfinite(list(one.values())).all() for one in logs)
    return logs


def test_geco_moves_its_multiplier(x):
    constraint = kv.objectives.SquaredError(2.0)
    model = hierarchy(objective=kv.objectives.GECO(constraint, initial_multiplier=0.5))
    rule = kv.callbacks.GECO(learning_rate=0.02, alpha=0.0, clip=(0.5, 2.0))
    multiplier = 0.5
    for logs in single_steps(model, x, rule):
        expected = logs["kl"] + multiplier * logs["constraint"]
        np.testing.assert_allclose(logs["loss"], expected, rtol=1e-5)
        multiplier *= np.clip(np.exp(0.02 * logs["constraint"]), 0.5, 2.0)
        np.testing.assert_allclose(logs["lambda"], multiplier, rtol=1e-5)
    assert multiplier != 0.5


def test_a_capacity_that_grows_is_that_of_all_groups(x):
    model = hierarchy(objective=kv.objectives.Capacity(0.0, gamma=3.0))
    schedule = kv.schedules.Linear(0.0, 6.0, steps=2)
    grow = kv.callbacks.HyperparameterSchedule("capacity", schedule)
    capacities = []
    for logs in single_steps(model, x, grow):
        distance = np.abs(logs["kl"] - logs["capacity"])
        np.testing.assert_allclose(logs["loss"], logs["reconstruction"] + 3.0 * distance, rtol=1e-5)
        capacities.append(logs["capacity"])
    assert capacities == [0.0, 3.0]


def test_a_controller_holds_the_kl_of_all_groups(x):
    model = hierarchy(objective=kv.objectives.TargetKL(2.0, beta=0.1))
    beta = integral = 0.1
    for logs in single_steps(model, x, kv.callbacks.KLController(0.01, 1e-2)):
        np.testing.assert_allclose(logs["loss"], logs["reconstruction"] + beta * logs["kl"], 1e-5)
        error = 2.0 - logs["kl"]
        integral -= 1e-2 * error
        beta = 0.01 / (1.0 + np.exp(error)) + integral
        np.testing.assert_allclose(logs["beta"], beta, rtol=1e-5)
    assert beta != 0.1


def test_the_mmd_is_that_of_the_whole_z(x):
    model = hierarchy(objective=kv.objectives.InfoVAE(0.5, 10.0))
    for logs in single_steps(model, x):
        expected = logs["reconstruction"] + 0.5 * logs["kl"] + 9.5 * logs["mmd"]
        np.testing.assert_allclose(logs["loss"], expected, rtol=1e-5)
    terms = model.compute_terms(x, 1, seed=1)
    prior = model.prior().sample([1, 6], seed=terms.draws.seed)
    expected = kv.penalties.mmd(terms.draws.z, prior, "rbf", 67**0.5)  # 3 + 32 + 32 dimensions
    _, measures = model.objective.loss_and_measures(terms)
    np.testing.assert_allclose(measures["mmd"], np.repeat(expected, 6), rtol=1e-4)


@pytest.mark.parametrize(
    ("objective", "message"),
    [
        (
            lambda: kv.objectives.BetaTC(dataset_size=6),
            "`posterior` must factorize over dimensions for BetaTC",
        ),
        (
            lambda: kv.objectives.DIP(1.0, 1.0),
            "`posterior` must have a mean and a covariance in closed form for DIP",
        ),
    ],
)
def test_objectives_of_single_dimensions_are_refused(objective, message, x):
    with pytest.raises(ValueError, match=message):
        single_steps(hierarchy(objective=objective()), x)


# Images of several channels.


def test_pixels_of_three_channels_at_temperatures():
    likelihood = kv.likelihoods.DiscretizedLogisticMixture((32, 32, 3), num_components=2)
    model = hierarchy(likelihood=likelihood)

    def drawn(temperature, seed=1, **options):
        images = model.sample(4, seed=seed, temperature=temperature, **options).numpy()
        assert images.shape == (4, 32, 32, 3)
        assert images.min() >= 0.0 and images.max() <= 255.0
        return images

    coldest = drawn(0.0)
    np.testing.assert_array_equal(coldest, drawn(0.0, seed=2))
    np.testing.assert_allclose(coldest, np.repeat(coldest[:1], 4, axis=0), atol=1e-2)
    cool, warm = drawn(0.5), drawn(1.0)
    for images in (cool, warm):
        assert np.ptp(images, axis=0).max() > 1.0, "all draws are alike"
    assert np.abs(cool - warm).max() > 1.0 and np.abs(cool - drawn(0.5, seed=2)).max() > 1.0
    # By name: all groups, none, and the top one alone.
    np.testing.assert_array_equal(drawn(dict.fromkeys(model.latents, 0.5)), cool)
    np.testing.assert_array_equal(drawn({}), warm)
    some = drawn({"z1": 0.0})
    assert min(np.abs(some - other).max() for other in (coldest, cool, warm)) > 1.0
    # Draws of x have the noise of p(x|z) also at the coldest z.
    pixels = drawn(0.0, mean=False)
    np.testing.assert_array_equal(pixels, np.round(pixels))
    assert np.any(pixels != drawn(0.0, seed=2, mean=False))


def test_images_of_64_pixels_a_side():
    """The scales that the networks are described with, of a few channels."""
    model = kv.HierarchicalVAE(
        kv.networks.BottomUp({32: 2, 16: 3, 8: 4, 1: 5}, blocks=1),
        kv.networks.TopDown({1: (2, 3), 8: (2, 2), 16: (1, 2), 32: (1, 1)}),
        kv.likelihoods.DiscretizedLogisticMixture((64, 64, 3), num_components=2),
    )
    sizes = [int(np.prod(shape)) for shape in model.latents.values()]
    assert sizes == [3, 3, 128, 128, 512, 1024]
    images = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3))
    terms = model.compute_terms(model.standardize(images)[0], 2, seed=1)
    assert terms.log_w.shape == (2, 2) and terms.kl.shape == (2, 6)
    for values in (terms.log_w, terms.kl, model.reconstruct(images)):
        assert np.all(np.isfinite(values))
    # Two components of noise that is wide at the start: about 8 bits a pixel and channel.
    bits = -np.mean(terms.elbo) / np.log(2.0) / (64 * 64 * 3)
    assert 7.0 < bits < 12.0
