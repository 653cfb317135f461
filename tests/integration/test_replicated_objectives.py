"""Objectives of the whole batch: two replicas train as one device does at the same global batch."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_vae as kv
from keras_vae.training import replicas as core_replicas

OBJECTIVES = {
    "total correlation": lambda: kv.objectives.BetaTC(40, 0.5, 6.0, 2.0, sampling="stratified"),
    "covariance": lambda: kv.objectives.DIP(3.0, 5.0, "ii"),
    "discrepancy": lambda: kv.objectives.InfoVAE(0.5, 50.0, kernel="imq"),
    "capacity": lambda: kv.objectives.Capacity(1.0, gamma=2.0),
}


def train(model, x, **kwargs):
    with model.distribute_strategy.scope():
        model.compile(keras.optimizers.SGD(0.05), **kwargs)
    return model.fit(x, batch_size=8, shuffle=False, verbose=0).history


# A batch of 8, and a last one of 3 or of 1, at which the second replica has no data. All exchange
# numbers by the same functions, which one of them shows in a graph.
@pytest.mark.parametrize(
    ("name", "size", "run_eagerly"),
    [
        ("total correlation", 9, False),
        pytest.param("capacity", 11, True, marks=pytest.mark.full),
        pytest.param("covariance", 11, True, marks=pytest.mark.full),
        pytest.param("discrepancy", 9, True, marks=pytest.mark.full),
    ],
)
def test_two_replicas_equal_one_device(
    make_mean_vae, trainable, replicas, x, name, size, run_eagerly
):
    x = x[:size]
    one = make_mean_vae(objective=OBJECTIVES[name]())
    expected = train(one, x, run_eagerly=True)
    with replicas.scope():
        two = make_mean_vae(objective=OBJECTIVES[name]())
    start = trainable(two)
    found = train(two, x, run_eagerly=run_eagerly)
    assert any(np.abs(a - b).max() > 1e-3 for a, b in zip(start, trainable(two), strict=True))
    for a, b in zip(trainable(one), trainable(two), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=2e-6)
    for measure in expected:
        np.testing.assert_allclose(
            found[measure], expected[measure], rtol=1e-4, atol=1e-5, err_msg=measure
        )


def test_the_kl_that_a_capacity_is_held_against_is_that_of_all_replicas(
    make_mean_vae, trainable, replicas, x
):
    # The KL of one replica is above C, and that of all is below.
    x, one = x[:8], make_mean_vae()
    kl = one.compute_terms(one.standardize(x)[0]).kl_total.numpy()
    of_replicas = kl[:4].mean(), kl[4:].mean()
    between = (kl.mean() + max(of_replicas)) / 2.0
    assert max(of_replicas) > 1.0001 * kl.mean()
    one = make_mean_vae(objective=kv.objectives.Capacity(between, gamma=20.0))
    train(one, x, run_eagerly=True)
    with replicas.scope():
        two = make_mean_vae(objective=kv.objectives.Capacity(between, gamma=20.0))
    train(two, x, run_eagerly=True)
    for a, b in zip(trainable(one), trainable(two), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=2e-6)


def run(replicas, step, sizes):
    """Run `step` on two replicas which hold this many numbers: 1, 2 ... and 11, 12, ..."""

    def values(context):
        here = context.replica_id_in_sync_group
        return tf.range(1.0, sizes[here] + 1.0) + 10.0 * here

    given = replicas.experimental_distribute_values_from_function(values)
    results = tf.function(lambda: replicas.run(step, (given,)), autograph=False)()
    return tf.nest.map_structure(
        lambda result: [value.numpy() for value in result.values],
        results,
        expand_composites=False,
    )


@pytest.mark.parametrize("sizes", [(2, 2), (2, 1), (1, 0)])
def test_gathered_values_and_their_gradients(replicas, sizes):
    def step(values):
        with tf.GradientTape() as tape:
            tape.watch(values)
            gathered = core_replicas.gather(values)
            # Each replica weighs by another factor, 1 and 2; the gradient is that of their sum.
            factor = 1.0 + tf.cast(core_replicas.replica_id(), tf.float32)
            loss = factor * tf.reduce_sum(tf.square(gathered))
        rows = core_replicas.gathered_rows(tf.shape(values)[0])
        return gathered, tf.gather(gathered, rows) - values, tape.gradient(loss, values)

    everything, differences, gradients = run(replicas, step, sizes)
    expected = np.concatenate([np.arange(1.0, 1.0 + n) + 10.0 * i for i, n in enumerate(sizes)])
    for gathered in everything:
        np.testing.assert_array_equal(gathered, expected)
    assert not np.any(np.concatenate(differences))
    np.testing.assert_allclose(np.concatenate(gradients), 2.0 * (1.0 + 2.0) * expected)


@pytest.mark.full
def test_draws_of_the_prior_are_independent_on_replicas(make_vae, replicas, x, monkeypatch):
    seen = []

    def spy(z, prior, *args):
        seen.append(prior)
        return tf.zeros([1])

    monkeypatch.setattr(kv.penalties, "mmd", spy)
    with replicas.scope():
        model = make_vae(objective=kv.objectives.InfoVAE(0.5, 50.0))
        model.compile("sgd", run_eagerly=True)
    model.fit(x[:8], batch_size=8, verbose=0)
    for prior in seen:
        assert len(np.unique(prior)) == 8 * 2
