"""Checks, seeds and means over replicas."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from keras_vae.core import checks
from keras_vae.core.numerics import density_dtype, inverse_scale, positive_scale
from keras_vae.core.seeds import fold, purpose, seed_tensor
from keras_vae.training.replicas import global_batch_mean, global_batch_size, replica_id


@pytest.mark.parametrize(
    ("check", "message"),
    [
        (lambda: checks.integer("n", 0), "Argument `n` must be an integer >= 1. Received: n=0"),
        (lambda: checks.integer("n", True), "Received: n=True"),
        (lambda: checks.integer("n", 2.0), "Received: n=2.0"),
        (
            lambda: checks.number("beta", -1.0, minimum=0.0),
            "Argument `beta` must be a finite number >= 0. Received: beta=-1.0",
        ),
        (lambda: checks.number("beta", float("inf")), "must be a finite number. Received"),
        (lambda: checks.number("a", 1.0, 0.0, 1.0, exclusive=True), "> 0 and < 1. Received: a=1.0"),
        (lambda: checks.shape("shape", ()), "must be a non-empty tuple of positive integers"),
        (lambda: checks.shape("shape", (3, -1)), "Received: shape=\\(3, -1\\)"),
        (lambda: checks.shape("shape", (2**15, 2**15)), "must be of at most 268435456 numbers"),
        (lambda: checks.sizes("units", (8, 10**9)), "Argument `units` must be an integer <= 1677"),
        (lambda: checks.sizes("units", {3: 1, 2: 1}), "must be a non-empty tuple of positive inte"),
        (lambda: checks.sizes("units", {3, 2}), "must be a non-empty tuple of positive integers"),
        (lambda: checks.sizes("units", ()), "must be a non-empty tuple of positive integers"),
        (
            lambda: checks.activation("f", "nonsense"),
            "Argument `f` must be a Keras activation, its",
        ),
        (lambda: checks.option("mode", "x", ["a", "b"]), "must be one of \\['a', 'b'\\]"),
    ],
)
def test_an_error_names_argument_rule_and_value(check, message):
    with pytest.raises(ValueError, match=message):
        check()


def test_values_within_the_rules_pass():
    assert checks.integer("n", np.int64(3)) == 3
    assert checks.number("a", np.float32(0.5), 0.0, 1.0) == 0.5
    assert checks.shape("shape", [28, np.int64(28)]) == (28, 28)
    assert checks.sizes("units", [2**20, 2**20]) == (2**20, 2**20), "widths are no shape"


def test_scale_has_a_floor_and_a_ceiling_and_its_inverse():
    raw = tf.constant([-1e4, inverse_scale(0.3), inverse_scale(1000.0), 1e9], tf.float64)
    np.testing.assert_allclose(positive_scale(raw), [1e-4, 0.3, 1000.0, 1e4], rtol=1e-12)


@pytest.mark.parametrize(
    ("variable", "density"),
    [
        ("float32", "float32"),
        ("bfloat16", "float32"),
        ("float16", "float32"),
        ("float64", "float64"),
    ],
)
def test_density_dtype_is_never_below_float32(variable, density):
    assert density_dtype(variable) == density


def test_seeds_differ_in_every_number_that_is_folded_in():
    seeds = {
        tuple(fold(seed_tensor(s), step, replica, purpose(name)).numpy())
        for s in (0, 1, 2**40)
        for step in (0, 1)
        for replica in (0, 1)
        for name in ("train", "evaluate")
    }
    assert len(seeds) == 24


def test_seed_of_a_purpose_is_the_same_in_every_process():
    assert purpose("train") == 1009432116  # FNV-1a of b"train", without its last bit.


@pytest.mark.parametrize("seed", [-1, 1.5, None, tf.constant([1, 2, 3])])
def test_what_is_no_seed_is_refused(seed):
    with pytest.raises(ValueError, match="`seed` must be an integer >= 0"):
        seed_tensor(seed)


def test_means_count_every_example_once_on_uneven_replicas(replicas):
    # Replica 0 holds the examples 1 and 2, replica 1 holds the example 6: their mean is 3.
    def run():
        first = tf.equal(replica_id(), 0)
        values = tf.boolean_mask([1.0, 2.0, 6.0], tf.equal([True, True, False], first))
        return global_batch_mean(values), global_batch_size(values)

    means, sizes = tf.function(replicas.run)(run)
    assert [float(mean) for mean in replicas.experimental_local_results(means)] == [3.0, 3.0]
    assert [float(size) for size in replicas.experimental_local_results(sizes)] == [3.0, 3.0]
