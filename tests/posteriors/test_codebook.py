"""A codebook against NumPy: its choices, its averages over many steps, and how codes begin anew."""

import numpy as np
import pytest
import tensorflow as tf

from keras_vae.posteriors.codebook import Batch, Codebook, k_means

SIZE, DIM, ROWS, DECAY, EPSILON, RATE = 6, 3, 10, 0.8, 1e-5, 0.02
SEED = tf.constant([3, 1])


def make(**kwargs):
    codebook = Codebook(SIZE, DIM, decay=DECAY, dtype="float64", **kwargs)
    codebook.build()
    return codebook


def rows(step, count=ROWS):
    """Return vectors of two clusters, so that some codes are hardly used."""
    rng = np.random.default_rng(step)
    return rng.normal(0.0, 0.3, (count, DIM)) + 2.0 * rng.integers(0, 2, (count, 1))


def step(codebook, z, seed=SEED):
    """Make one step of the codebook, given the vectors of one device."""
    z = tf.constant(z)
    codes = codebook.assign(z)
    sums = codebook.measure(z, codes, Batch(seed))
    if codebook.learning == "gradient":
        descend(codebook, z, codes)
    assign(codebook.updates(sums))


def descend(codebook, z, codes):
    """Move the vectors against the gradient of their squared distances from z."""
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(tf.square(z - codebook.lookup(codes)))
    codebook.embeddings.assign_sub(RATE * tape.gradient(loss, codebook.embeddings.value))


def assign(updates):
    for variable, value in list(updates):
        variable.assign(value)


class Reference:
    """The same in NumPy."""

    def __init__(self, codebook):
        self.learning, self.distance = codebook.learning, codebook.distance
        self.e = codebook.embeddings.numpy()
        self.n, self.m, self.below = np.ones(SIZE), self.e.copy(), codebook.restart_below

    def unit(self, vectors):
        if self.distance == "euclidean":
            return vectors
        return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)

    def step(self, z, seed):
        codes = np.argmin(np.sum((z[:, None] - self.unit(self.e)) ** 2, axis=-1), axis=-1)
        chosen = np.eye(SIZE)[codes]
        self.n = DECAY * self.n + (1.0 - DECAY) * chosen.sum(0)
        if self.learning == "gradient":
            self.e = self.e - RATE * self.slopes(chosen, z)
        else:
            self.m = DECAY * self.m + (1.0 - DECAY) * chosen.T @ z
            total = self.n.sum()
            smoothed = (self.n + EPSILON) / (total + SIZE * EPSILON) * total
            self.e = self.unit(self.m / smoothed[:, None])
        draws = tf.random.stateless_uniform([SIZE], seed, 0, 2**31 - 1, tf.int32, alg="philox")
        candidates = z[(draws.numpy().astype("int64") * len(z)) >> 31]
        mean = self.n.mean()
        dead = self.n < self.below * mean
        self.e[dead], self.m[dead], self.n[dead] = candidates[dead], mean * candidates[dead], mean
        return dead

    def slopes(self, chosen, z):
        vectors = self.unit(self.e)
        slopes = 2.0 * (chosen.sum(0)[:, None] * vectors - chosen.T @ z)
        if self.distance == "euclidean":
            return slopes
        along = np.sum(slopes * vectors, axis=-1, keepdims=True) * vectors
        return (slopes - along) / np.linalg.norm(self.e, axis=-1, keepdims=True)


@pytest.mark.parametrize("restart_below", [0.0, 0.5])
@pytest.mark.parametrize("distance", ["euclidean", "cosine"])
@pytest.mark.parametrize("learning", ["ema", "gradient"])
def test_fifty_steps_of_learning_and_restarts(learning, distance, restart_below):
    codebook = make(learning=learning, distance=distance, restart_below=restart_below)
    reference, restarts = Reference(codebook), 0
    for number in range(50):
        seed, z = tf.constant([number, 7]), reference.unit(rows(number))
        restarts += reference.step(z, seed).sum()
        step(codebook, z, seed)
        np.testing.assert_allclose(codebook.embeddings, reference.e, rtol=1e-9)
        np.testing.assert_allclose(codebook.usage, reference.n, rtol=1e-9)
        if learning == "ema":
            np.testing.assert_allclose(codebook.totals, reference.m, rtol=1e-9)
    assert (restarts > 5) == (restart_below > 0.0)


def test_an_unused_code_stays_where_it_is():
    # From N = 0 and m = 0 on, it would become zero, or 1e5 times as long.
    codebook = make(restart_below=0.0)
    far = np.full(DIM, 50.0)
    codebook.set_vectors(np.concatenate([codebook.embeddings.numpy()[1:], far[None]]))
    for number in range(20):
        step(codebook, rows(number))
    np.testing.assert_allclose(codebook.embeddings[-1], far, rtol=1e-2)


def test_learning_by_gradient_keeps_usage_alone():
    codebook = make(learning="gradient", restart_below=0.0)
    before = codebook.embeddings.numpy()
    z = tf.constant(rows(0))
    sums = codebook.measure(z, codebook.assign(z), Batch(SEED))
    assert set(sums) == {"counts"}
    assign(codebook.updates(sums))
    np.testing.assert_array_equal(codebook.embeddings, before)
    assert codebook.trainable_variables and abs(float(tf.reduce_sum(codebook.usage)) - 6.8) < 1e-9


def test_a_frozen_codebook_stays_as_it_is():
    codebook = make()
    codebook.trainable = False
    before = codebook.get_weights()
    step(codebook, rows(0))
    for a, b in zip(before, codebook.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_cosine_vectors_have_length_one():
    codebook = make(distance="cosine", restart_below=0.3)
    for number in range(10):
        step(codebook, codebook.normalize(rows(number)).numpy(), tf.constant([number, 0]))
    np.testing.assert_allclose(np.linalg.norm(codebook.embeddings, axis=-1), 1.0, rtol=1e-12)


@pytest.mark.parametrize("sizes", [(8, 8), (8, 0), (5, 3)])
def test_replicas_add_up_to_one_device(sizes):
    one, two = make(restart_below=0.9), make(restart_below=0.9)
    two.set_weights(one.get_weights())
    z = rows(0, sum(sizes))
    step(one, z)
    sums = {}
    for replica, part in enumerate(np.split(z, [sizes[0]])):
        part = tf.constant(part)
        found = two.measure(part, two.assign(part), Batch(SEED, replica, replicas=2))
        sums = {name: sums.get(name, 0.0) + value for name, value in found.items()}
    # A replica without data draws nothing, and its codes wait.
    assert np.all(sums["drawn"].numpy() == 1.0) == (sizes[1] > 0)
    assign(two.updates(sums))
    if sizes[0] == sizes[1]:
        for a, b in zip(one.weights, two.weights, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-12)
    began_anew = ~np.isclose(two.usage, 0.8 + 0.2 * sums["counts"])
    found = two.embeddings.numpy()[began_anew]
    assert len(found) and all(np.any(np.all(np.isclose(z, e), axis=1)) for e in found)


@pytest.mark.full
def test_a_step_is_the_same_under_xla():
    codebook = make(restart_below=0.3)
    z = tf.constant(rows(0))

    def values():
        sums = codebook.measure(z, codebook.assign(z), Batch(SEED))
        return [value for _, value in codebook.updates(sums)]

    for a, b in zip(values(), tf.function(values, jit_compile=True)(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)


def test_k_means_finds_the_clusters():
    centers = np.array([[0.0, 9.0], [9.0, 0.0], [-9.0, -9.0]])
    rng = np.random.default_rng(0)
    z = centers[rng.integers(0, 3, 300)] + rng.normal(0.0, 0.1, (300, 2))
    found = k_means(z, 3, seed=0)
    np.testing.assert_allclose(sorted(map(tuple, found)), sorted(map(tuple, centers)), atol=0.1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"learning": "none"}, "`learning` must be one of"),
        ({"distance": "l1"}, "`distance` must be one of"),
        ({"decay": 1.0}, "`decay` must be < 1"),
        ({"restart_below": 2.0}, "`restart_below` must be a finite number >= 0 and <= 1"),
    ],
)
def test_arguments_are_checked(arguments, message):
    with pytest.raises(ValueError, match=message):
        Codebook(SIZE, DIM, **arguments)
