"""Priors over codes, trained by `fit`."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_vae as kv
from keras_vae.models.labels import OneHot
from tests.callbacks.test_resume import Interrupt
from tests.small_models import trainable_weights_of

CODES = np.random.default_rng(0).integers(0, 3, (20, 4)).astype("int32")
LABELS = CODES[:, 0] % 2


def pixel_cnn(maps=(2, 2), num_codes=3, **options):
    return kv.priors.PixelCNN(maps, num_codes, filters=8, num_layers=1, kernel_size=3, **options)


def hierarchy():
    return kv.priors.Hierarchy(pixel_cnn((1, 2)), pixel_cnn((2, 1), 5), filters=8)


def make(prior=pixel_cnn, optimizer="adam", compiled=None, **options):
    keras.utils.set_random_seed(0)
    model = kv.PriorModel(prior(), **options)
    model.compile(optimizer, **{"run_eagerly": False, **(compiled or {})})
    return model


def fit(model, x=CODES, y=None, **options):
    return model.fit(x, y, batch_size=8, verbose=0, **{"shuffle": False, **options}).history


def assert_equal(one, two):
    for a, b in zip(trainable_weights_of(one), trainable_weights_of(two), strict=True):
        np.testing.assert_array_equal(a, b)


# What is trained.


def test_a_step_is_one_of_maximum_likelihood():
    model = make(optimizer=keras.optimizers.SGD(0.1), compiled={"run_eagerly": True})
    before = trainable_weights_of(model)
    weights = model.prior_head.trainable_variables
    with tf.GradientTape() as tape:
        loss = -tf.reduce_mean(model.prior().log_prob(CODES))
    slopes = tape.gradient(loss, [weight.value for weight in weights])
    logs = model.fit(CODES, batch_size=20, verbose=0).history
    for start, slope, weight in zip(before, slopes, weights, strict=True):
        np.testing.assert_allclose(weight, start - 0.1 * slope, rtol=1e-5, atol=1e-7)
    nats = float(loss)
    expected = {"loss": nats, "elbo": -nats, "reconstruction": nats, "kl": 0.0}
    expected |= {"nats_per_code": nats / 4, "bits_per_dim": nats / 4 / np.log(2.0)}
    assert set(logs) == set(expected)
    for name, value in expected.items():
        np.testing.assert_allclose(logs[name], value, rtol=1e-5, err_msg=name)


@pytest.mark.full
def test_the_likelihood_reaches_the_entropy_of_the_data():
    # Codes of two values, z2 = z1 and the rest free: 3 bits of 4, and 0.5203 nats a code.
    free = np.array(list(itertools.product([0, 1], repeat=3)))
    codes = np.tile(np.column_stack([free[:, 0], free]), (8, 1))
    prior = pixel_cnn()
    model = make(lambda: prior, keras.optimizers.Adam(0.02))
    fit(model, codes, epochs=60)
    found = model.evaluate(codes, verbose=0, return_dict=True)
    np.testing.assert_allclose(found["bits_per_dim"], 0.75, atol=0.02)
    nats = -np.mean(prior().log_prob(codes[:8]))  # the prior itself has learned
    np.testing.assert_allclose(found["nats_per_code"], nats / 4.0, rtol=1e-4)
    draws = model.sample(200, seed=3).numpy()
    assert draws.max() <= 1 and np.mean(draws[:, 0] == draws[:, 1]) > 0.97


@pytest.mark.full
def test_labels_are_learned():
    model = make(optimizer=keras.optimizers.Adam(0.05), condition=2)
    codes = np.repeat([[0, 1, 2, 0], [2, 2, 0, 1]], 16, axis=0)
    fit(model, codes, np.repeat([1, 0], 16), epochs=60)
    np.testing.assert_array_equal(model.sample(2, y=[1, 0], temperature=0.0), codes[[0, -1]])
    np.testing.assert_array_equal(model.sample(2, y=1, temperature=0.0), codes[[0, 0]])
    assert model.sample(3, y=[0, 1, 1]).shape == (3, 4)
    assert float(model.prior([1]).prob(codes[:1])[0]) > 0.8
    assert float(model.prior([0]).prob(codes[:1])[0]) < 0.05
    with pytest.raises(ValueError, match="must have a row for each of the num_samples"):
        model.sample(3, y=[0, 1])
    with pytest.raises(ValueError, match="Argument `y` must be given"):
        model.evaluate(codes, verbose=0)


@pytest.mark.full
def test_maps_below_are_learned_with_those_above():
    above = np.random.default_rng(0).integers(0, 3, (64, 2))
    codes = np.concatenate([above, above + 2], axis=1)  # the maps below follow from those above
    model = make(hierarchy, keras.optimizers.Adam(0.02))
    fit(model, codes, epochs=20)
    draws = model.sample(200, seed=1).numpy()
    assert np.mean(draws[:, 2:] == draws[:, :2] + 2) > 0.95
    given = model.sample(9, seed=1, given={"z1": [[0, 2]]}, temperature={"z2": 0.0})
    np.testing.assert_array_equal(given, [[0, 2, 2, 4]] * 9)


@pytest.mark.full
def test_datasets_of_codes_of_any_integers():
    model = make(compiled={"run_eagerly": True})
    data = tf.data.Dataset.from_tensor_slices(CODES.astype("uint8")).batch(8)
    from_arrays = model.evaluate(CODES, batch_size=8, verbose=0, return_dict=True)
    assert model.evaluate(data, verbose=0, return_dict=True) == from_arrays
    np.testing.assert_allclose(
        model.predict(CODES, verbose=0), model.prior().log_prob(CODES), rtol=1e-5
    )


# Files, evaluation, errors.


def test_files_hold_all_of_it(tmp_path):
    model = make(condition=2, compiled={"run_eagerly": True})
    codes, y = CODES[:8], LABELS[:8]
    fit(model, codes, y)
    model.save(tmp_path / "prior.keras")
    copy = keras.saving.load_model(tmp_path / "prior.keras")
    assert type(copy) is kv.PriorModel
    assert_equal(model, copy)
    assert copy.evaluate(codes, y, verbose=0) == model.evaluate(codes, y, verbose=0)
    np.testing.assert_array_equal(copy.sample(5, 1, y=1), model.sample(5, 1, y=1))
    fit(model, codes, y)
    fit(copy, codes, y)
    assert_equal(model, copy)


@pytest.mark.full
def test_an_interrupted_training_goes_on(tmp_path):
    def train(folder, *callbacks):
        model = make(condition=2, compiled={"run_eagerly": True})
        resume = kv.callbacks.Resume(folder, every=1)
        options = {"initial_epoch": resume.epoch, "callbacks": [*callbacks, resume]}
        return model, fit(model, CODES[:16], LABELS[:16], epochs=2, shuffle=True, **options)

    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "broken", Interrupt(1, 1))
    found = kv.callbacks.Resume(tmp_path / "broken")
    assert (found.epoch, found.batch) == (1, 1)
    resumed, history = train(tmp_path / "broken")
    unbroken, expected = train(tmp_path / "unbroken")
    assert history == expected and int(resumed.optimizer.iterations) == 4
    of_both = ([*m.variables, *m.optimizer.variables] for m in (resumed, unbroken))
    for a, b in zip(*of_both, strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy(), err_msg=a.path)


def test_its_log_likelihood_is_exact_with_any_number_of_samples():
    model = make()
    found = kv.evaluation.log_likelihood(model, CODES, num_samples=50, verbose=False)
    np.testing.assert_allclose(found.per_example, model.prior().log_prob(CODES), rtol=1e-5)
    np.testing.assert_allclose(found.effective_sample_sizes, 50.0, rtol=1e-5)


@pytest.mark.parametrize(
    ("act", "told"),
    [
        (lambda m: m.fit(CODES + 1), "must be whole numbers in [0, 2], the codes of PixelCNN"),
        (lambda m: m.fit(CODES - 0.5), "must be whole numbers in [0, 2], the codes of PixelCNN"),
        (lambda m: m.fit(CODES[:, :3]), "must hold codes of shape [batch, 4]"),
        (lambda m: m.fit(CODES.astype(str)), "Argument `x` must hold real numbers"),
        (lambda m: m.fit(CODES[:0]), "Argument `x` must hold at least one"),
        (lambda m: m.sample(0), "Argument `num_samples` must be an integer >= 1"),
        (lambda m: m.sample(1, temperature=-1.0), "Argument `temperature` must be"),
        (lambda m: m.sample(1, given={"z": [[9, 0], [0, 0]]}), "must hold codes in 0 .. 2"),
        (lambda m: m.sample(1, given={"z": [[1.5, 0], [0, 0]]}), "must hold codes, which are"),
        (lambda m: kv.PriorModel(kv.priors.StandardNormal(4)), "Argument `prior` must be an inst"),
        (lambda m: kv.PriorModel(m.prior_head, condition=2), "must be new, or built for"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_sentence(act, told):
    model = make()
    before = trainable_weights_of(model)
    with pytest.raises(ValueError) as raised:
        act(model)
    assert told in str(raised.value)
    for a, b in zip(before, trainable_weights_of(model), strict=True):
        np.testing.assert_array_equal(a, b)


def test_labels_are_not_rounded_in_half_precision():
    labels = tf.constant([257.0, 511.0])
    for policy in ("mixed_bfloat16", "bfloat16"):
        rows = OneHot(600, dtype=policy)(labels)
        assert rows.dtype == tf.bfloat16
        assert tf.argmax(rows, axis=-1).numpy().tolist() == [257, 511]
