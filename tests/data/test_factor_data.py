"""Observations with ground-truth factors: numbering, draws, look-ups, dSprites."""

import os
import pathlib

import numpy as np
import pytest

from keras_vae import data
from keras_vae.data import prepared

SIZES = (3, 4, 5)


def grid(sizes=SIZES):
    axes = np.meshgrid(*map(np.arange, sizes), indexing="ij")
    return np.stack(axes, axis=-1).reshape(-1, len(sizes))


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_values_with_gaps_are_numbered_in_their_order():
    given = np.array([[8, -1], [0, 5], [4, 5], [8, 5]], np.int8)
    factors = data.FactorData(np.zeros([4, 2]), given, ["angle", "shape"])
    assert factors.factors.tolist() == [[2, 0], [0, 1], [1, 1], [2, 1]]
    assert [values.tolist() for values in factors.values] == [[0, 4, 8], [-1, 5]]
    assert factors.factor_sizes == (3, 2) and factors.num_factors == 2 and len(factors) == 4
    assert factors.names == ("angle", "shape")
    assert data.FactorData(np.zeros([4, 2]), given).names == ("factor_0", "factor_1")


def test_a_full_factorial_set_has_every_combination_once():
    full = grid()
    assert data.FactorData(full, full[np.random.default_rng(0).permutation(60)]).is_full_factorial
    assert not data.FactorData(full[1:], full[1:]).is_full_factorial
    repeated = np.concatenate([full[1:], full[-1:]])  # 60 rows, but not the 60 combinations
    assert not data.FactorData(repeated, repeated).is_full_factorial


def test_integers_become_floats_and_floats_stay():
    factors = grid()
    images = factors.astype(np.uint8)
    given = data.FactorData(images, factors).observations_at([3, 3, 59])
    assert given.dtype == np.float32
    np.testing.assert_array_equal(given, images[[3, 3, 59]])
    exact = data.FactorData(factors / 3.0, factors).observations_at(np.array([7]))
    assert exact.dtype == np.float64 and np.array_equal(exact, factors[[7]] / 3.0)


def test_positions_are_drawn_uniformly(rng):
    factors = data.FactorData(grid(), grid())
    drawn = factors.sample((100, 600), rng)
    assert drawn.shape == (100, 600)
    counts = np.bincount(drawn.ravel(), minlength=60)
    # Mean 1000; a count is off by 5 standard errors in 1 of 30,000 runs.
    assert np.abs(counts - 1000).max() < 5 * np.sqrt(1000)


@pytest.mark.parametrize("partial", [False, True])
def test_draws_that_share_a_value_are_uniform_over_its_observations(rng, partial):
    rows = grid()[rng.permutation(60)]
    rows = rows[rows.sum(axis=1) < 7] if partial else rows
    factors = data.FactorData(rows, rows)
    for factor, size in enumerate(SIZES):
        values = np.repeat(np.arange(size), 3000).reshape(3, -1)
        drawn = factors.sample_sharing(factor, values, rng)
        assert drawn.shape == values.shape
        np.testing.assert_array_equal(rows[drawn, factor], values)
        for value in range(size):
            owners = np.flatnonzero(rows[:, factor] == value)
            counts = np.bincount(drawn[values == value], minlength=len(rows))[owners]
            # 5 standard errors in one of some hundred counts: 1 of 10,000 runs.
            expected = 3000 / len(owners)
            assert np.abs(counts - expected).max() < 5 * np.sqrt(expected)


def test_observations_are_found_by_their_factors(rng):
    rows = grid()[rng.permutation(60)]
    factors = data.FactorData(rows, rows)
    np.testing.assert_array_equal(rows[factors.find(grid())], grid())


def test_of_equal_observations_the_first_is_found_or_a_random_one(rng):
    rows = np.array([[0, 0], [1, 1], [0, 0], [1, 0], [0, 0]])
    factors = data.FactorData(rows, rows)
    assert factors.find([[0, 0]]).tolist() == [0]
    counts = np.bincount(factors.find(np.zeros([3000, 2], int), rng), minlength=5)
    assert counts[[1, 3]].tolist() == [0, 0]
    # Mean 1000, standard error 26: outside in 1 of 10,000 runs.
    assert np.abs(counts[[0, 2, 4]] - 1000).max() < 110


GOOD = grid((2, 3))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((np.zeros([0, 2]), np.zeros([0, 2], int)), "`observations` must hold at least one"),
        ((np.float32(3.0), GOOD), "`observations` must hold at least one"),
        ((GOOD, GOOD[:5]), r"`factors` must have shape \[6, K\].*shape=\(5, 2\)"),
        ((GOOD, GOOD[:, 0]), r"`factors` must have shape \[6, K\]"),
        ((GOOD, GOOD[:, :0]), r"`factors` must have shape \[6, K\]"),
        ((GOOD, GOOD.astype(float)), "`factors` must be integers.*float64"),
        ((GOOD[:3], GOOD[:3]), "`factors` must hold at least two values of every factor.*factor_0"),
        ((np.eye(70), np.eye(70, dtype=int)), "`factors` must have less than 2.63 combinations"),
        ((GOOD, GOOD, ["shape"]), "`names` must be 2 different names"),
        ((GOOD, GOOD, ["shape", "shape"]), "`names` must be 2 different names"),
        ((GOOD, GOOD, "xy"), "`names` must be 2 different names"),
        ((GOOD, GOOD, [1, 2]), "`names` must be 2 different names"),
    ],
)
def test_what_is_no_factor_data_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        data.FactorData(*arguments)


def test_values_that_do_not_occur_are_refused(rng):
    factors = data.FactorData(GOOD[:5], GOOD[:5], ["shape", "angle"])
    with pytest.raises(ValueError, match="`values` must be integers >= 0 and < 3.*'angle'"):
        factors.sample_sharing(1, [0, 3], rng)
    with pytest.raises(ValueError, match="`values` must be integers >= 0 and < 2.*'shape'"):
        factors.sample_sharing(0, [0.0], rng)
    with pytest.raises(ValueError, match="`factor` must be < 2"):
        factors.sample_sharing(2, [0], rng)
    with pytest.raises(ValueError, match=r"`factors` must be those of an observation.*\[1, 2\]"):
        factors.find([[0, 0], [1, 2]])
    with pytest.raises(ValueError, match="`values` must be integers >= 0 and < 3"):
        factors.find([[0, -1]])
    with pytest.raises(ValueError, match=r"`factors` must have shape \[B, 2\]"):
        factors.find([0, 0])


@pytest.fixture
def dsprites(tfds_data_dir):
    if not pathlib.Path(tfds_data_dir, "dsprites").is_dir():
        pytest.skip(f"dsprites is not prepared in TFDS_DATA_DIR={tfds_data_dir}")


@pytest.mark.full
def test_dsprites_are_found_by_their_factors_in_memory_or_as_a_stream(dsprites, monkeypatch):
    found = data.load_factors("dsprites", os.environ["TFDS_DATA_DIR"])
    assert found.names == ("shape", "scale", "orientation", "x_position", "y_position")
    assert found.is_full_factorial and len(found) == np.prod(found.factor_sizes) == 46080
    assert np.mean(found.observations) == pytest.approx(0.0425, abs=0.006)
    assert found.observations.dtype == np.uint8 and found.observations.shape[1:] == (64, 64, 1)
    images = found.observations_at(found.sample(500, np.random.default_rng(0)))
    assert images.dtype == np.float32 and np.array_equal(np.unique(images), [0.0, 1.0])
    # A square (class 0) that moves: x is the axis of columns, and no other factor changes.
    last = found.factor_sizes[3] - 1
    left, right = found.observations_at(found.find([[0, 2, 0, 0, 3], [0, 2, 0, last, 3]]))
    assert left.sum() == right.sum()
    assert left.any(axis=(0, 2)).argmax() < 16 and right.any(axis=(0, 2)).argmax() > 32
    assert np.array_equal(left.any(axis=(1, 2)), right.any(axis=(1, 2)))
    # A set too large for tensors is read as a stream.
    monkeypatch.setattr(prepared, "MEMORY_LIMIT_BYTES", 0)
    streamed = data.load_factors("dsprites")
    assert np.array_equal(streamed.observations, found.observations)
    assert np.array_equal(streamed.factors, found.factors)


def test_other_data_sets_are_refused():
    with pytest.raises(ValueError, match="`name` must be one of .*dsprites.*mnist"):
        data.load_factors("mnist")
