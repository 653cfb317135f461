"""A training by GECO ends when its constraints have been met for long enough."""

import keras
import numpy as np
import pytest

import keras_vae as kv
from keras_vae.callbacks import StopWhenConstraintSatisfied

SquaredError = kv.objectives.SquaredError


@pytest.fixture
def stopped(make_vae, x):
    """Return a function that feeds a callback the values of epochs, and returns where it stops."""

    def stopped(callback, *epochs, count=1):
        model = make_vae(objective=kv.objectives.GECO([SquaredError(3.0)] * count))
        callback.set_model(model)
        for rule in (kv.callbacks.GECO(), callback):
            rule.set_model(model)
        model.stop_training = False
        callback.on_train_begin()
        for epoch, values in enumerate(epochs):
            names = [callback.monitor + suffix for suffix in model.objective.suffixes]
            logs = {
                n: v for n, v in zip(names, np.atleast_1d(values), strict=True) if v is not None
            }
            callback.on_epoch_end(epoch, logs)
            if model.stop_training:
                return epoch
        return None

    return stopped


@pytest.mark.parametrize(
    ("options", "epochs", "last"),
    [
        ({}, [1.0, 0.5, 0.0, -1.0], 2),
        ({"tolerance": 0.5}, [1.0, 0.5, 0.0], 1),
        ({"patience": 2}, [-1.0, 1.0, -1.0, -2.0], 3),
        ({"start_from_epoch": 2}, [-1.0, -1.0, -1.0], 2),
        ({"start_from_epoch": 2, "patience": 2}, [-1.0, -1.0, -1.0], None),
        ({}, [np.nan, 1e-6], None),
        # Without validation, an epoch neither counts nor interrupts.
        ({"monitor": "val_constraint", "patience": 2}, [-1.0, None, -1.0], 2),
    ],
)
def test_it_stops_when_it_should(stopped, options, epochs, last):
    callback = StopWhenConstraintSatisfied(**options)
    assert stopped(callback, *epochs) == last == callback.stopped_epoch
    if last is not None:  # another training begins anew
        assert stopped(callback, 1.0) is None is callback.stopped_epoch


def test_every_constraint_counts(stopped):
    assert stopped(StopWhenConstraintSatisfied(), [-1.0, 1.0], [1.0, -1.0], [0, 0], count=2) == 2


@pytest.mark.full
def test_a_training_ends(make_vae, x):
    # A kappa of 9 is met at once; the rest of the 50 epochs is left out.
    model = make_vae(kv.GECOVAE, constraint=SquaredError(9.0))
    model.compile("sgd", run_eagerly=True)
    callbacks = [StopWhenConstraintSatisfied(patience=3), kv.callbacks.GECO()]
    history = model.fit(x, epochs=50, callbacks=callbacks, verbose=0)
    assert history.epoch == [0, 1, 2] and model.hooks == {}
    stop = StopWhenConstraintSatisfied(monitor="val_constraint")
    history = model.fit(x, epochs=5, validation_data=x, callbacks=[stop], verbose=0)
    assert history.epoch == [0] and stop.stopped_epoch == 0
    with pytest.warns(UserWarning, match="no validation"):
        model.fit(x, callbacks=[stop], verbose=0)


def test_what_cannot_work_is_refused(make_vae, x):
    model = make_vae()
    with pytest.raises(ValueError, match="`model` must have a keras_vae.objectives.GECO"):
        model.fit(x, callbacks=[StopWhenConstraintSatisfied()], verbose=0)
    model = make_vae(kv.GECOVAE, constraint=SquaredError(3.0))
    with pytest.raises(ValueError, match="`monitor` needs the callback keras_vae.callbacks.GECO"):
        model.fit(x, callbacks=[StopWhenConstraintSatisfied()], verbose=0)
    for name, value in {"patience": 0, "tolerance": -1.0, "monitor": "loss"}.items():
        with pytest.raises(ValueError, match=f"`{name}` must be"):
            StopWhenConstraintSatisfied(**{name: value})
    assert isinstance(StopWhenConstraintSatisfied(), keras.callbacks.Callback)
