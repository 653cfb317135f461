"""Precision, recall, density and coverage, against loops and constructed sets."""

import math

import numpy as np
import pytest

import keras_vae as kv
from keras_vae.evaluation.distances import neighbours

QUIET = {"verbose": False}


def scores_by_loops(x, y, k, closed=False):
    def radius(points, i):
        others = sorted(math.dist(points[i], p) for j, p in enumerate(points) if j != i)
        return others[k - 1]

    def inside(point, centre, reach):
        # Two equal points are at distance zero in loops, too.
        distance = math.dist(point, centre)
        return distance < reach or distance == 0.0 or (closed and distance == reach)

    real = [radius(x, i) for i in range(len(x))]
    generated = [radius(y, i) for i in range(len(y))]
    balls = np.array([[inside(b, a, r) for b in y] for a, r in zip(x, real, strict=True)])
    recalled = [any(inside(a, b, r) for b, r in zip(y, generated, strict=True)) for a in x]
    scores = [balls.any(axis=0).mean(), np.mean(recalled), balls.sum() / (k * len(y))]
    return [*scores, balls.any(axis=1).mean()]


def manifold(x, y, k=5, **kwargs):
    scores = kv.evaluation.manifold_scores(x, y, k=k, **QUIET, **kwargs)
    assert scores.k == k
    return [scores.precision, scores.recall, scores.density, scores.coverage]


@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize("block", [2**22, 70])  # one block, and some of two rows
def test_manifold_scores_equal_loops(monkeypatch, k, block):
    monkeypatch.setattr(neighbours, "_BLOCK", block)
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(31, 3)), rng.normal(size=(23, 3)) * 0.7 + 0.4
    expected = scores_by_loops(x, y, k)
    assert len(set(expected)) == 4 and min(expected) > 0.0
    np.testing.assert_allclose(manifold(x, y, k), expected, rtol=1e-12)
    # On a grid there are equal points, and neighbours on the rim of a ball.
    x, y = rng.integers(0, 3, size=(31, 2)) * 1.0, rng.integers(0, 6, size=(23, 2)) * 0.5
    open_balls = scores_by_loops(x, y, k)
    np.testing.assert_allclose(manifold(x, y, k), open_balls, rtol=1e-12)
    closed_balls = scores_by_loops(x, y, k, closed=True)
    np.testing.assert_allclose(manifold(x, y, k, closed=True), closed_balls, rtol=1e-12)
    assert closed_balls[2] > open_balls[2]


def test_the_rim_is_outside_unless_balls_are_closed():
    # The balls of x reach 1 far, and 2 and 4 are on their rims; 0 and 6 are on those of y.
    x, y = np.array([[0.0], [1.0], [5.0], [6.0]]), np.array([[2.0], [4.0], [20.0], [21.0]])
    assert manifold(x, y, 1) == [0.0, 0.5, 0.0, 0.0]
    assert manifold(x, y, 1, closed=True) == [0.5, 1.0, 0.5, 0.5]
    # Two copies of a point have a ball of radius zero, which holds what is at its centre.
    copies = np.array([[0.0], [0.0]])
    for closed in (False, True):
        assert manifold(copies, np.array([[0.0], [9.0]]), 1, closed=closed)[0] == 0.5
    with pytest.raises(ValueError, match="`closed` must be one of"):
        kv.evaluation.manifold_scores(x, y, k=1, closed="rim", **QUIET)


def test_manifold_scores_of_equal_sets_are_one():
    x = np.random.default_rng(0).normal(size=(200, 8)) + 1000.0
    assert manifold(x, x[::-1]) == [1.0, 1.0, 1.0, 1.0]
    # Five copies of each of nine points: a ball of radius zero, with five points inside.
    copies = np.repeat(np.random.default_rng(0).normal(size=(9, 50)), 5, axis=0)
    np.testing.assert_allclose(manifold(copies, copies, k=3), [1.0, 1.0, 5 / 3, 1.0])


def test_manifold_scores_of_disjoint_sets_are_zero():
    x = np.random.default_rng(0).normal(size=(40, 3))
    assert manifold(x, x + 50.0) == [0.0, 0.0, 0.0, 0.0]


def test_manifold_scores_of_half_of_the_modes():
    x = np.random.default_rng(0).normal(size=(40, 3))
    modes = np.concatenate([x, x + 50.0])
    assert manifold(modes, x) == [1.0, 0.5, 1.0, 0.5]  # one of two modes is lost
    assert manifold(x, modes) == [0.5, 1.0, 0.5, 1.0]  # and one is made up


def test_a_single_outlier_raises_precision_and_not_density():
    rng = np.random.default_rng(0)
    real, far = rng.normal(size=(100, 2)), rng.normal(size=(50, 2)) + 20.0
    scores = kv.evaluation.manifold_scores(np.vstack([real, [[80.0, 80.0]]]), far, k=2, **QUIET)
    assert scores.precision == 1.0 and scores.density == 0.5 and scores.coverage < 0.02
