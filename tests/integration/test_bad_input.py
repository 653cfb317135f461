"""Bad input gives one clear error, and leaves every weight as it was."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_vae as kv
from tests import small_models

SHAPE = (8, 8, 1)


@pytest.fixture
def refuse(weights_of):
    """Return a function that checks the error of an action, and that a model is left as it was."""

    def check(model, action, *words, error=ValueError):
        before = weights_of(model)
        with pytest.raises(error) as caught:
            action()
        text = str(caught.value)
        for word in words:
            assert word in text, text
        assert len(text) < 600, "not one clear sentence: " + text
        assert "Traceback" not in text and "node " not in text, text
        optimizer = getattr(model, "optimizer", None)
        for v in [*model.weights, *(optimizer.variables if optimizer else [])]:
            if id(v) in before:
                np.testing.assert_array_equal(v.numpy(), before[id(v)], err_msg=v.path)
        if optimizer is not None:
            assert int(optimizer.iterations) == 0

    return check


@pytest.fixture(scope="module")
def model():
    """Return a model that runs eagerly, the same for all tests: what is refused leaves no trace."""
    model = small_models.make_vae()
    model.compile("adam", run_eagerly=True)
    return model


def spoiled(x, value, where=-1):
    x = x.copy()
    x.reshape(-1)[where] = value
    return x


VALUES = {"gray 0..255": 255.0, "negative": -0.01, "NaN": np.nan, "Inf": np.inf, "-Inf": -np.inf}


@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES.keys())
def test_array_with_one_bad_last_value(model, refuse, x, value):
    bad = spoiled(x, value)
    words = ("`x`", "must be in [0, 1]", "Bernoulli", "Received")
    refuse(model, lambda: model.fit(bad, batch_size=4, verbose=0), *words)
    refuse(model, lambda: model.fit(tf.constant(bad), batch_size=4, verbose=0), *words)
    refuse(model, lambda: model.evaluate(bad, batch_size=4, verbose=0), *words)
    for method in (model.encode, model.log_weights, model.reconstruct):
        refuse(model, lambda method=method: method(bad), *words)


@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES.keys())
def test_validation_data_with_a_bad_value(model, refuse, x, value):
    bad = spoiled(x, value)
    refuse(model, lambda: model.fit(x, validation_data=(bad, None), verbose=0), "must be in [0, 1]")


@pytest.mark.first_is_quick
@pytest.mark.parametrize(
    "options", [{"jit_compile": False, "steps_per_execution": 2}, {"jit_compile": True}], ids=str
)
def test_dataset_with_a_bad_first_batch(make_vae, refuse, dataset, x, options):
    model = make_vae()
    model.compile("adam", **options)
    for value, said in ((255.0, "255"), (np.nan, "NaN")):
        data = dataset(spoiled(x, value, 0))
        words = ("`x`", "must be in [0, 1]", "Received", said)
        refuse(model, lambda data=data: model.fit(data, verbose=0), *words)
        if "steps_per_execution" not in options:
            refuse(model, lambda data=data: model.evaluate(data, verbose=0), *words)


def test_numbers_do_not_move_for_a_batch_that_is_refused(make_vae, dataset, x):
    # A schedule sets its number before the step, and asks nothing of the batch.
    model, bad = make_vae(), x[:6].copy()
    bad[4:] = 2.0
    model.compile("sgd", jit_compile=False)
    rise = kv.callbacks.KLAnnealing(kv.schedules.Linear(0.0, 1.0, steps=4))
    data = dataset(bad, np.zeros(6), np.ones(6, "float32"), size=2)
    with pytest.raises(ValueError, match=r"`x` must be in \[0, 1\]"):
        model.fit(data, verbose=0, callbacks=[rise])
    assert int(model.optimizer.iterations) == int(model.trained_batches) == 2
    assert float(model.hyperparameters["beta"]) == 0.25


def test_generator_with_a_bad_first_batch(model, refuse, x):
    refuse(
        model,
        lambda: model.fit((b for b in [(255 * x,)]), verbose=0),
        "`x`",
        "must be in [0, 1]",
        "255",
    )


def test_errors_tell_the_row_of_an_array(model, refuse, x):
    many = np.concatenate([x] * 80)  # 2,240 rows, more than are checked at a time
    many[1500, 3, 4, 0], many[2000, 7, 7, 0] = 2.0, np.nan
    words = ("to 2, of which 2 are outside and 1 are NaN", "in row 1500, position [3 4 0] of")
    refuse(model, lambda: model.fit(many, verbose=0), *words, "of the array")
    refuse(model, lambda: model.fit(x, validation_data=many), *words, "of `validation_data`")
    refuse(model, lambda: kv.evaluation.mean_kl(model, many), *words, "of `data`")


def test_errors_tell_the_row_of_a_batch(make_vae, refuse, dataset, x):
    model = make_vae()
    model.compile("adam", jit_compile=False, steps_per_execution=1)
    data = dataset(spoiled(x, np.nan, 3 * 64 + 9))
    place = "of which 1 are outside and 1 are NaN or infinite, the first in row 3, position [1 1 0]"
    refuse(model, lambda: model.fit(data, verbose=0), place + " of the batch")
    refuse(model, lambda: model.encode(spoiled(x, 7.0)), "row 27, position [7 7 0] of the batch")
    refuse(model, lambda: model.encode(np.full_like(x, np.nan)), "values from nan to nan, of which")


def test_errors_tell_the_column_of_a_table(refuse):
    model = kv.VAE(
        encoder=kv.networks.MLPEncoder((4,)),
        decoder=kv.networks.MLPDecoder((3,), (4,)),
        posterior=kv.posteriors.DiagonalNormal(2),
        likelihood=kv.likelihoods.Normal((3,)),
    )
    bad = np.zeros((5, 3), "float32")
    bad[4, 1] = np.inf
    refuse(model, lambda: model.encode(bad), "the first in row 4, column 1 of the batch")


def test_normal_likelihood_takes_any_finite_number(make_vae, refuse, x):
    model = make_vae(likelihood=kv.likelihoods.Normal(SHAPE))
    model.compile("adam", run_eagerly=True)
    assert np.isfinite(model.fit(x * 5 - 9, verbose=0).history["loss"]).all()
    model = make_vae(likelihood=kv.likelihoods.Normal(SHAPE))
    model.compile("adam", run_eagerly=True)
    refuse(model, lambda: model.fit(spoiled(x, np.nan), verbose=0), "`x`", "finite", "1 are NaN")


SHAPES = {
    "no channel": (28, 8, 8),
    "other size": (28, 8, 9, 1),
    "more channels": (28, 8, 8, 3),
    "flat": (28, 64),
    "rank 5": (28, 1, 8, 8, 1),
    "one image": (8, 8, 1),
    "scalar a row": (28,),
}


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_wrong_shape(model, refuse, dataset, shape):
    bad = np.zeros(shape, "float32")
    words = ("`x`", "must have shape [batch, 8, 8, 1]", "Received")
    refuse(model, lambda: model.fit(bad, verbose=0), *words)
    refuse(model, lambda: model.encode(bad), *words)
    refuse(model, lambda: model.evaluate(bad, verbose=0), *words)
    refuse(model, lambda: model.fit(dataset(bad), verbose=0), *words)


def test_wrong_shape_of_z(model):
    for shape in [(3,), (5, 3), ()]:
        with pytest.raises(ValueError, match=r"`z` must have shape \[..., 2\]. Received"):
            model.decode(tf.zeros(shape))


DTYPES = {
    "float64": lambda x: x.astype("float64"),
    "float16": lambda x: x.astype("float16"),
    "int64": lambda x: x.astype("int64"),
    "uint8": lambda x: x.astype("uint8"),
    "bool": lambda x: x.astype("bool"),
}


@pytest.mark.full
def test_dtypes_that_mean_the_same(dataset, x):
    forms = {name: convert(x) for name, convert in DTYPES.items()}
    forms |= {"dataset of uint8": dataset(x.astype("uint8"), size=28), "float32": x}
    losses, model = {}, small_models.make_mean_vae()
    model.compile(keras.optimizers.SGD(0.0), run_eagerly=True)
    for name, data in forms.items():
        size = {} if isinstance(data, tf.data.Dataset) else {"batch_size": 28}
        losses[name] = model.fit(data, shuffle=False, verbose=0, **size).history["loss"][0]
    assert losses == dict.fromkeys(forms, losses["float32"])
    for convert in DTYPES.values():
        np.testing.assert_array_equal(model.reconstruct(convert(x)), model.reconstruct(x))


@pytest.mark.parametrize("dtype", ["complex64", "str", "object"])
def test_dtypes_without_meaning(model, refuse, x, dtype):
    bad = x.astype(dtype)
    refuse(model, lambda: model.fit(bad, verbose=0), "`x`", "real numbers", "Received")
    refuse(model, lambda: model.encode(bad), "`x`", "real numbers", "Received")


def test_uint8_pixels_into_bernoulli(model, refuse, x):
    bad = (255 * x).astype("uint8")
    refuse(model, lambda: model.fit(bad, verbose=0), "`x`", "must be in [0, 1]", "255")


EMPTY = {
    "array": lambda: np.zeros((0, *SHAPE), "float32"),
    "dataset": lambda: tf.data.Dataset.from_tensor_slices(np.zeros((0, *SHAPE), "float32")).batch(
        4
    ),
    "dataset of unknown length": lambda: tf.data.Dataset.from_generator(
        lambda: iter(()), output_signature=tf.TensorSpec((None, *SHAPE), "float32")
    ),
    "dataset that drops its only batch": lambda: tf.data.Dataset.from_tensor_slices(
        np.zeros((3, *SHAPE), "float32")
    ).batch(4, drop_remainder=True),
}


@pytest.mark.parametrize("make", EMPTY.values(), ids=EMPTY.keys())
def test_empty_data(model, refuse, make):
    words = ("`x`", "must hold at least one", "Received")
    refuse(model, lambda: model.fit(make(), verbose=0), *words)
    refuse(model, lambda: model.evaluate(make(), verbose=0), *words)


@pytest.mark.full
def test_empty_data_in_a_graph(make_vae, refuse):
    model = make_vae()
    model.compile("adam", jit_compile=False)
    make = EMPTY["dataset of unknown length"]
    refuse(model, lambda: model.fit(make(), verbose=0), "`x`", "must hold at least one", "Received")


def test_empty_data_after_a_training(make_vae, x):
    # Counts of an earlier training or evaluation must not hide that there was nothing.
    model = make_vae()
    model.compile("adam", run_eagerly=True)
    model.fit(x, verbose=0)
    model.evaluate(x, verbose=0)
    for action in (model.fit, model.evaluate):
        with pytest.raises(ValueError, match="`x` must hold at least one"):
            action(EMPTY["dataset of unknown length"](), verbose=0)


def test_no_data(model, refuse):
    refuse(model, lambda: model.fit(None, verbose=0), "`x`", "must")
    refuse(model, lambda: model.fit([], verbose=0), "`x`", "must")


def test_fit_before_compile(make_vae, x):
    with pytest.raises(ValueError, match="compile"):
        make_vae().fit(x, verbose=0)


# Parts that do not fit each other.


class Returns(keras.layers.Layer):
    """A network that returns what it was told to."""

    def __init__(self, what):
        super().__init__()
        self.what = what

    def call(self, inputs):
        flat = tf.reshape(inputs, [-1, 64])
        return {
            "a list": [flat, flat],
            "a dictionary": {"features": flat},
            "one number a row": flat[:, 0],
            "nothing": None,
            "no features": flat[:, :0],
        }[self.what]


@pytest.mark.parametrize(
    "what", ["a list", "a dictionary", "one number a row", "nothing", "no features"]
)
def test_encoder_without_features(make_vae, what):
    with pytest.raises(ValueError, match="`encoder` must return one tensor.*Received") as error:
        make_vae(encoder=Returns(what))
    assert len(str(error.value)) < 600


def test_encoder_that_cannot_take_the_images(make_vae):
    with pytest.raises(ValueError, match=r"`encoder` must take inputs of shape \(None, 8, 8, 1\)"):
        make_vae(encoder=keras.Sequential([keras.Input((5, 5, 1)), keras.layers.Flatten()]))


@pytest.mark.parametrize("shape", [(8, 8, 3), (64,), (7, 7, 1), (1, 8, 8, 1)])
def test_decoder_that_does_not_fit(make_vae, shape):
    with pytest.raises(ValueError) as error:
        make_vae(decoder=kv.networks.MLPDecoder(shape))
    for word in ("`decoder`", "must return", "(8, 8, 1)", str((None, *shape)), "Received"):
        assert word in str(error.value)


def test_prior_of_another_size(make_vae):
    with pytest.raises(ValueError, match=r"`prior` must .*\(2,\).*Received.*\(3,\)"):
        make_vae(prior=kv.priors.StandardNormal(3))


@pytest.mark.parametrize("name", ["encoder", "decoder", "posterior", "likelihood", "prior"])
@pytest.mark.parametrize("value", ["nothing of the kind", 3])
def test_part_of_a_wrong_kind(make_vae, name, value):
    with pytest.raises(ValueError, match=f"`{name}` must be an instance of .*Received: {name}="):
        make_vae(**{name: value})


def test_class_in_place_of_an_instance(make_vae):
    with pytest.raises(ValueError, match="`posterior` must be an instance of"):
        make_vae(posterior=kv.posteriors.DiagonalNormal)


def test_heads_swapped(make_vae):
    with pytest.raises(ValueError, match="`prior` must be an instance of"):
        make_vae(prior=kv.posteriors.DiagonalNormal(2))


@pytest.mark.parametrize(
    "head",
    [
        kv.posteriors.DiagonalNormal,
        kv.posteriors.FullCovarianceNormal,
        kv.posteriors.AutoregressiveFlow,
        kv.priors.StandardNormal,
        kv.priors.AutoregressiveFlow,
        kv.priors.ConditionalNormal,
    ],
    ids=lambda head: f"{head.__module__.split('.')[1]}.{head.__name__}",
)
def test_latent_dim(head):
    for size in (0, -1, 2.5, "2", None, True):
        with pytest.raises(ValueError, match="`latent_dim` must be an integer >= 1. Received: "):
            head(size)


@pytest.mark.parametrize("name", ["beta", "free_bits"])
@pytest.mark.parametrize("value", [-1.0, float("nan"), float("inf"), "1", None])
def test_numbers_of_the_objective(name, value):
    with pytest.raises(ValueError, match=f"`{name}` must be .*>= 0. Received: {name}="):
        kv.objectives.ELBO(**{name: value})
    if name == "beta":
        with pytest.raises(ValueError, match="`beta` must be .*>= 0. Received: beta="):
            kv.BetaVAE(
                kv.networks.MLPEncoder((8,)),
                kv.networks.MLPDecoder(SHAPE, (8,)),
                kv.posteriors.DiagonalNormal(2),
                kv.likelihoods.Bernoulli(SHAPE),
                beta=value,
            )


OPTIONS = {
    "free_bits_mode": (lambda v: kv.objectives.ELBO(free_bits_mode=v), "per_dimension"),
    "activation": (lambda v: kv.priors.VampPrior(2, 3, activation=v), "sigmoid"),
    "scale": (lambda v: kv.likelihoods.Normal(SHAPE, scale=v), "per_dimension"),
    "binarize": (lambda v: kv.data.load("digits", binarize=v), "dynamic"),
    "split": (lambda v: kv.data.load("digits", split=v), "train"),
}


@pytest.mark.parametrize("argument", OPTIONS)
def test_unknown_options_list_the_known(argument):
    make, known = OPTIONS[argument]
    with pytest.raises(ValueError) as error:
        make("no_such_option")
    for word in (argument, known, "no_such_option"):
        assert word in str(error.value), str(error.value)


OF_ANOTHER_KIND = {
    "scale": lambda v: kv.likelihoods.Normal(SHAPE, scale=v),
    "kl_balancing": lambda v: kv.objectives.ELBO(kl_balancing=v),
    "recompute": lambda v: kv.networks.BottomUp({4: 8, 1: 8}, recompute=v),
    "kernel_regularizer": lambda v: kv.networks.BottomUp({4: 8, 1: 8}, kernel_regularizer=v),
    "squeeze_excite": lambda v: kv.networks.BottleneckCell(squeeze_excite=v),
    "use_bias": lambda v: kv.networks.SpectralNormalization(
        keras.layers.Dense(2, use_bias=False), use_bias=v
    ),
    "path": lambda v: kv.export_saved_model(small_models.make_vae(), v),
    "overwrite": lambda v: kv.export_saved_model(small_models.make_vae(), "none", v),
}


@pytest.mark.parametrize("argument", OF_ANOTHER_KIND)
def test_what_is_of_another_kind_is_named(argument):
    with pytest.raises(ValueError, match=f"Argument `{argument}` must be"):
        OF_ANOTHER_KIND[argument](np.zeros(0))


def test_a_number_beyond_64_bits_starts_a_hyperparameter():
    assert float(kv.objectives.ELBO(beta=10**30).hyperparameters["beta"]) > 9e29


@pytest.mark.parametrize("seed", [-1, 1.5, "0", None])
def test_seed_of_the_model(make_vae, seed):
    with pytest.raises(ValueError, match="`seed` must be an integer >= 0"):
        make_vae(seed=seed)


@pytest.mark.parametrize("count", [0, -3, 2.5])
def test_numbers_of_samples(model, x, count):
    with pytest.raises(ValueError, match="`num_samples` must be an integer >= 1"):
        model.sample(count)
    with pytest.raises(ValueError, match="`num_samples` must be an integer >= 1"):
        model.log_weights(x, num_samples=count)
    with pytest.raises(ValueError, match="`num_samples` must be an integer >= 1"):
        kv.objectives.ELBO(num_samples=count)


# Labels.


@pytest.fixture(scope="module")
def conditional():
    """Return a conditional model of three classes, the same for all tests."""
    model = small_models.make_vae(kv.ConditionalVAE, condition=3)
    model.compile("adam", run_eagerly=True)
    return model


def test_missing_labels(conditional, refuse, dataset, x):
    words = ("`y`", "must be given")
    refuse(conditional, lambda: conditional.fit(x, verbose=0), *words)
    refuse(conditional, lambda: conditional.fit(dataset(x), verbose=0), *words)
    refuse(conditional, lambda: conditional.evaluate(x, verbose=0), *words)
    for action in (conditional.encode, conditional.reconstruct, conditional.log_weights):
        refuse(conditional, lambda action=action: action(x), *words)
    refuse(conditional, lambda: conditional.sample(2), *words)
    refuse(conditional, lambda: conditional.decode(tf.zeros([2, 2])), *words)


@pytest.mark.parametrize("label", [3, -1, 255])
def test_labels_out_of_range(conditional, refuse, dataset, x, label):
    y = np.zeros(len(x), "int64")
    y[-1] = label
    words = ("`y`", "must be whole numbers in [0, 2]", "Received", str(label))
    refuse(conditional, lambda: conditional.fit(x, y, batch_size=4, verbose=0), *words)
    refuse(conditional, lambda: conditional.encode(x, y), *words)
    refuse(conditional, lambda: conditional.fit(dataset(x, y[::-1].copy()), verbose=0), *words)


@pytest.mark.parametrize(
    "y",
    [np.full(28, 0.5), np.full(28, np.nan), np.zeros((28, 3)), np.zeros((28, 2, 2))],
    ids=["fraction", "NaN", "one-hot", "rank 3"],
)
def test_labels_that_are_none(conditional, refuse, x, y):
    refuse(conditional, lambda: conditional.fit(x, y, verbose=0), "`y`", "must", "Received")


def test_one_hot_labels_are_told_from_others(conditional, refuse, x):
    one_hot = np.eye(3)[np.zeros(28, int)]
    refuse(conditional, lambda: conditional.fit(x, one_hot, verbose=0), "np.argmax(y, axis=-1)")
    refuse(conditional, lambda: conditional.sample(3, y=np.eye(3)), "np.argmax(y, axis=-1)")


def test_labels_of_another_count(conditional, refuse, x):
    refuse(conditional, lambda: conditional.sample(3, y=[0, 1]), "`y`", "must", "num_samples")
    refuse(conditional, lambda: conditional.encode(x, np.zeros(5)), "`y`", "must", "28")


# Weights.


@pytest.mark.parametrize("value", [np.nan, np.inf], ids=str)
def test_sample_weights_that_are_not_finite(model, refuse, x, value):
    weights = np.ones(len(x), "float32")
    weights[-1] = value
    options = {"sample_weight": weights, "batch_size": 28, "verbose": 0}
    words = ("`sample_weight` must be finite numbers >= 0", "row 27 of the array")
    refuse(model, lambda: model.fit(x, np.zeros(len(x)), **options), *words)


def test_sample_weights_of_another_shape(model, refuse, x):
    weights = np.ones((len(x), 2), "float32")
    y = np.zeros(len(x))
    refuse(model, lambda: model.fit(x, y, sample_weight=weights, verbose=0), "sample_weight")


# Inputs without values.


def test_symbolic_inputs_are_told_what_to_use(model, refuse):
    x, z = keras.Input(SHAPE), keras.Input((2,))
    words = ("must be an array or a tensor", "model(x)", "model.encoder(x)", "layer of your own")
    for method in (model.encode, model.reconstruct, model.log_weights):
        refuse(model, lambda method=method: method(x), "`x`", *words)
    refuse(model, lambda: model.decode(z), "`z`", *words)


class Means(keras.layers.Layer):
    """What the error for symbolic inputs advises."""

    def __init__(self, vae):
        super().__init__()
        self.vae = vae

    def call(self, x):
        return self.vae.posterior_head.mean(self.vae.encode(x))


def test_a_functional_model_can_hold_a_model(model, x):
    inputs = keras.Input(SHAPE)
    outputs = [model(inputs), model.encoder(inputs), Means(model)(inputs)]
    reconstruction, features, means = keras.Model(inputs, outputs).predict(x, verbose=0)
    np.testing.assert_allclose(reconstruction, model.reconstruct(x), rtol=1e-5)
    np.testing.assert_allclose(features, model.encoder(x), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(means, model.encode(x).mean(), rtol=1e-5, atol=1e-6)
