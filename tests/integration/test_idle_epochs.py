"""Iterators of tf.data, whose destructors may wait, are not destroyed by the thread that trains."""

import contextlib
import gc
import os
import subprocess
import sys
import threading
import weakref
from pathlib import Path

import keras
import pytest
import tensorflow as tf
from keras.src.backend.tensorflow import trainer as keras_trainer
from tensorflow.python.ops import gen_dataset_ops

from keras_vae.evaluation import reading
from keras_vae.training import iterators


class Iterators:
    """Counts the resources of iterators, and notes which threads destroy them."""

    def __init__(self):
        self.made, self.destroyed_by = 0, []

    def spied(self, make):
        def spied_make(*args, **kwargs):
            resource = make(*args, **kwargs)
            if tf.executing_eagerly():
                self.made += 1
                weakref.finalize(resource, self._note)
            return resource

        return spied_make

    def _note(self):
        self.destroyed_by.append(threading.current_thread())

    def alive(self):
        for thread in threading.enumerate():
            if thread.name == "release":
                thread.join()
        return self.made - len(self.destroyed_by)


@pytest.fixture
def seen(monkeypatch):
    """Watch the iterators on one device and on several."""
    seen = Iterators()
    for name in ("anonymous_iterator_v3", "anonymous_multi_device_iterator_v3"):
        monkeypatch.setattr(gen_dataset_ops, name, seen.spied(getattr(gen_dataset_ops, name)))
    return seen


@pytest.fixture(params=["one device", "replicas"])
def model(request, make_vae):
    """Return a compiled model."""
    on_replicas = request.param == "replicas"
    strategy = request.getfixturevalue("replicas") if on_replicas else None
    with strategy.scope() if strategy else contextlib.nullcontext():
        model = make_vae()
        model.compile("sgd", steps_per_execution=2)
    return model


def uses(model, x, data):
    """Yield every way to pass over data, by name: with known and unknown ends, and without end."""
    unknown, endless = data.filter(lambda batch: True), data.repeat()

    def generate():
        return ((x[start : start + 8],) for start in (0, 8))

    def mean(x, y, seed):
        return tf.reduce_mean(x)

    def map_batches(given):
        return list(reading.map_batches(mean, model, given, verbose=False))

    fit = {"epochs": 2, "verbose": 0}
    yield "arrays", lambda: model.fit(x, batch_size=8, validation_data=x, **fit)
    yield "a dataset", lambda: model.fit(data, validation_data=data, **fit)
    yield "an unknown end", lambda: model.fit(unknown, validation_data=unknown, **fit)
    steps = {"steps_per_epoch": 2, "validation_steps": 2}
    yield "no end", lambda: model.fit(endless, validation_data=endless, **steps, **fit)
    yield "a generator", lambda: model.fit(generate(), verbose=0)
    for given in (x, data, unknown):
        yield "evaluate", lambda given=given: model.evaluate(given, verbose=0)
        yield "predict", lambda given=given: model.predict(given, verbose=0)
    yield "predict from a generator", lambda: model.predict(generate(), verbose=0)
    for given in (x, data):
        yield "map_batches", lambda given=given: map_batches(given)
    yield "a part of a pass", lambda: next(iter(reading.standardized(model, data)))


@pytest.mark.full
@pytest.mark.filterwarnings("ignore:Your input ran out of data", "ignore:`shuffle=True` was passed")
def test_no_pass_destroys_an_iterator_itself(seen, model, x, dataset):
    model.build(x.shape)
    gc.disable()  # whose thread is whichever makes objects
    try:
        for name, use in uses(model, x, dataset(x)):
            use()
            assert seen.alive() == 0, f"{name} leaves iterators behind"
            assert seen.destroyed_by, name
            assert threading.current_thread() not in seen.destroyed_by, name
            seen.__init__()
    finally:
        gc.enable()


@pytest.mark.full
def test_a_long_training_holds_few_iterators(seen, make_vae, x):
    model, alive = make_vae(), []
    model.compile("sgd")
    count = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: alive.append(seen.alive())
    )
    model.fit(x, epochs=8, batch_size=14, validation_data=x, callbacks=[count], verbose=0)
    assert set(alive[1:]) == {alive[1]}, alive


def test_an_error_in_the_data_stays_what_it_is(seen, make_vae, x, dataset):
    def broken(batch):
        return tf.debugging.check_numerics(batch / 0.0, "broken")

    model = make_vae()
    model.compile("sgd", run_eagerly=True)
    with pytest.raises(tf.errors.InvalidArgumentError, match="broken"):
        model.fit(dataset(x).map(broken), verbose=0)
    gc.collect()
    assert seen.alive() == 0


def test_keras_and_other_threads_keep_their_class(x):
    kept, made = keras_trainer.TFEpochIterator, []

    def make():
        strategy = tf.distribute.get_strategy()
        made.append(keras_trainer.TFEpochIterator(x=x, distribute_strategy=strategy))

    with iterators.released_in_background():
        make()
        thread = threading.Thread(target=make)
        thread.start()
        thread.join()
    assert keras_trainer.TFEpochIterator is kept
    assert [type(one) is kept for one in made] == [False, True]


def test_generators_of_users_end_in_their_own_thread():
    closed_by = []

    def generate():
        try:
            yield from range(3)
        finally:
            closed_by.append(threading.current_thread())

    assert next(iterators.elements_of(generate())) == 0
    assert closed_by == [threading.current_thread()]


@pytest.mark.parametrize("finalizing", [True, False])
def test_without_threads_iterators_are_destroyed_at_once(seen, monkeypatch, finalizing):
    def start(thread):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(sys, "is_finalizing", lambda: finalizing)
    monkeypatch.setattr(threading.Thread, "start", start)
    assert len(list(iterators.elements_of(tf.data.Dataset.range(3)))) == 3
    assert seen.alive() == 0


@pytest.mark.full
def test_a_process_may_end_while_iterators_are_released(tmp_path):
    # A thread that is a daemon comes back to an interpreter that has ended, and aborts the process.
    script = tmp_path / "slow_release.py"
    script.write_text(
        "import time\n"
        "from keras_vae.training.iterators import release\n"
        "class Slow:\n"
        "    def __del__(self):\n"
        "        time.sleep(0.5)\n"
        "        print('released')\n"
        "release([Slow()])\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout == "released\n"
