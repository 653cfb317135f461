"""A driven number has the value of its schedule; `test_exactness.py` has the modes of execution."""

import gc
import weakref

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_vae as kv

STEPS = 16


@keras.saving.register_keras_serializable(package="test_hyperparameter_schedules")
class Recording(kv.objectives.ELBO):
    """Writes down, at each step, the β that its loss had: (loss - reconstruction) / KL."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        number = {"trainable": False, "autocast": False, "initializer": "zeros"}
        self.used = self.add_weight(shape=(STEPS,), name="used", **number)
        self.held = self.add_weight(shape=(STEPS,), name="held", **number)
        self.count = self.add_weight(shape=(), dtype="int32", name="count", **number)

    def loss(self, terms):
        loss = super().loss(terms)
        beta = tf.reduce_sum(loss - terms.reconstruction) / tf.reduce_sum(terms.kl_total)
        here = tf.one_hot(self.count.value, STEPS)
        with tf.control_dependencies([beta]):  # else the end of a dataset would be written down too
            self.used.assign(self.used + here * tf.stop_gradient(beta))
            self.held.assign(self.held + here * self.beta)
            self.count.assign_add(1)
        return loss


def schedule():
    return kv.schedules.Linear(0.5, 2.0, steps=11)


def fit(model, x, epochs=1, **kwargs):
    callbacks = [kv.callbacks.KLAnnealing(schedule())]
    return model.fit(x, epochs=epochs, callbacks=callbacks, verbose=0, **kwargs).history


def test_beta_is_exact_at_every_step_of_a_dataset_of_unknown_length(make_vae, x):
    # 28 examples in batches of 4: two trainings of one epoch are 14 steps, counted on.
    model = make_vae(objective=Recording())
    model.compile(keras.optimizers.SGD(1e-3), jit_compile=False)
    data = tf.data.Dataset.from_tensor_slices(x).batch(4).filter(lambda batch: True)
    histories = [fit(model, data) for _ in range(2)]
    assert model.optimizer.iterations == model.objective.count == 14
    expected = np.array([float(schedule()(t)) for t in range(14)], "float32")
    np.testing.assert_array_equal(model.objective.held.numpy()[:14], expected)
    # (loss - reconstruction) / KL loses digits where the KL is small beside the reconstruction.
    np.testing.assert_allclose(model.objective.used.numpy()[:14], expected, atol=5e-3)
    assert [history["beta"][0] for history in histories] == [expected[6], expected[13]]
    assert float(model.objective.beta) == expected[13], "the last value is kept"


@pytest.mark.full
def test_a_callback_goes_on_after_validations_and_leaves_the_last_value(make_vae, x):
    model, callback = make_vae(), kv.callbacks.KLAnnealing(schedule())
    model.compile("sgd", run_eagerly=True)
    options = {"batch_size": 14, "callbacks": [callback], "verbose": 0}
    history = model.fit(x, epochs=2, validation_data=x, **options).history
    assert history["beta"] == [float(schedule()(1)), float(schedule()(3))]
    assert model.fit(x, **options).history["beta"] == [float(schedule()(5))]
    assert "beta" not in model.fit(x, verbose=0).history
    assert float(model.objective.beta) == float(schedule()(5)), "no callback drives it"


def test_gradient_accumulation_counts_as_the_optimizer_does(make_vae, x):
    # Seven batches, two to a step: the last one belongs to step 3.
    model = make_vae()
    model.compile(keras.optimizers.SGD(1e-3, gradient_accumulation_steps=2), run_eagerly=True)
    fit(model, x, batch_size=4)
    assert float(model.objective.beta) == float(schedule()(3))


@pytest.mark.parametrize(
    "second",
    [
        lambda: kv.callbacks.KLAnnealing(kv.schedules.Constant(1.0)),
        lambda: kv.callbacks.HyperparameterSchedule("beta", kv.schedules.Constant(1.0)),
    ],
)
def test_two_callbacks_for_one_number_are_refused(make_vae, weights_of, x, second):
    model = make_vae()
    model.compile("sgd", run_eagerly=True)
    before = weights_of(model)
    callbacks = [kv.callbacks.KLAnnealing(schedule()), second()]
    with pytest.raises(ValueError, match="driven by another callback.*beta"):
        model.fit(x, callbacks=callbacks, verbose=0)
    for v in model.weights:
        np.testing.assert_array_equal(v.numpy(), before[id(v)])
    # The first one was taken off again.
    assert "beta" not in model.fit(x, verbose=0).history


def test_unknown_number_is_refused_with_the_known_ones(make_vae, x):
    model = make_vae()
    model.compile("sgd", run_eagerly=True)
    callback = kv.callbacks.HyperparameterSchedule("gamma", kv.schedules.Constant(1.0))
    with pytest.raises(ValueError) as error:
        model.fit(x, callbacks=[callback], verbose=0)
    for word in ("`name`", "gamma", "beta", "free_bits", "learning_rate"):
        assert word in str(error.value)


def test_learning_rate_that_a_schedule_computes_cannot_be_driven(make_vae, x):
    model = make_vae()
    model.compile(keras.optimizers.SGD(keras.optimizers.schedules.CosineDecay(0.1, 10)))
    callback = kv.callbacks.HyperparameterSchedule("learning_rate", kv.schedules.Constant(1.0))
    with pytest.raises(ValueError, match="`name` must be a hyperparameter"):
        model.fit(x, callbacks=[callback], verbose=0)


def test_a_traced_step_keeps_what_it_was_traced_with(make_vae, x):
    # Steps are traced again for other hooks, which are told apart by the ids of what they hold:
    # ids that must not be given away meanwhile.
    model, annealing = make_vae(), kv.callbacks.KLAnnealing(schedule())
    model.compile("sgd", run_eagerly=True)
    model.fit(x, callbacks=[annealing], verbose=0)
    traced = weakref.ref(annealing.schedule)
    del annealing
    gc.collect()
    assert traced() is not None


class Crash(Exception):
    pass


def test_crash_leaves_no_controller(make_vae, x):
    def crash(*args, **kwargs):
        raise Crash

    model = make_vae()
    model.compile("sgd", run_eagerly=True)
    for where in ("on_train_begin", "on_train_batch_end", "on_epoch_end"):
        callback = keras.callbacks.Callback()
        setattr(callback, where, crash)
        with pytest.raises(Crash):
            model.fit(x, callbacks=[kv.callbacks.KLAnnealing(schedule()), callback], verbose=0)
        beta = float(model.objective.beta)
        assert "beta" not in model.fit(x, verbose=0).history, where
        assert float(model.objective.beta) == beta, where
    fit(model, x)  # and another one can be attached
    assert float(model.objective.beta) != beta


def test_beside_a_training_callbacks_attach_nothing(make_vae, x):
    model = make_vae()
    model.compile("sgd", run_eagerly=True)
    rule = model.non_finite
    for method in (model.predict, model.evaluate):
        health = kv.callbacks.HealthCheck(non_finite="skip")
        method(x, callbacks=[kv.callbacks.KLAnnealing(schedule()), health], verbose=0)
        assert model.hooks == {}
        assert model.non_finite is rule


def test_a_list_that_was_given_its_model_before_is_refused(make_vae, x):
    # Keras gives it neither the model nor the epochs again: a second training would drive nothing.
    callbacks = keras.callbacks.CallbackList([keras.callbacks.TerminateOnNaN()])
    for arguments in ({"callbacks": callbacks}, {"callbacks": [callbacks]}):
        with pytest.raises(ValueError, match="`callbacks` must be a list of callbacks"):
            make_vae().fit(x, verbose=0, **arguments)


def test_what_is_no_hook_is_refused(make_vae):
    with pytest.raises(ValueError, match="`hook` must be a .*StepHook"):
        make_vae().attach(0.5)
