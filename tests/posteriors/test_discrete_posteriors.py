"""The heads of q(z|x) over discrete z, whole and relaxed."""

import keras
import numpy as np
import pytest
import scipy.special
import tensorflow as tf
import tensorflow_probability as tfp

import keras_vae as kv
from keras_vae.posteriors import Bernoulli, Categorical
from tests.small_models import binary_images, make_vae, parts

tfd = tfp.distributions

HEADS = [
    lambda **kwargs: Categorical(2, 3, **kwargs),
    lambda **kwargs: Bernoulli(4, **kwargs),
]
both = pytest.mark.parametrize("make", HEADS, ids=["categorical", "bernoulli"])


def built(make, **kwargs):
    head = make(**kwargs)
    head.build((None, 5))
    rng = np.random.default_rng(3)
    for weight in head.logits.weights:
        weight.assign(rng.normal(0.0, 0.7, weight.shape))
    return head


def features(dtype="float32", size=6):
    return tf.constant(np.random.default_rng(0).normal(size=(size, 5)), dtype)


def log_probabilities(head, h):
    """Return log q of every class `[B, D, K]`, of 1 and 0 for Bernoulli variables `[B, D, 2]`."""
    kernel, bias = head.logits.get_weights()
    logits = (h @ kernel + bias).reshape(len(h), *head.event_shape)
    if isinstance(head, Bernoulli):
        return np.stack([-np.logaddexp(0, -logits), -np.logaddexp(0, logits)], -1)
    return scipy.special.log_softmax(logits, axis=-1)


@both
def test_density_and_moments_equal_numpy(make):
    head, h = built(make, dtype="float64"), features("float64")
    q, log_p = head(h), log_probabilities(head, h.numpy())
    z = q.sample(7, seed=[0, 1])
    rows = np.stack([z, 1.0 - z], -1) if isinstance(head, Bernoulli) else z.numpy()
    np.testing.assert_allclose(q.log_prob(z), (rows * log_p).sum((-1, -2)), rtol=1e-9)
    p = np.exp(log_p[..., 0] if isinstance(head, Bernoulli) else log_p)
    np.testing.assert_allclose(head.mean(q), p, rtol=1e-9)
    np.testing.assert_allclose(head.stddev(q), np.sqrt(p * (1 - p)), rtol=1e-9)


@both
def test_draws_are_whole_and_as_frequent_as_they_should_be(make):
    head = built(make)
    q = head(features())
    z = q.sample(20_000, seed=[0, 1]).numpy()
    assert z.dtype == "float32" and set(np.unique(z)) == {0.0, 1.0}
    if isinstance(head, Categorical):
        assert np.all(z.sum(-1) == 1.0)
    p = q.mean().numpy()
    # At most 36 frequencies at 4 standard errors: 36 * 6.3e-5 = 2.3e-3 for a new seed.
    assert np.all(np.abs(z.mean(0) - p) < 4 * np.sqrt(p * (1 - p) / len(z)))


@both
def test_only_training_with_a_temperature_relaxes(make):
    h = features()
    relaxed, whole = built(make, temperature=0.5), built(make)
    assert relaxed.discrete and whole.discrete
    assert relaxed.reparameterized and not whole.reparameterized
    for head, training in ((relaxed, False), (whole, True), (whole, False)):
        z = head(h, training=training).sample(9, seed=[0, 1])
        assert set(np.unique(z)) == {0.0, 1.0}
    q = relaxed(h, training=True)
    z = q.sample(9, seed=[0, 1]).numpy()
    assert np.all((z > 0) & (z < 1)) and len(np.unique(z)) > 50
    assert q.reparameterization_type == tfd.FULLY_REPARAMETERIZED
    assert relaxed(h).reparameterization_type == tfd.NOT_REPARAMETERIZED


@both
def test_density_of_relaxed_draws_is_linear_between_whole_ones(make):
    head, h = built(make, temperature=0.5, dtype="float64"), features("float64")
    q = head(h, training=True)
    a, b = head(h).sample(2, seed=[0, 1])
    middle = 0.25 * a + 0.75 * b
    expected = 0.25 * q.log_prob(a) + 0.75 * q.log_prob(b)
    np.testing.assert_allclose(q.log_prob(middle), expected, rtol=1e-9)
    np.testing.assert_allclose(q.log_prob(a), head(h).log_prob(a), rtol=1e-12)


@both
def test_kl_of_relaxed_draws_is_that_of_the_discrete_distributions(make):
    head, h = built(make, temperature=0.5, dtype="float64"), features("float64")
    name = type(head).__name__
    prior = getattr(kv.priors, name)(*head.event_shape, learned=True, dtype="float64")
    prior.build()
    prior.logits.assign(np.random.default_rng(1).normal(size=prior.logits.shape))
    kl = kv.bounds.closed_form_kl(head(h, training=True), prior())
    log_q, log_p = log_probabilities(head, h.numpy()), prior.logits.numpy()
    if name == "Bernoulli":
        log_p = np.stack([-np.logaddexp(0, -log_p), -np.logaddexp(0, log_p)], -1)
    else:
        log_p = scipy.special.log_softmax(log_p, axis=-1)
    expected = (np.exp(log_q) * (log_q - log_p)).sum(-1)
    np.testing.assert_allclose(kl, expected, rtol=1e-6)
    np.testing.assert_allclose(kv.bounds.closed_form_kl(head(h), prior()), expected, rtol=1e-6)


@both
def test_straight_through_rounds_forward_and_not_backward(make):
    h = features()
    soft = built(make, temperature=0.5)
    hard = built(make, temperature=0.5, straight_through=True)
    weights = tf.constant(np.random.default_rng(1).normal(size=(9, 6, *soft.event_shape)), h.dtype)

    def draw(head):
        with tf.GradientTape() as tape:
            z = head(h, training=True).sample(9, seed=[0, 1])
            loss = tf.reduce_sum(weights * z)
        return z.numpy(), tape.gradient(loss, head.logits.kernel.value).numpy()

    (z_soft, soft_gradient), (z_hard, hard_gradient) = draw(soft), draw(hard)
    assert set(np.unique(z_hard)) == {0.0, 1.0}
    nearest = np.round(z_soft)
    if isinstance(soft, Categorical):
        nearest = np.eye(3)[z_soft.argmax(-1)]
    np.testing.assert_array_equal(z_hard, nearest)
    np.testing.assert_allclose(hard_gradient, soft_gradient, rtol=1e-5, atol=1e-6)
    assert np.abs(soft_gradient).max() > 0.1


@both
def test_low_temperatures_give_whole_draws_of_the_right_frequencies(make):
    head = built(make, temperature=1e-3)
    q = head(features(), training=True)
    z = q.sample(20_000, seed=[0, 1]).numpy()
    assert np.mean(np.minimum(z, 1 - z)) < 1e-3
    p = q.mean().numpy()
    # At most 36 frequencies: 2.3e-3 for a new seed; the second term is for draws in between.
    assert np.all(np.abs(z.mean(0) - p) < 4 * np.sqrt(p * (1 - p) / len(z)) + 1e-3)


@pytest.mark.full
def test_a_schedule_drives_the_temperature():
    head = Categorical(2, 3, temperature=2.0)
    model = make_vae(posterior=head, prior=kv.priors.Categorical(2, 3), units=4)
    model.compile("sgd", run_eagerly=True)
    schedule = kv.schedules.Linear(2.0, 0.5, steps=3)
    callback = kv.callbacks.HyperparameterSchedule("temperature", schedule)
    history = model.fit(binary_images(16), batch_size=4, callbacks=[callback], verbose=0).history
    assert history["temperature"] == [0.5] and float(head.temperature) == 0.5
    # The graph reads the variable: at a low temperature the same noise gives sharper draws.
    draw = tf.function(lambda h: head(h, training=True).sample(50, seed=[0, 1]))
    h = tf.zeros([3, 4])
    spread = []
    for temperature in (2.0, 0.05):
        head.temperature.assign(temperature)
        spread.append(float(tf.math.reduce_std(draw(h))))
    assert spread[1] > 1.3 * spread[0]


@pytest.mark.first_is_quick
@both
def test_extreme_logits_stay_finite(make):
    policy = "mixed_bfloat16"
    head = built(make, temperature=0.1, dtype=policy)
    size = head.logits.units
    head.logits.kernel.assign(np.zeros(head.logits.kernel.shape))
    head.logits.bias.assign(1e4 * (-1.0) ** np.arange(size))
    prior = getattr(kv.priors, type(head).__name__)(*head.event_shape, learned=True, dtype=policy)
    prior.build()
    prior.logits.assign(-1e4 * (-1.0) ** np.arange(size).reshape(head.event_shape))
    weights = [head.logits.bias.value, prior.logits.value]

    def measured(h, training):
        with tf.GradientTape() as tape:
            q, p = head(h, training=training), prior()
            z = q.sample(3, seed=[0, 1])
            values = [q.log_prob(z), p.log_prob(z), kv.bounds.closed_form_kl(q, p)]
            loss = tf.add_n([tf.reduce_sum(value) for value in values])
        return loss, tape.gradient(loss, weights)

    @tf.function(jit_compile=True, autograph=False)
    def run(h):
        return [measured(h, training) for training in (False, True)]

    for loss, gradients in run(tf.cast(features(), head.compute_dtype)):
        assert loss.dtype == tf.float32
        assert all(np.all(np.isfinite(value)) for value in (loss, *gradients))


@both
def test_slices_and_copies_of_q(make):
    q = built(make)(features())
    z = q.sample(seed=[0, 1])
    np.testing.assert_allclose(q[2].log_prob(z[2]), q.log_prob(z)[2], rtol=1e-6)
    np.testing.assert_allclose(q.copy().log_prob(z), q.log_prob(z), rtol=1e-6)


@both
def test_config_holds_the_temperature_of_the_constructor(make):
    head = make(temperature=2, straight_through=True)
    head.temperature.assign(0.1)
    copy = type(head).from_config(head.get_config())
    assert copy.get_config() == head.get_config()
    assert float(copy.temperature) == 2.0 and copy.straight_through
    assert make().get_config()["temperature"] is None and not make().hyperparameters


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: Categorical(0, 3), "latent_dim"),
        (lambda: Categorical(2, 1), "num_classes"),
        (lambda: Categorical(2, 3, temperature=0.0), "temperature"),
        (lambda: Bernoulli(2, temperature=-1.0), "temperature"),
        (lambda: Bernoulli(2, straight_through=True), "temperature"),
        (lambda: Bernoulli(2, temperature=1.0, straight_through="yes"), "straight_through"),
    ],
)
def test_wrong_arguments_are_named(make, name):
    with pytest.raises(ValueError, match=f"Argument `{name}`"):
        make()


@pytest.mark.parametrize(
    ("posterior", "prior", "objective", "message"),
    [
        (Bernoulli(3, temperature=1.0), None, kv.objectives.ELBO(), "`prior` must be over the"),
        (Categorical(2, 3), kv.priors.Categorical(2, 4), None, "`prior` must be over the same z"),
        (Bernoulli(3), kv.priors.Bernoulli(3), kv.objectives.ELBO(), "`objective` must not need"),
        (
            Bernoulli(3, temperature=1.0),
            kv.priors.Bernoulli(3),
            kv.objectives.ELBO(estimator="score_function"),
            "`posterior` must be without a temperature",
        ),
    ],
)
def test_what_does_not_fit_is_refused(posterior, prior, objective, message):
    with pytest.raises(ValueError, match=message):
        kv.VAE(**parts(posterior=posterior, prior=prior, objective=objective))


@pytest.fixture
def conditional():
    """Return a model of discrete z and labels, and data for it."""
    prior = kv.priors.Categorical(2, 3, learned=True)
    objective = kv.objectives.ImportanceWeighted(3, estimator="score_function")
    arguments = parts(posterior=Categorical(2, 3), prior=prior, objective=objective, units=4)
    return kv.ConditionalVAE(condition=4, **arguments), binary_images(6), np.arange(6) % 4


def test_every_method_of_a_model(conditional):
    model, x, y = conditional
    model.compile(keras.optimizers.SGD(1e-3), run_eagerly=True)
    assert np.isfinite(model.fit(x, y, verbose=0).history["loss"]).all()
    z = model.encode(x, y).sample(3, seed=[0, 1])
    p = model.decode(z, y)
    assert p.batch_shape == (3, 6) and p.event_shape == (8, 8, 1)
    # One z after the other, to see that classes and labels are not confused with one another.
    alone = model.decode(z[1, 4:5], y[4:5]).mean()
    np.testing.assert_allclose(p.mean()[1, 4], alone[0], rtol=1e-4)
    assert model.sample(6, seed=1, y=y).shape == x.shape
    np.testing.assert_allclose(model.reconstruct(x, y), model(x, y=y), rtol=1e-6)
    assert model.log_weights(x, num_samples=5, seed=1, y=y).shape == (5, 6)


@pytest.mark.full
def test_a_served_model_has_the_same_log_likelihood(conditional, tmp_path):
    model, x, y = conditional
    data = tf.data.Dataset.from_tensor_slices((x, y)).batch(6)
    estimate = kv.evaluation.log_likelihood(model, data, num_samples=9).mean
    path = kv.export_saved_model(model, tmp_path / "1")
    served = tf.saved_model.load(path).signatures["log_likelihood"]
    given = {"x": tf.constant(x), "y": tf.constant(y, tf.int32)}
    output = served(**given, count=tf.constant(9), seed=tf.constant(0))
    assert float(tf.reduce_mean(output["log_likelihood"])) == pytest.approx(estimate, rel=1e-5)


@pytest.mark.first_is_quick
@pytest.mark.parametrize(
    "posterior", [Categorical(3, 4, temperature=1.0), Bernoulli(3, temperature=1.0)]
)
def test_a_unit_counts_once_and_traversals_take_each_value(posterior):
    name = type(posterior).__name__
    prior = getattr(kv.priors, name)(*posterior.event_shape)
    model = make_vae(posterior=posterior, prior=prior, units=4)
    x = binary_images(40)
    kernel = posterior.logits.kernel
    # Only the last variable heeds x.
    used = np.zeros((4, *posterior.event_shape))
    used[:, -1] = np.random.default_rng(1).normal(0.0, 5.0, used[:, -1].shape)
    kernel.assign(used.reshape(kernel.shape))
    found = kv.evaluation.active_units(model, x)
    assert found.count == 1 and found.variances.shape == posterior.event_shape
    figure = kv.plotting.latent_traversal(model, x[:1], dimensions=[0, 2])
    columns = 4 if name == "Categorical" else 2
    image = figure.get_axes()[0].get_images()[0].get_array()
    assert image.shape == (2 * 9 - 1, columns * 9 - 1)
    assert figure.get_axes()[0].get_title() == (
        "one latent variable a row, one of its values a column"
    )
