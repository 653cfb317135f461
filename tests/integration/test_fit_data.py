"""What `fit` and `evaluate` take, and what they report."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_vae as kv

MEASURES = ["elbo", "kl", "loss", "reconstruction"]


def sgd_step(model, *args, **kwargs):
    """Return by how much one step of SGD, at rate one, moves each weight: minus the gradients."""
    before = [w.numpy().copy() for w in model.trainable_variables]
    model.compile(keras.optimizers.SGD(1.0), run_eagerly=True)
    model.fit(*args, **kwargs, shuffle=False, verbose=0)
    assert model.optimizer.iterations == 1
    return [b - w.numpy() for b, w in zip(before, model.trainable_variables, strict=True)]


def assert_equal(ones, others, rtol=1e-4, atol=1e-6):
    for one, other in zip(ones, others, strict=True):
        np.testing.assert_allclose(one, other, rtol=rtol, atol=atol)


@pytest.mark.full
def test_all_forms_of_data_train_alike(make_mean_vae, dataset, x):
    x = x[:12]
    y, weights = np.zeros(len(x)), np.ones(len(x), "float32")
    forms = {
        "array": lambda: (x,),
        "tensor": lambda: (tf.constant(x),),
        "array with y": lambda: (x, y),
        "dataset of x": lambda: (dataset(x),),
        "dataset of (x,)": lambda: (tf.data.Dataset.from_tensor_slices((x,)).batch(8),),
        "dataset of (x, y)": lambda: (dataset(x, y),),
        "dataset of (x, y, weights)": lambda: (dataset(x, y, weights),),
        "generator": lambda: (((x[i : i + 8],) for i in range(0, len(x), 8)),),
    }
    histories, model = {}, make_mean_vae()
    model.compile(keras.optimizers.SGD(1e-2), run_eagerly=True)
    start = model.get_weights()
    for name, form in forms.items():
        model.set_weights(start)
        data = form()
        size = {"batch_size": 8} if "array" in name or name == "tensor" else {}
        histories[name] = model.fit(*data, **size, shuffle=False, verbose=0).history
        assert sorted(histories[name]) == MEASURES, name
    for name, history in histories.items():
        for measure in MEASURES:
            np.testing.assert_allclose(
                history[measure],
                histories["array"][measure],
                rtol=1e-6,
                err_msg=f"{name}: {measure}",
            )


def test_weights_of_zero_leave_the_gradient_of_the_rest(make_mean_vae, x):
    # sum_over_batch_size: sum(weight * loss) / B, so half a batch of zeros halves the gradient.
    options = {"sample_weight": np.repeat([1.0, 0.0], 4).astype("float32"), "batch_size": 8}
    rest = sgd_step(make_mean_vae(), x[:4], batch_size=4)
    assert any(np.abs(g).max() > 1e-3 for g in rest)
    weighted = sgd_step(make_mean_vae(), x[:8], np.zeros(8), **options)
    assert_equal(weighted, [0.5 * g for g in rest])
    # Keras leaves `sample_weight` out where y is None: an autoencoder has no y.
    try:
        weighted = sgd_step(make_mean_vae(), x[:8], **options)
    except ValueError as error:
        assert "sample_weight" in str(error)
        return
    assert_equal(weighted, [0.5 * g for g in rest])


def test_weights_scale_each_example(make_mean_vae, dataset, x):
    # An example of weight two counts as if it were there twice.
    x, weights = x[:3], np.array([2.0, 1.0, 1.0], "float32")
    data = dataset(x, np.zeros(3), weights)
    weighted = sgd_step(make_mean_vae(), data)
    doubled = sgd_step(make_mean_vae(), np.concatenate([x[:1], x]), batch_size=4)
    assert_equal(weighted, [g * 4 / 3 for g in doubled])


def test_what_weights_make_of_the_measures(make_mean_vae, x):
    # loss = sum(w loss) / N, and the measures are means that the weights weigh: sum(w m) / sum(w),
    # also where the last batch is a partial one.
    model = make_mean_vae(objective=kv.objectives.ELBO(beta=2.0))
    model.compile(keras.optimizers.SGD(0.0), run_eagerly=True)
    weights = np.linspace(0.0, 3.0, len(x)).astype("float32")
    terms = model.compute_terms(model.standardize(x)[0])
    reconstruction, kl = (np.asarray(v) for v in (terms.reconstruction, terms.kl_total))
    expected = {
        "loss": np.sum(weights * (reconstruction + 2.0 * kl)) / len(x),
        "elbo": np.sum(weights * (-reconstruction - kl)) / np.sum(weights),
        "reconstruction": np.sum(weights * reconstruction) / np.sum(weights),
        "kl": np.sum(weights * kl) / np.sum(weights),
    }
    options = {"sample_weight": weights, "batch_size": 16, "verbose": 0}
    history = model.fit(x, **options).history
    evaluated = model.evaluate(x, return_dict=True, **options)
    for name, value in expected.items():
        assert history[name][0] == pytest.approx(value, rel=1e-5), name
        assert evaluated[name] == pytest.approx(value, rel=1e-5), name


def test_weights_of_one_change_nothing(make_vae, x):
    plain = sgd_step(make_vae(), x[:8], batch_size=8)
    ones = sgd_step(make_vae(), x[:8], np.zeros(8), sample_weight=np.ones(8), batch_size=8)
    assert_equal(plain, ones, rtol=0, atol=0)


@pytest.mark.full
def test_logs_hold_measures_driven_numbers_and_what_evaluate_tells(make_vae, x):
    model = make_vae()
    model.compile(keras.optimizers.Adam(1e-3), run_eagerly=True)
    callbacks = [
        kv.callbacks.KLAnnealing(kv.schedules.Constant(0.5)),
        kv.callbacks.HyperparameterSchedule("free_bits", kv.schedules.Constant(0.25)),
        kv.callbacks.HyperparameterSchedule("learning_rate", kv.schedules.Constant(0.01)),
    ]
    history = model.fit(x, validation_data=x, epochs=2, callbacks=callbacks, verbose=0).history
    driven = {"beta": 0.5, "free_bits": 0.25, "learning_rate": 0.01}
    assert set(history) >= {*MEASURES, *driven, *(f"val_{name}" for name in MEASURES)}
    for name, value in driven.items():
        np.testing.assert_allclose(history[name], [value] * 2, rtol=1e-6)
    assert float(model.optimizer.learning_rate) == pytest.approx(0.01)
    after = model.evaluate(x, verbose=0, return_dict=True)
    for name in MEASURES:
        assert history[f"val_{name}"][1] == pytest.approx(after[name], rel=1e-6), name


def test_measures_are_what_their_names_say(make_mean_vae, x):
    model = make_mean_vae(objective=kv.objectives.ELBO(beta=3.0))
    model.compile(run_eagerly=True)
    logs = model.evaluate(x, batch_size=7, verbose=0, return_dict=True)
    assert sorted(logs) == MEASURES
    assert logs["loss"] == pytest.approx(logs["reconstruction"] + 3 * logs["kl"], rel=1e-5)
    assert logs["elbo"] == pytest.approx(-logs["reconstruction"] - logs["kl"], rel=1e-5)
    assert logs["kl"] >= 0
    q, p = model.encode(x), model.prior()
    assert logs["kl"] == pytest.approx(float(np.mean(q.kl_divergence(p))), rel=1e-5)


def test_evaluate_draws_the_same_noise_each_time(make_vae, x):
    model = make_vae()
    model.compile(run_eagerly=True)
    assert model.evaluate(x, verbose=0) == model.evaluate(x, verbose=0)


def test_validation_split_and_predict(make_vae, x):
    model = make_vae()
    model.compile("sgd", run_eagerly=True)
    history = model.fit(x, validation_split=0.25, verbose=0).history
    assert "val_loss" in history
    np.testing.assert_allclose(
        model.predict(x, batch_size=9, verbose=0), model.reconstruct(x), rtol=1e-5, atol=1e-6
    )


@pytest.mark.full
def test_train_on_batch_and_test_on_batch(make_vae, x):
    model = make_vae()
    model.compile("sgd", run_eagerly=True)
    logs = model.train_on_batch(x, return_dict=True)
    assert set(logs) >= set(MEASURES)
    assert set(model.test_on_batch(x, return_dict=True)) >= set(MEASURES)
