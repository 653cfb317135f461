"""What holds for every likelihood."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_vae import likelihoods as kl

SHAPE = (2, 3, 2)
HEADS = {
    "bernoulli": lambda **kw: kl.Bernoulli(SHAPE, **kw),
    "continuous": lambda **kw: kl.ContinuousBernoulli(SHAPE, **kw),
    "normal": lambda **kw: kl.Normal(SHAPE, scale=0.7, **kw),
    "normal_shared": lambda **kw: kl.Normal(SHAPE, scale="shared", initial_scale=0.5, **kw),
    "normal_each": lambda **kw: kl.Normal(SHAPE, scale="per_dimension", initial_scale=2.0, **kw),
    "laplace": lambda **kw: kl.Laplace(SHAPE, scale="shared", **kw),
    "logistic": lambda **kw: kl.DiscretizedLogisticMixture(SHAPE, num_components=3, **kw),
    "categorical": lambda **kw: kl.Categorical(SHAPE, num_classes=4, **kw),
}
PUBLIC = [getattr(kl, name) for name in kl.__all__]
PUBLIC = [c for c in PUBLIC if issubclass(c, kl.Likelihood) and c is not kl.Likelihood]

every_head = pytest.mark.parametrize("make", HEADS.values(), ids=HEADS)


def built(make, **kwargs):
    head = make(**kwargs)
    head.build((None, *head.params_shape))
    return head


def params_for(head, *batch, dtype="float32", seed=0):
    rng = np.random.default_rng(seed)
    return tf.constant(rng.normal(size=(*batch, *head.params_shape)), dtype)


def data_for(head, batch, seed=1):
    """Draws standardized data from the likelihood itself."""
    params = params_for(head, batch, dtype=head.density_dtype, seed=seed)
    return head(params).sample(seed=[seed, 0])


def test_the_cases_cover_every_public_likelihood():
    cases = {type(make()) for make in HEADS.values()}
    assert cases == set(PUBLIC)


@pytest.mark.parametrize("cls", PUBLIC)
def test_registered_names_are_apart_from_those_of_posteriors(cls):
    """Keras keeps one class a name: the last `Bernoulli` registered would load for both."""
    name = keras.saving.get_registered_name(cls)
    assert name == f"keras_vae.likelihoods>{cls.__name__}"
    assert keras.saving.get_registered_object(name) is cls


@every_head
def test_samples_times_batch_equals_one_call_a_sample(make):
    head = built(make)
    params, x = params_for(head, 3, 5), data_for(head, 5)
    p = head(params)
    log_p = p.log_prob(x)  # [S, B]
    assert (p.batch_shape, p.event_shape) == ((3, 5), head.event_shape)
    assert log_p.shape == (3, 5)
    for s in range(3):
        np.testing.assert_allclose(log_p[s], head(params[s]).log_prob(x), rtol=1e-6)


@every_head
def test_many_leading_axes(make):
    """Fails for `tf.nn.softmax`, which takes 5 axes on a CPU, in a mean."""
    head = built(make)
    params = params_for(head, 2, 1, 2, 3)
    p, flat = head(params), head(tf.reshape(params, (12, *head.params_shape)))
    x = data_for(head, 1)
    for value, flat_value in ((p.mean(), flat.mean()), (p.log_prob(x), flat.log_prob(x))):
        np.testing.assert_allclose(tf.reshape(value, flat_value.shape), flat_value, rtol=1e-5)
    assert p.sample(seed=[0, 1]).shape == (2, 1, 2, 3, *head.event_shape)


@every_head
def test_static_shapes_survive_an_unknown_batch(make):
    head = built(make)

    @tf.function(autograph=False)
    def trace(params, x):
        p = head(params)
        shapes.update(log_prob=p.log_prob(x).shape, mean=p.mean().shape)
        shapes.update(sample=p.sample(2, seed=[0, 1]).shape)
        return p.log_prob(x)

    shapes = {}
    trace.get_concrete_function(
        tf.TensorSpec((4, None, *head.params_shape)), tf.TensorSpec((None, *head.event_shape))
    )
    assert shapes["log_prob"].as_list() == [4, None]
    assert shapes["mean"].as_list() == [4, None, *head.event_shape]
    assert shapes["sample"].as_list() == [2, 4, None, *head.event_shape]


def test_eager_and_xla_agree():
    heads = {name: built(make) for name, make in HEADS.items()}
    params = {name: params_for(head, 3, 5) for name, head in heads.items()}
    x = {name: data_for(head, 5) for name, head in heads.items()}

    def value_and_gradient(name):
        with tf.GradientTape() as tape:
            tape.watch(params[name])
            log_p = heads[name](params[name]).log_prob(x[name])
        return log_p, tape.gradient(log_p, params[name]), heads[name](params[name]).mean()

    def all_of_them():
        return {name: value_and_gradient(name) for name in HEADS}

    eager, xla = all_of_them(), tf.function(all_of_them, jit_compile=True, autograph=False)()
    for name in HEADS:
        for one, two in zip(eager[name], xla[name], strict=True):
            np.testing.assert_allclose(two, one, rtol=1e-5, atol=1e-5, err_msg=name)


@every_head
def test_gradient_matches_finite_differences(make):
    head = built(make, dtype="float64")
    params = params_for(head, 2, dtype="float64")
    x, direction = data_for(head, 2), params_for(head, 2, dtype="float64", seed=2)
    with tf.GradientTape() as tape:
        tape.watch(params)
        log_p = tf.reduce_sum(head(params).log_prob(x))
    slope = tf.reduce_sum(tape.gradient(log_p, params) * direction)
    step = 1e-5
    ahead = head(params + step * direction).log_prob(x)
    behind = head(params - step * direction).log_prob(x)
    np.testing.assert_allclose(slope, tf.reduce_sum(ahead - behind) / (2 * step), rtol=1e-6)


@every_head
def test_json_round_trip(make):
    head = built(make)
    text = json.dumps(keras.saving.serialize_keras_object(head))
    copy = keras.saving.deserialize_keras_object(json.loads(text))
    assert type(copy) is type(head)
    assert copy.get_config() == head.get_config()
    params, x = params_for(head, 5), data_for(head, 5)
    np.testing.assert_array_equal(copy(params).log_prob(x), head(params).log_prob(x))


@every_head
def test_float64_from_data_to_density(make):
    keras.config.set_dtype_policy("float64")
    head = built(make)
    x = head.standardize(data_for(head, 5).numpy().astype("float32"))
    params = params_for(head, 5, dtype="float64")
    p = head(params)
    for value in (x, p.log_prob(x), p.mean(), p.sample(seed=[0, 1]), head.encoder_input(x)):
        assert value.dtype == tf.float64
    assert all(w.dtype == "float64" for w in head.weights)
    assert bool(head.support.contains(x))
    narrow = built(make, dtype="float32")
    log_p = narrow(tf.cast(params, "float32")).log_prob(tf.cast(x, "float32"))
    np.testing.assert_allclose(p.log_prob(x), log_p, rtol=1e-5)


@every_head
@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_densities_are_float32_under_mixed_precision(make, policy):
    head = built(make, dtype=policy)
    params, x = params_for(head, 5), data_for(head, 5)
    low = tf.cast(params, policy.removeprefix("mixed_"))
    assert x.dtype == head(low).log_prob(x).dtype == head(low).mean().dtype == tf.float32
    # Parameters that a decoder returns as float32 must not be rounded on their way in.
    exact = built(make, dtype="float32")(params).log_prob(x)
    np.testing.assert_array_equal(head(params).log_prob(x), exact)


@every_head
def test_samples_lie_in_the_support_and_repeat_with_their_seed(make):
    head = built(make)
    p = head(params_for(head, 5))
    x = p.sample(7, seed=[3, 4])
    assert x.shape == (7, 5, *head.event_shape)
    assert bool(head.support.contains(x))
    np.testing.assert_array_equal(x, p.sample(7, seed=[3, 4]))
    assert not np.array_equal(x, p.sample(7, seed=[3, 5]))


@every_head
def test_standardize_keeps_what_is_standard(make):
    head = built(make)
    x = data_for(head, 5)
    np.testing.assert_array_equal(head.standardize(x), x)
    np.testing.assert_array_equal(head.standardize(x.numpy().astype("float64")), x)


@every_head
def test_standardize_completes_an_unknown_shape(make):
    head = built(make)
    x = data_for(head, 5)

    @tf.function(input_signature=[tf.TensorSpec((None,) * x.shape.rank)], autograph=False)
    def standardize(x):
        standard = head.standardize(x)
        assert standard.shape.as_list() == [None, *head.event_shape]
        return standard, head.support.contains(standard)

    standard, inside = standardize(x)
    np.testing.assert_array_equal(standard, x)
    assert inside.shape == () and bool(inside)
    with pytest.raises(tf.errors.InvalidArgumentError):
        standardize(tf.concat([x, x], axis=1))


@every_head
def test_infinities_and_nan_are_outside_every_support(make):
    head = built(make)
    x = data_for(head, 5).numpy()
    for bad in (np.nan, np.inf, -np.inf):
        x[-1, -1, -1, -1] = bad
        assert not bool(head.support.contains(tf.constant(x)))


@every_head
def test_numbers_beyond_float32_are_refused_not_wrapped(make):
    head = built(make)
    x = np.zeros((2, *SHAPE))
    x[0, 0, 0, 0] = 1e300
    assert not bool(head.support.contains(head.standardize(x)))


@every_head
@pytest.mark.parametrize("dtype", ["bool", "uint8", "int64", "float16", "bfloat16", "float64"])
def test_zeros_and_ones_of_any_real_dtype_are_data(make, dtype):
    head = built(make)
    bits = np.arange(5 * 12).reshape(5, *SHAPE) % 2
    x = head.standardize(tf.cast(bits, dtype))
    assert x.dtype == tf.float32 and bool(head.support.contains(x))
    np.testing.assert_array_equal(x, head.standardize(bits.astype("float32")))


@every_head
def test_data_of_other_kinds_and_shapes_are_refused(make):
    head = built(make)
    for x in (np.array(["a"] * 3), np.zeros((2, *SHAPE), complex)):
        with pytest.raises(ValueError, match="Argument `x` must hold real numbers"):
            head.standardize(x)
    for shape in ((), (2,), (2, *SHAPE[:-1]), (2, *SHAPE[:-1], 5), (2, 1, 1, *SHAPE)):
        with pytest.raises(ValueError, match=r"Argument `x` must have shape \[batch, 2, 3, 2"):
            head.standardize(np.zeros(shape))


@pytest.mark.parametrize(
    ("shape", "hint"),
    [
        ((5, 28, 28), "Add the channel axis: x[..., None]"),
        ((28, 28, 1), "Add the batch axis: x[None]"),
    ],
)
def test_shape_errors_name_the_usual_cure(shape, hint):
    with pytest.raises(ValueError) as error:
        kl.Bernoulli((28, 28, 1)).standardize(np.zeros(shape))
    assert hint in str(error.value) and str(shape) in str(error.value)


@every_head
def test_a_decoder_of_another_shape_gets_an_error_with_both_shapes(make):
    head = make()
    wrong = (None, *head.params_shape[:-1], head.params_shape[-1] + 1)
    for shape in (wrong, head.params_shape, (None, 7, *head.params_shape)):
        with pytest.raises(ValueError) as error:
            make().check_params_shape(shape)
        assert str(head.params_shape) in str(error.value) and str(shape) in str(error.value)
        assert "ConvDecoder(likelihood.params_shape)" in str(error.value)


@every_head
def test_params_from_mean_have_the_shape_of_one_datum(make):
    head = built(make, dtype="float64")
    mean = head(params_for(head, 1, dtype="float64")).mean()[0]
    params = head.params_from_mean(mean.numpy().astype("float32"))
    assert params.shape == head.params_shape and params.dtype == tf.float64
    assert np.isfinite(params).all()


@pytest.mark.parametrize("name", ["bernoulli", "continuous", "normal", "categorical"])
def test_params_from_mean_have_that_mean(name):
    head = built(HEADS[name], dtype="float64")
    mean = head(params_for(head, 1, dtype="float64")).mean()[0]
    recovered = head(head.params_from_mean(mean)[None]).mean()[0]
    np.testing.assert_allclose(recovered, mean, rtol=1e-9)


@every_head
def test_arguments_are_checked(make):
    head = make()
    arguments = head.get_config().keys() - keras.layers.Layer().get_config().keys()
    kwargs = {name: head.get_config()[name] for name in arguments}
    for shape in ((), (0,), (2, -1), 5, None, (2.5,), "ab"):
        with pytest.raises(ValueError, match="Argument `shape`"):
            type(head)(**{**kwargs, "shape": shape})


def test_support_reads_as_the_end_of_a_sentence():
    assert str(kl.Support()) == "finite"
    assert str(kl.Support(0, 255, integer=True)) == "whole numbers in [0, 255]"
    assert str(kl.Support(-1.5, 2)) == "in [-1.5, 2]"


def test_support_includes_its_bounds_and_nothing_beyond():
    x = tf.constant([0.0, 255.0])
    assert bool(kl.Support(0, 255, integer=True).contains(x))
    for outside in ([-1.0], [256.0], [0.5]):
        assert not bool(kl.Support(0, 255, integer=True).contains(tf.constant(outside)))


def test_a_likelihood_of_ones_own_needs_only_call():
    class Poisson(kl.Likelihood):
        support = kl.Support(0.0, integer=True)

        def call(self, params):
            rate = tf.math.softplus(self.to_density(params))
            return self.independent(kl.base.tfd.Poisson(rate))

    head = Poisson((3,))
    x = head.standardize(np.array([[0, 1, 2]]))
    rate = np.log(2.0)
    expected = -3 * rate + 3 * np.log(rate) - np.log(2.0)
    np.testing.assert_allclose(head(tf.zeros((1, 3))).log_prob(x), [expected], rtol=1e-6)
    assert not bool(head.support.contains(head.standardize([[0.0, -1.0, 2.0]])))
    with pytest.raises(NotImplementedError, match="Poisson"):
        head.params_from_mean(x[0])
