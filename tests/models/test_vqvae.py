"""A VQ-VAE as a latent variable model: exact sums over all codes, and a state kept whole."""

import itertools
import math

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_vae as kv
from tests.small_models import binary_images, normal_values, trainable_weights_of

P = kv.posteriors
SHAPE = (8, 8, 1)
X = binary_images(24, SHAPE)


def make(posterior=None, likelihood=None, **kwargs):
    """Return a small model of maps of 2x2 codes, always of the same weights."""
    keras.utils.set_random_seed(0)
    posterior = HEADS[posterior]() if isinstance(posterior, str) else posterior
    likelihood = likelihood or kv.likelihoods.Bernoulli(SHAPE)
    maps = keras.Sequential([kv.networks.MLPEncoder((12,)), keras.layers.Reshape((2, 2, 3))])
    return kv.VQVAE(
        encoder=maps,
        decoder=kv.networks.MLPDecoder(likelihood.params_shape, (8,)),
        posterior=posterior or P.VectorQuantizer((2, 2), 6, 3, restart_below=0.5),
        likelihood=likelihood,
        **kwargs,
    )


def fit(model, x=X, epochs=2, optimizer=None, callbacks=(), **execution):
    # Eagerly, where it is not about the way of running: a graph takes seconds to trace.
    execution = execution or {"run_eagerly": model.is_alone}
    with model.distribute_strategy.scope():
        model.compile(optimizer or keras.optimizers.SGD(1e-3), **execution)
    data = {"batch_size": 8, "shuffle": False, "verbose": 0}
    return model.fit(x, epochs=epochs, callbacks=list(callbacks), **data).history


def state(model):
    return [variable.numpy() for variable in model.variables if "seed" not in variable.path]


# The model is a distribution, and what is reported is a bound on it.

PIXELS, CODES = (2, 2, 1), 3


def enumerable(posterior=None, prior=None):
    """Return a model of 4 binary pixels and 2 codes, whose weights are random."""
    model = kv.VQVAE(
        encoder=kv.networks.MLPEncoder((5,)),
        decoder=kv.networks.MLPDecoder(PIXELS, (5,)),
        posterior=posterior or P.VectorQuantizer((2,), CODES, 3),
        likelihood=kv.likelihoods.Bernoulli(PIXELS),
        prior=prior,
    )
    rng = np.random.default_rng(4)
    for weight in model.trainable_variables:
        weight.assign(rng.normal(0.0, 1.0, weight.shape))
    return model


def joint(model):
    """Return log p(x, z) of all x and all z, `[16, Z]`."""
    counts = model.posterior_head.groups.counts
    z = np.array(list(itertools.product(*(range(count) for count in counts))))  # [Z, N]
    x = np.array(list(itertools.product((0.0, 1.0), repeat=4))).reshape(-1, 1, *PIXELS)
    return model.decode(z).log_prob(x.astype("float32")) + model.prior().log_prob(z)


@pytest.mark.parametrize(
    "posterior",
    [
        lambda: P.VectorQuantizer((2,), CODES, 3),
        lambda: P.ResidualQuantizer((1,), 2, CODES, 3),
        lambda: P.FSQ((2,), (3, 2)),
    ],
)
def test_densities_sum_to_one_and_weights_are_a_bound(posterior):
    model = enumerable(posterior())
    log_p = joint(model).numpy()
    assert abs(np.exp(log_p).sum() - 1.0) < 1e-5
    x = np.array(list(itertools.product((0.0, 1.0), repeat=4))).reshape(-1, *PIXELS)
    evidence = np.log(np.exp(log_p).sum(axis=1))
    log_w = model.log_weights(x, num_samples=3).numpy()
    assert np.all(log_w <= evidence + 1e-5)
    np.testing.assert_array_equal(log_w[0], log_w[2])  # more samples say no more
    terms = model.compute_terms(tf.constant(x, tf.float32))
    np.testing.assert_allclose(terms.elbo, log_w[0], rtol=1e-6)
    assert not np.any(terms.log_q)
    np.testing.assert_allclose(model.terms_of(model.encode(x), x).log_w[0], log_w[0], rtol=1e-6)


def test_the_kl_is_that_of_the_prior_by_group():
    head = P.QuantizerHierarchy(
        P.VectorQuantizer((1, 1), 3, 2), P.VectorQuantizer((2, 2), 5, 2), filters=3
    )
    model = make(head)
    terms = model.compute_terms(tf.constant(X))
    np.testing.assert_allclose(terms.kl, [[math.log(3), 4 * math.log(5)]] * len(X), rtol=1e-6)


LIKELIHOODS = {
    "normal": lambda: (kv.likelihoods.Normal(SHAPE, "shared"), normal_values(6, *SHAPE)),
    "mixture": lambda: (
        kv.likelihoods.DiscretizedLogisticMixture((8, 8, 3), num_components=2),
        np.random.default_rng(0).integers(0, 256, (6, 8, 8, 3)),
    ),
    "Bernoulli": lambda: (kv.likelihoods.Bernoulli(SHAPE), X[:6]),
}


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_decoded_codes_are_what_training_sees(name):
    likelihood, x = LIKELIHOODS[name]()
    model = make(likelihood=likelihood)
    terms = model.compute_terms(model.standardize(x)[0], training=True)
    codes = model.codes(x)
    assert codes.dtype == tf.int32 and codes.shape == (6, 4)
    np.testing.assert_array_equal(model.decode_codes(codes), terms.draws.p_x.mean()[0])
    np.testing.assert_array_equal(model.reconstruct(x), model.decode_codes(codes))
    np.testing.assert_array_equal(terms.draws.z[0], codes)
    assert model.sample(3, seed=1).shape == (3, *likelihood.shape)
    history = fit(model, x, 1)
    assert all(np.isfinite(values).all() for values in history.values())


def test_codes_are_split_into_maps_and_joined():
    model = make()
    codes = model.codes(X)
    (maps,) = model.split(codes).values()
    np.testing.assert_array_equal(maps, tf.reshape(codes, [-1, 2, 2]))
    np.testing.assert_array_equal(model.join({"z": maps}), codes)


def test_the_commitment_is_a_sum_for_each_example():
    model = make(commitment=0.5)
    terms = model.compute_terms(tf.constant(X), training=True)
    z = model.posterior_head.project(model.encoder(X))
    e = tf.reshape(model.posterior_head.embed(model.codes(X)), z.shape)
    np.testing.assert_allclose(
        terms.penalty, 0.5 * tf.reduce_sum((z - e) ** 2, axis=(1, 2)), rtol=1e-5
    )


def test_the_weight_of_the_commitment_is_that_of_the_encoder_alone():
    def slopes(commitment):
        model = make("gradient", commitment=commitment)
        model.posterior_head.entropy_weight = 0.0  # which moves both
        head = model.posterior_head
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(model.compute_terms(tf.constant(X), training=True).penalty)
        return tape.gradient(loss, [head.projection.kernel.value, head.codebook.embeddings.value])

    (of_encoder, of_codebook), (twice, same) = slopes(1.0), slopes(2.0)
    assert np.abs(of_encoder).max() > 0.1 and np.abs(of_codebook).max() > 0.1
    np.testing.assert_allclose(twice, 2.0 * of_encoder, rtol=1e-5)
    np.testing.assert_array_equal(same, of_codebook)


def test_a_batch_that_holds_each_image_twice_makes_the_same_step():
    # As long as no part of the loss is a sum over the batch, where another is a mean.
    once, twice = make("gradient"), make("gradient")
    for model, x in ((once, X[:8]), (twice, np.repeat(X[:8], 2, axis=0))):
        # With restarts, codes would begin anew at other images.
        model.posterior_head.codebook.restart_below = 0.0
        model.compile(keras.optimizers.SGD(0.1), run_eagerly=True)
        loss = model.fit(x, batch_size=len(x), verbose=0).history["loss"]
        np.testing.assert_allclose(loss, once.history.history["loss"], rtol=1e-5)
    for a, b in zip(trainable_weights_of(once), trainable_weights_of(twice), strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-4, atol=1e-6)


def test_perplexity_and_usage_of_a_batch():
    model = make()
    measured = model.compute_terms(tf.constant(X)).measured
    p = np.bincount(model.codes(X).numpy().ravel(), minlength=6) / (len(X) * 4)
    entropy = -sum(q * math.log(q) for q in p if q > 0)
    np.testing.assert_allclose(measured["perplexity"], [math.exp(entropy)] * len(X), rtol=1e-5)
    np.testing.assert_allclose(measured["usage"], [np.mean(p > 0)] * len(X), rtol=1e-6)


# The codebook: when it moves, and when it does not.


def test_the_codebook_moves_after_the_quantization_and_once_a_step():
    model, reference = make(), make()
    log = fit(model, X[:16], 1, keras.optimizers.SGD(0.0))
    codebook, losses = reference.posterior_head.codebook, []
    for number in range(2):
        reference.trained_batches.assign(number)
        terms = reference.compute_terms(tf.constant(X[8 * number : 8 * number + 8]), training=True)
        losses.append(np.mean(-terms.elbo + terms.penalty))
        for variable, value in list(reference.state_updates(terms.statistics)):
            variable.assign(value)
    np.testing.assert_allclose(log["loss"], [np.mean(losses)], rtol=1e-6)
    for a, b in zip(model.posterior_head.codebook.weights, codebook.weights, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)


def test_vectors_that_learn_by_gradients_move_with_the_optimizer_and_then_begin_anew():
    model, reference = make("gradient"), make("gradient")
    fit(model, X[:8], 1, keras.optimizers.SGD(0.1))
    codebook = reference.posterior_head.codebook
    with tf.GradientTape() as tape:
        terms = reference.compute_terms(tf.constant(X[:8]), training=True)
        loss = tf.reduce_mean(-terms.elbo + terms.penalty)
    codebook.embeddings.assign_sub(0.1 * tape.gradient(loss, codebook.embeddings.value))
    moved = codebook.embeddings.numpy()
    for variable, value in list(reference.state_updates(terms.statistics)):
        variable.assign(value)
    assert 0 < np.sum(np.any(codebook.embeddings.numpy() != moved, axis=1)) < 6
    for a, b in zip(model.posterior_head.codebook.weights, codebook.weights, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5)


def test_every_step_draws_vectors_of_its_own_to_begin_anew_at():
    model = make()

    def candidates(number):
        model.trained_batches.assign(number)
        terms = model.compute_terms(tf.constant(X), training=True)
        return terms.statistics["candidates"].numpy()

    np.testing.assert_array_equal(candidates(1), candidates(1))
    # Of 96 vectors, a code gets the same one again in a step of 96.
    assert np.mean(np.any(candidates(1) != candidates(2), axis=1)) > 0.5


def test_evaluation_leaves_the_codebook_alone():
    model = make()
    model.compile("sgd", run_eagerly=True)
    before = state(model)
    model.evaluate(X, batch_size=24, verbose=0)
    assert model.compute_terms(tf.constant(X)).statistics == {}
    for a, b in zip(before, state(model), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("where", ["encoder", "decoder"])
def test_data_that_are_not_finite_leave_the_codebook_as_it_was(where):
    model = make()
    network = model.decoder if where == "decoder" else model.encoder.layers[0]
    bias = network.chain[-1].bias
    bias.assign(tf.fill(bias.shape, np.nan))
    before = [v.numpy() for v in model.posterior_head.weights]
    with pytest.raises(ArithmeticError, match="is not finite"):
        fit(model)
    skip = kv.callbacks.HealthCheck(non_finite="skip")
    fit(model, epochs=1, callbacks=[skip])
    for a, b in zip(before, model.posterior_head.weights, strict=True):
        np.testing.assert_array_equal(a, b)


HEADS = {
    "ema": lambda: P.VectorQuantizer((2, 2), 6, 3, decay=0.5, restart_below=0.8),
    "gradient": lambda: P.VectorQuantizer(
        (2, 2), 6, 3, learning="gradient", decay=0.5, restart_below=0.8, entropy_weight=0.1
    ),
    "residual": lambda: P.ResidualQuantizer((2, 2), 2, 6, 3, decay=0.5, restart_below=0.8),
    "hierarchy": lambda: P.QuantizerHierarchy(
        P.VectorQuantizer((1, 1), 4, 2, decay=0.5, restart_below=0.8),
        P.VectorQuantizer(
            (2, 2), 6, 3, learning="gradient", decay=0.5, restart_below=0.8, entropy_weight=0.1
        ),
        filters=3,
    ),
}


def vectors_moved_by_restarts(model):
    """Return for each codebook how many vectors are where they would not be without restarts."""
    never = make("hierarchy")
    for book in never.posterior_head.codebooks:
        book.restart_below = 0.0
    fit(never, epochs=1)
    books = zip(model.posterior_head.codebooks, never.posterior_head.codebooks, strict=True)
    return [np.sum(np.linalg.norm(a.embeddings - b.embeddings, axis=1) > 0.1) for a, b in books]


@pytest.mark.full
def test_two_replicas_equal_one_device(replicas):
    one = make("hierarchy")  # which holds both kinds of statistics
    expected = fit(one, epochs=1)
    with replicas.scope():
        two = make("hierarchy")
    found = fit(two, epochs=1)
    assert all(count > 0 for count in vectors_moved_by_restarts(one))
    for a, b in zip(state(one), state(two), strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-4, atol=2e-6)
    for measure, values in expected.items():
        np.testing.assert_allclose(found[measure], values, rtol=1e-4, err_msg=measure)
    # The last batch is a single image: one replica has none.
    history = two.fit(X[:17], batch_size=8, verbose=0).history
    assert all(np.isfinite(values).all() for values in history.values())
    assert all(np.isfinite(values).all() for values in state(two))


@pytest.mark.first_is_quick
@pytest.mark.parametrize("jit_compile", [False, True], ids=["graph", "xla"])
def test_every_way_of_running_makes_the_same_codebook(jit_compile):
    eager, other = make("ema"), make("ema")
    fit(eager, run_eagerly=True)
    fit(other, jit_compile=jit_compile, steps_per_execution=3)
    for a, b in zip(state(eager), state(other), strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-4, atol=2e-6)


def test_an_overflow_under_loss_scaling_leaves_the_codebook_as_it_was():
    keras.config.set_dtype_policy("mixed_float16")
    model = make("ema")
    before = [v.numpy() for v in model.posterior_head.codebook.weights]
    sgd = keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(1e-3), initial_scale=1e38)
    fit(model, X[:8], epochs=1, optimizer=sgd)
    assert int(model.optimizer.iterations) == 0
    for a, b in zip(before, model.posterior_head.codebook.weights, strict=True):
        np.testing.assert_array_equal(b, a)


@pytest.mark.full
def test_codebooks_are_in_float32_under_mixed_precision():
    keras.config.set_dtype_policy("mixed_bfloat16")
    model = make("ema")
    terms = model.compute_terms(tf.constant(X), training=True)
    assert model.encoder.compute_dtype == "bfloat16"
    assert {value.dtype for value in terms.statistics.values()} == {tf.float32}
    assert {v.dtype for v in model.posterior_head.codebook.weights} == {"float32"}
    np.testing.assert_array_equal(model.decode_codes(model.codes(X)), model.reconstruct(X))
    fit(model, epochs=1)
    assert all(np.isfinite(values).all() for values in state(model))


def test_a_file_holds_all_that_a_training_needs(tmp_path):
    model = make("residual")
    fit(model, epochs=1, optimizer=keras.optimizers.Adam(1e-2))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded.codes(X), model.codes(X))
    for each in (model, loaded):
        each.fit(X, batch_size=8, shuffle=False, verbose=0)
    for a, b in zip(state(model), state(loaded), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.full
def test_an_interrupted_training_goes_on(tmp_path):
    unbroken, broken, resumed = (make("ema") for _ in range(3))
    fit(unbroken, X[:16], epochs=2)
    fit(broken, X[:16], epochs=1, callbacks=[kv.callbacks.Resume(tmp_path)])
    resume = kv.callbacks.Resume(tmp_path)
    resumed.compile(keras.optimizers.SGD(1e-3), run_eagerly=True)
    data = {"batch_size": 8, "shuffle": False, "verbose": 0}
    resumed.fit(X[:16], epochs=2, initial_epoch=resume.epoch, callbacks=[resume], **data)
    assert resume.epoch == 2
    for a, b in zip(state(unbroken), state(resumed), strict=True):
        np.testing.assert_array_equal(a, b)


# Where codebooks start.


def test_k_means_passes_by_what_has_no_codebook():
    posterior = P.QuantizerHierarchy(P.VectorQuantizer((1, 1), 4, 2), P.FSQ((2, 2), (3, 2)))
    model = make(posterior)
    before = posterior.top.codebook.embeddings.numpy()
    model.initialize_codebook(X)
    assert np.abs(posterior.top.codebook.embeddings.numpy() - before).max() > 1e-3
    neither = P.QuantizerHierarchy(P.FSQ((1, 1), (3, 2)), P.FSQ((2, 2), (3, 2)))
    with pytest.raises(ValueError, match="must have a codebook that can be initialized"):
        make(neither).initialize_codebook(X)


@pytest.mark.parametrize("name", HEADS)
def test_k_means_before_the_training(name):
    model = make(name)
    before = np.mean(model.compute_terms(tf.constant(X)).penalty)
    others = [id(v) for book in model.posterior_head.codebooks for v in book.weights]
    rest = [v.numpy() for v in model.weights if id(v) not in others]
    model.initialize_codebook(tf.data.Dataset.from_tensor_slices(X).batch(5), seed=2)
    assert np.mean(model.compute_terms(tf.constant(X)).penalty) < before
    after = [v.numpy() for v in model.weights if id(v) not in others]
    for a, b in zip(rest, after, strict=True):
        np.testing.assert_array_equal(a, b)
    for book in model.posterior_head.codebooks:
        assert np.all(book.usage.numpy() == 1.0)
        if book.totals is not None:
            np.testing.assert_array_equal(book.totals, book.embeddings)


def test_k_means_needs_a_codebook_and_enough_data():
    with pytest.raises(ValueError, match="`posterior` must have a codebook"):
        make(P.FSQ((2, 2), (3, 2))).initialize_codebook(X)
    with pytest.raises(ValueError, match="`data` must give a vector for each of 6 codes"):
        make().initialize_codebook(X[:1])
    model = make()
    model.initialize_codebook(X, seed=2)
    assert len(np.unique(model.posterior_head.codebook.embeddings, axis=0)) == 6


@pytest.mark.parametrize(("cause", "count"), [("data", 4), ("encoder", 1)])
def test_k_means_warns_of_fewer_vectors_than_codes(cause, count):
    # Codes of the same vector are none: all but the first of them are without use.
    model, x = make(), X
    if cause == "data":
        x = np.ones_like(X)  # in a map of 4 positions
    else:
        for weight in model.encoder.weights:
            weight.assign(tf.zeros_like(weight))
    told = f"number of different vectors, {count}, is less than that of codes, 6: "
    with pytest.warns(RuntimeWarning, match=told) as warned:
        model.initialize_codebook(x)
    assert len(warned) == 1
    assert all(np.isfinite(value).all() for value in state(model))


@pytest.mark.full
def test_k_means_between_two_trainings_is_heeded_by_a_graph_and_not_repeated_in_it():
    # As it would not be by a graph that holds a flag, of whether the codebook has been set.
    eager, graph = make("ema"), make("ema")
    fit(eager, epochs=1)
    fit(graph, epochs=1, jit_compile=False)
    for model in (eager, graph):
        model.initialize_codebook(X, seed=2)
        np.testing.assert_array_equal(model.posterior_head.codebook.usage, 1.0)
        model.fit(X, batch_size=8, epochs=2, shuffle=False, verbose=0)
    for a, b in zip(state(eager), state(graph), strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-4, atol=2e-6)


# What has no meaning.


def judge():
    return keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(1)])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"objective": kv.objectives.ELBO(estimator="score_function")},
            "`objective` must take gradients through z: a point mass",
        ),
        (
            {"objective": kv.objectives.ImportanceWeighted(5)},
            "`objective` must have num_samples=1: all samples of a quantizer are the same",
        ),
        (
            {"objective": kv.objectives.InfoVAE(0.5, 10.0)},
            "`objective` must not compute with z, which holds codes",
        ),
        (
            {"objective": kv.objectives.Adversarial(kv.objectives.InfoVAE(0.5, 10.0), judge())},
            "`objective` must not compute with z, which holds codes",
        ),
        (
            {
                "objective": kv.objectives.GECO(
                    kv.objectives.SquaredError(1.0), kv.objectives.DIP(1.0, 1.0)
                )
            },
            "`objective` must not compute with z, which holds codes",
        ),
        ({"commitment": -1.0}, "`commitment` must be a finite number >= 0"),
        ({"posterior": P.DiagonalNormal(2)}, "`posterior` must be an instance of .*Quantizer"),
        ({"prior": kv.priors.StandardNormal(4)}, "`prior` must be over the same z"),
        ({"prior": kv.priors.UniformCodes((2, 2), 7)}, "`prior` must be over as many codes"),
    ],
)
def test_parts_that_do_not_fit_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        make(**arguments)


def test_a_vae_refuses_a_quantizer():
    with pytest.raises(ValueError, match="a quantizer, which has none, is trained by .*VQVAE"):
        kv.VAE(
            encoder=kv.networks.MLPEncoder((4,)),
            decoder=kv.networks.MLPDecoder(SHAPE, (4,)),
            posterior=P.FSQ((2,), (3, 2)),
            likelihood=kv.likelihoods.Bernoulli(SHAPE),
        )


@pytest.mark.parametrize(
    ("codes", "message"),
    [
        (np.zeros((2, 4)), "must hold codes, which are integers"),
        (np.zeros((2, 5), "int32"), r"must have shape \[..., 4\]"),
        (np.full((2, 4), 2**32), r"must hold codes in 0 .. 5. Received: values in \[4294967296"),
        (np.full((2, 4), 6), r"must hold codes in 0 .. 5. Received: values in \[6 .. 6\]"),
    ],
)
def test_what_are_no_codes_is_refused(codes, message):
    with pytest.raises(ValueError, match=message):
        make().decode_codes(codes)


def test_a_map_is_given_and_kept():
    model = make()
    codes = model.codes(X[:3])
    given = model.split(codes)  # the map, 2x2
    np.testing.assert_array_equal(model.sample(3, given=given), model.decode_codes(codes))
    np.testing.assert_array_equal(model.reconstruct(X[:3], keep="z"), model.reconstruct(X[:3]))


def test_a_prior_of_labels_is_refused():
    prior = kv.priors.PixelCNN((2, 2), 6, filters=4, num_layers=1)
    prior.build_for("prior", (None, 3))
    with pytest.raises(ValueError, match="`prior` must have no condition"):
        make().with_prior(prior)


def test_another_prior_shares_the_rest():
    model = make()
    fit(model, epochs=1)
    other = model.with_prior(kv.priors.UniformCodes((2, 2), 6))
    assert other.commitment == model.commitment
    np.testing.assert_array_equal(other.codes(X), model.codes(X))
    np.testing.assert_array_equal(other.sample(4, seed=3), model.sample(4, seed=3))
    assert len(trainable_weights_of(other)) == len(trainable_weights_of(model))
