"""Scores of disentanglement, for representations of which it is known what they must get.

All but a few are made of two or three independent, uniform factors. Where a score is that of a
sample, the tolerance is 4 standard errors unless told otherwise: a false alarm in 1 of 16,000 runs.
"""

import numpy as np
import pytest
import tensorflow as tf

import keras_vae as kv
from keras_vae.evaluation.disentanglement import information
from keras_vae.evaluation.disentanglement.linear import linear_classifier

LOG_2 = np.log(2.0)


def grid(*sizes):
    axes = np.meshgrid(*map(np.arange, sizes), indexing="ij")
    return np.stack(axes, axis=-1).reshape(-1, len(sizes))


def factor_data(*sizes, repeat=1):
    """Return observations that are their factors."""
    factors = np.repeat(grid(*sizes), repeat, axis=0)
    return kv.data.FactorData(factors.astype(np.float64), factors)


@pytest.fixture
def data():
    """Three factors of 3, 4 and 5 values."""
    return factor_data(3, 4, 5)


@pytest.fixture
def binary():
    """Two factors of two values, 32 observations: enough for 20 bins."""
    return factor_data(2, 2, repeat=8)


def perfect(v):
    return v


def shuffled_and_scaled(v):
    """Every factor in one dimension, in another order, unit and direction."""
    return v[:, ::-1] * np.array([-300.0, 0.2, 1.0])[: v.shape[1]] + 7.0


def duplicated(v):
    return np.concatenate([v, v], axis=1)


def rotated(v):
    """Two factors turned by 45 degrees."""
    return v @ np.array([[1.0, 1.0], [1.0, -1.0]])


def constant(v):
    return np.full([len(v), 3], 0.1)


def noise_of(data, dimensions, seed=0):
    """Return a representation that has nothing to do with the factors, and data for it."""
    codes = np.random.default_rng(seed).standard_normal([len(data), dimensions])
    positions = kv.data.FactorData(np.arange(len(data))[:, None], data.factors)
    return lambda x: codes[x[:, 0].astype(int)], positions


# The mutual information gap.


def test_information_in_a_whole_factorial_set_is_exact():
    factors = grid(3, 4, 5)
    shared = information.mutual_information(factors, factors)
    np.testing.assert_allclose(shared, np.diag(np.log([3.0, 4.0, 5.0])), atol=1e-12)
    np.testing.assert_allclose(information.entropies(factors), np.log([3.0, 4.0, 5.0]), rtol=1e-12)


def test_information_is_that_of_the_joint_distribution():
    rng = np.random.default_rng(0)
    bins, factors = rng.integers(0, 6, [400, 2]), rng.integers(0, 4, [400, 3])
    factors[:, 1] = np.minimum(bins[:, 0], 3)
    shared = information.mutual_information(bins, factors)
    for d in range(2):
        for k in range(3):
            expected = 0.0
            for b in range(6):
                for v in range(4):
                    both = np.mean((bins[:, d] == b) & (factors[:, k] == v))
                    if both:
                        alone = np.mean(bins[:, d] == b) * np.mean(factors[:, k] == v)
                        expected += both * np.log(both / alone)
            assert shared[d, k] == pytest.approx(expected, rel=1e-10)
    assert shared[0, 1] > 1.0 > 10.0 * shared[0, 0]


def test_bins_have_equal_widths_and_hold_their_lower_edges():
    codes = np.array([[0.0, 5.0], [0.24, 5.0], [0.25, 5.0], [0.99, 5.0], [1.0, 5.0]])
    assert information.discretize(codes, 4)[:, 0].tolist() == [0, 0, 1, 3, 3]
    assert len(set(information.discretize(codes, 4)[:, 1])) == 1  # A constant.
    assert information.discretize(-3.0 * codes, 4)[:, 0].tolist() == [3, 3, 3, 0, 0]


def test_more_bins_than_values_lose_nothing_and_fewer_do(data):
    # 5 values in 2 bins of width 2: {0, 1} and {2, 3, 4}. The entropy of the bins is what is left.
    coarse = kv.evaluation.mutual_information_gap(perfect, data, num_bins=2)
    halves = -(0.4 * np.log(0.4) + 0.6 * np.log(0.6))
    assert coarse.mutual_information[2, 2] == pytest.approx(halves, abs=0.01)
    fine = kv.evaluation.mutual_information_gap(perfect, data, num_bins=60)
    np.testing.assert_allclose(np.diag(fine.mutual_information), fine.entropy, rtol=1e-12)


@pytest.mark.parametrize("representation", [perfect, shuffled_and_scaled])
def test_the_gap_of_separated_factors_is_one(data, representation):
    result = kv.evaluation.mutual_information_gap(representation, data)
    # The information of independent variables in a sample has the mean (a - 1)(b - 1) / (2 N),
    # 6e-4 nats at most here; the larger of two is below 3e-3 but in 1 of 10,000 runs.
    assert 0.997 < result.score < 1.0
    assert result.mutual_information.shape == (3, 3) and result.per_factor.shape == (3,)
    np.testing.assert_allclose(result.entropy, np.log([3.0, 4.0, 5.0]), atol=1e-3)
    order = [2, 1, 0] if representation is shuffled_and_scaled else [0, 1, 2]
    found = result.mutual_information[order, range(3)]
    np.testing.assert_allclose(found, result.entropy, rtol=1e-12)


def test_order_and_unit_do_not_change_the_gap(data):
    scores = [
        kv.evaluation.mutual_information_gap(representation, data, seed=3).score
        for representation in (perfect, shuffled_and_scaled)
    ]
    assert scores[0] == pytest.approx(scores[1], rel=1e-12)


def test_there_is_no_gap_between_two_copies(data):
    assert kv.evaluation.mutual_information_gap(duplicated, data).score == 0.0


def test_turned_factors_share_their_information(binary):
    # z = v + w is 1 in half of all cases, which leave v open: I = H(v) / 2 in both dimensions.
    result = kv.evaluation.mutual_information_gap(rotated, binary)
    # Standard error of an information: sqrt(Var(pointwise information) / N) = (log 2 / 2) / 100.
    np.testing.assert_allclose(result.mutual_information, LOG_2 / 2.0, atol=4 * LOG_2 / 200)
    assert result.score < 4 * np.sqrt(2.0) / 200


def test_what_has_no_information_has_no_gap(data):
    assert kv.evaluation.mutual_information_gap(constant, data).score == 0.0
    noise, positions = noise_of(factor_data(16, 16, 16), 4)
    # At most (20 - 1)(16 - 1) / (2 N) = 0.014 nats in the mean, of the 2.8 of each factor.
    assert kv.evaluation.mutual_information_gap(noise, positions).score < 0.01


# Modularity and explicitness.


@pytest.mark.parametrize("representation", [perfect, shuffled_and_scaled, duplicated])
def test_dimensions_of_one_factor_each_are_modular(data, representation):
    result = kv.evaluation.modularity(representation, data, num_train=2000, num_eval=500)
    # What is not 1 are squares of informations of some 1e-3 nats.
    assert 0.999 < result.score <= 1.0
    # The classifier orders the values of a factor perfectly but for its regularization.
    assert min(result.explicitness, result.explicitness_train) > 0.99


def test_turned_factors_are_not_modular_but_explicit(binary):
    result = kv.evaluation.modularity(rotated, binary, num_train=5000, num_eval=500)
    # 1 - I^2 / I'^2 with I = I' but for their errors, (log 2 / 2) / sqrt(5000) each.
    assert result.score < 4 * 2 * np.sqrt(2.0 / 5000)
    assert result.explicitness == 1.0  # Linear in the codes.


def test_modularity_counts_dimensions_without_information_as_not_modular(data):
    half = kv.evaluation.modularity(
        lambda v: np.concatenate([v, 0.0 * v], axis=1), data, num_train=1000, num_eval=500
    )
    np.testing.assert_allclose(half.per_dimension, [1, 1, 1, 0, 0, 0], atol=0.01)
    assert half.score == pytest.approx(0.5, abs=0.005)


def test_modularity_by_hand():
    from keras_vae.evaluation.disentanglement.modularity import modularities

    shared = np.array([[4.0, 2.0, 0.0], [1.0, 1.0, 1.0], [0.0, 0.0, 3.0], [0.0, 0.0, 0.0]])
    # 1 - (2^2 + 0) / (2 * 4^2), 1 - (1 + 1) / (2 * 1), 1, and 0 by convention.
    np.testing.assert_allclose(modularities(shared), [0.875, 0.0, 1.0, 0.0])


def test_explicitness_of_what_says_nothing_is_chance():
    noise, positions = noise_of(factor_data(16, 16, 16), 2)
    result = kv.evaluation.modularity(noise, positions, num_train=3000, num_eval=3000)
    # An area has a standard error of 0.29 / sqrt(positives): 0.021, and 48 of them 0.003.
    assert result.explicitness == pytest.approx(0.5, abs=0.015)
    assert kv.evaluation.modularity(constant, positions, num_train=500).explicitness == 0.5


# Separated attribute predictability.


def test_predictability_of_separated_binary_factors(binary):
    result = kv.evaluation.sap_score(perfect, binary, num_train=2000, num_eval=2000)
    # Right always from their own dimension, half of the time from the other.
    tolerance = 4 * 0.5 / np.sqrt(2000)
    expected = [[1.0, 0.5], [0.5, 1.0]]
    np.testing.assert_allclose(result.predictability, expected, atol=tolerance)
    assert np.diag(result.predictability).tolist() == [1.0, 1.0]
    assert result.score == pytest.approx(0.5, abs=tolerance)


def test_predictability_of_turned_binary_factors(binary):
    # From v + w, v is known in half of the cases and guessed in the other: 3/4, in both dimensions.
    result = kv.evaluation.sap_score(rotated, binary, num_train=2000, num_eval=2000)
    tolerance = 4 * np.sqrt(3.0) / 4.0 / np.sqrt(2000)
    np.testing.assert_allclose(result.predictability, 0.75, atol=tolerance)
    assert result.score < 2.0 * tolerance


def test_classes_are_balanced():
    # v is 1 in a tenth of the cases, always with code 1; half of the others have code 1, too. If
    # both values count equally, code 1 means v = 1: right in 0.1 + 0.9 / 2. Else v = 0 is: 0.9.
    v = np.repeat([0, 1], [36, 4])
    code = np.where(v == 1, 1, np.arange(40) % 2)
    factors = np.stack([v, np.arange(40) // 2 % 2], axis=1)
    data = kv.data.FactorData(np.stack([code, code], axis=1), factors)
    result = kv.evaluation.sap_score(perfect, data, num_train=2000, num_eval=2000)
    tolerance = 4 * np.sqrt(0.55 * 0.45 / 2000)
    np.testing.assert_allclose(result.predictability[:, 0], 0.55, atol=tolerance)


def test_accuracies_are_those_of_the_evaluation_sample(binary):
    result = kv.evaluation.sap_score(rotated, binary, num_train=2000, num_eval=3)
    np.testing.assert_allclose(3 * result.predictability, np.round(3 * result.predictability))
    trees = kv.evaluation.dci(constant, binary, num_train=2000, num_eval=3, num_trees=1)
    assert 6 * trees.informativeness == pytest.approx(round(6 * trees.informativeness))
    assert 6 * trees.informativeness_train != pytest.approx(round(6 * trees.informativeness_train))


def test_two_copies_predict_equally(data):
    result = kv.evaluation.sap_score(duplicated, data, num_train=500, num_eval=500)
    assert result.score == 0.0
    assert kv.evaluation.sap_score(duplicated, data, continuous_factors=True).score < 1e-12


def test_predictability_of_continuous_factors(data):
    v = np.array([[1.0, 1.0], [1.0, -1.0]])
    exact = kv.evaluation.sap_score(perfect, data, continuous_factors=True)
    # Correlations of independent variables have the standard error 1 / sqrt(N) = 0.01.
    np.testing.assert_allclose(exact.predictability, np.eye(3), atol=0.04**2)
    assert exact.score == pytest.approx(1.0, abs=0.04**2)
    # Of v + w or v - w with v as squared correlation: Var(v) / (Var(v) + Var(w)).
    turned = kv.evaluation.sap_score(lambda x: x[:, :2] @ v, data, continuous_factors=True)
    share = np.array([8.0, 15.0, 0.0]) / 23.0  # variances 8 / 12 and 15 / 12
    np.testing.assert_allclose(turned.predictability, np.stack([share, share]), atol=0.05)
    nothing = kv.evaluation.sap_score(constant, data, continuous_factors=True)
    assert nothing.score == 0.0 and not nothing.predictability.any()


# Disentanglement, completeness, informativeness.


def test_concentration_by_hand():
    from keras_vae.evaluation.disentanglement.dci import concentration

    copies = np.array([[0.5, 0.0], [0.5, 0.0], [0.0, 0.5], [0.0, 0.5]])
    assert concentration(copies) == pytest.approx(1.0)
    assert concentration(copies.T) == pytest.approx(1.0 - np.log(2.0) / np.log(4.0))
    # Rows of sums 3 and 1: 1 - H(1/3, 2/3) / log 2 and 0.
    mixed = np.array([[1.0, 2.0], [0.5, 0.5], [0.0, 0.0]])
    entropy = np.log(3.0) - 2.0 / 3.0 * np.log(2.0)
    assert concentration(mixed) == pytest.approx(0.75 * (1.0 - entropy / LOG_2))
    assert concentration(np.zeros([3, 2])) == 0.0


@pytest.mark.parametrize("representation", [perfect, shuffled_and_scaled])
def test_trees_look_at_the_dimension_of_a_factor(data, representation):
    result = kv.evaluation.dci(representation, data, num_train=400, num_eval=100, num_trees=20)
    assert result.disentanglement > 0.99 and result.completeness > 0.99
    assert (result.informativeness, result.informativeness_train) == (1.0, 1.0)
    order = [2, 1, 0] if representation is shuffled_and_scaled else [0, 1, 2]
    np.testing.assert_allclose(result.importance[order], np.eye(3), atol=0.01)


def test_copies_are_disentangled_and_not_complete(binary):
    result = kv.evaluation.dci(duplicated, binary, num_train=200, num_eval=100)
    assert result.disentanglement == pytest.approx(1.0, abs=1e-6)
    # The first tree explains a binary factor whole, so that one of the copies may get it all:
    # 1 - log 2 / log 4 = 1/2 where they share it equally, 1 where one does.
    assert 0.5 - 1e-6 <= result.completeness <= 1.0
    np.testing.assert_allclose(result.importance.sum(axis=0), [1.0, 1.0])
    own = result.importance[[0, 2]].sum(axis=0), result.importance[[1, 3]].sum(axis=0)
    np.testing.assert_allclose(own, np.eye(2), atol=1e-6)


def test_a_dimension_of_two_factors_is_complete_and_not_disentangled(binary):
    def merged(v):
        return np.stack([2.0 * v[:, 0] + v[:, 1], 0.0 * v[:, 0]], axis=1)

    result = kv.evaluation.dci(merged, binary, num_train=200, num_eval=100)
    np.testing.assert_allclose(result.importance, [[1.0, 1.0], [0.0, 0.0]])
    assert (result.completeness, result.informativeness) == (1.0, 1.0)
    assert result.disentanglement == pytest.approx(0.0, abs=1e-12)
    # The gap does not see it, the modularity does: 0 here, and 0 of the constant by convention.
    gap = kv.evaluation.mutual_information_gap(merged, binary)
    assert gap.score == pytest.approx(1.0, rel=1e-12)
    assert kv.evaluation.modularity(merged, binary, num_train=5000).score < 0.05


def test_turned_factors_are_neither_disentangled_nor_complete():
    # Of 3 values each, so that a factor takes several cuts; both dimensions matter equally.
    result = kv.evaluation.dci(rotated, factor_data(3, 3, repeat=4), num_train=500, num_eval=100)
    assert result.disentanglement < 0.1 and result.completeness < 0.1
    assert result.informativeness == 1.0  # 9 different codes


def test_nothing_is_important_where_nothing_is_known(data):
    result = kv.evaluation.dci(constant, data, num_train=500, num_eval=400, num_trees=5)
    assert (result.disentanglement, result.completeness) == (0.0, 0.0)
    # The most frequent value: 1/3, 1/4 and 1/5 in the mean.
    assert result.informativeness == pytest.approx(47.0 / 180.0, abs=4 * 0.44 / np.sqrt(1200))


# The scores of the beta-VAE and the FactorVAE.

VOTES = {"num_train": 1000, "num_eval": 1000}


@pytest.mark.parametrize("score", ["beta_vae_score", "factor_vae_score"])
@pytest.mark.parametrize("representation", [perfect, shuffled_and_scaled, duplicated])
def test_a_shared_factor_is_told_from_dimensions_of_its_own(data, score, representation):
    result = getattr(kv.evaluation, score)(representation, data, **VOTES)
    assert (result.score, result.train_accuracy) == (1.0, 1.0)


@pytest.mark.parametrize("score", ["beta_vae_score", "factor_vae_score"])
def test_a_shared_factor_cannot_be_told_from_turned_ones(score):
    # With v fixed, both v + w and v - w vary as w does; with w fixed, as v does.
    result = getattr(kv.evaluation, score)(rotated, factor_data(8, 8), **VOTES)
    assert result.score == pytest.approx(0.5, abs=4 * 0.5 / np.sqrt(1000))


@pytest.mark.parametrize("score", ["beta_vae_score", "factor_vae_score"])
def test_a_shared_factor_cannot_be_told_from_noise(score):
    noise, positions = noise_of(factor_data(16, 16, 16), 4)
    result = getattr(kv.evaluation, score)(noise, positions, **VOTES)
    # Chance is 1/3; codes of 256 observations of a value tell a little more.
    assert 0.25 < result.score < 0.45


def test_differences_are_means_over_pairs(data):
    result = kv.evaluation.beta_vae_score(perfect, data, batch_size=64, **VOTES)
    # E|a - b| of two independent uniform values out of n is (n^2 - 1) / (3 n); 0 where shared.
    expected = np.array([8.0 / 9.0, 15.0 / 12.0, 24.0 / 15.0])
    np.testing.assert_allclose(np.diag(result.differences), 0.0)
    away = ~np.eye(3, dtype=bool)
    # Standard errors: below 1.2 / sqrt(64 * 300).
    np.testing.assert_allclose(
        result.differences[away], np.tile(expected, [3, 1])[away], atol=4 * 1.2 / np.sqrt(64 * 300)
    )


def test_a_constant_code_leaves_the_most_frequent_factor(data):
    result = kv.evaluation.beta_vae_score(constant, data, **VOTES)
    assert result.score == pytest.approx(1.0 / 3.0, abs=4 * 0.48 / np.sqrt(1000))


def test_dimensions_that_hardly_vary_have_no_vote(data):
    def padded(v):
        quiet = 0.04 * (v[:, :1] - 1.0) * np.sqrt(1.5)  # standard deviation 0.04
        louder = 2.5 * quiet  # standard deviation 0.1, variance 0.01
        return np.concatenate([quiet, v, louder, 0.0 * quiet], axis=1)

    score = kv.evaluation.factor_vae_score
    result = score(padded, data, **VOTES)
    assert result.active.tolist() == [False, True, True, True, True, False]
    assert result.votes.shape == (6, 3) and result.votes.sum() == 1000
    assert not result.votes[~result.active].any() and result.score == 1.0
    by_variance = score(padded, data, min_stddev=0.05**0.5, **VOTES)
    assert by_variance.active.tolist() == [False, True, True, True, False, False]
    everything = score(padded, data, min_stddev=0.0, **VOTES)
    assert everything.active.tolist() == [True, True, True, True, True, False]
    nothing = score(constant, data, **VOTES)
    assert nothing.score == 0.0 and not nothing.votes.any()


def test_variances_are_relative():
    # Of 32 observations of each combination, with noise of half a step: no code stands still. The
    # quiet dimension varies least whichever factor is fixed, but not relative to its own variance.
    data = factor_data(4, 4, 4, repeat=32)
    noise, positions = noise_of(data, 3)

    def quiet(x):
        return (data.factors[x[:, 0].astype(int)] + 0.5 * noise(x)) * np.array([0.1, 1.0, 1.0])

    assert kv.evaluation.factor_vae_score(quiet, positions, **VOTES).score == 1.0


# Their linear classifiers.


def test_one_against_the_rest_is_the_regression_of_published_scores():
    # What LogisticRegression() was before scikit-learn 0.22: for each class the minimum of
    # |w|^2 / 2 + b^2 / 2 + sum_n log(1 + exp(-t_n (w x_n + b))), found here by Newton's method.
    rng = np.random.default_rng(0)
    x, labels = rng.normal(size=(60, 2)), rng.integers(0, 3, 60)
    x[:, 0] += labels
    rows = np.concatenate([x, np.ones([60, 1])], axis=1)
    fitted = linear_classifier("one_vs_rest").fit(x, labels)
    probabilities = []
    for c in range(3):
        w = np.zeros(3)
        for _ in range(30):
            p = 1.0 / (1.0 + np.exp(-rows @ w))
            hessian = rows.T @ (rows * (p * (1.0 - p))[:, None]) + np.eye(3)
            w -= np.linalg.solve(hessian, rows.T @ (p - (labels == c)) + w)
        probabilities.append(1.0 / (1.0 + np.exp(-rows @ w)))
    expected = np.stack(probabilities, axis=1)
    expected /= expected.sum(axis=1, keepdims=True)
    # liblinear stops at a tolerance of 1e-4.
    np.testing.assert_allclose(fitted.predict_proba(x), expected, atol=2e-3)
    multinomial = linear_classifier("multinomial").fit(x, labels).predict_proba(x)
    assert np.abs(multinomial - expected).max() > 0.02


@pytest.mark.full
def test_the_classifier_is_chosen_and_known(data):
    def mixed(v):
        return v @ np.array([[1.0, 1.0, 0.0], [1.0, -1.0, 1.0], [0.0, 1.0, 1.0]])

    e, small = kv.evaluation, {"num_train": 200, "num_eval": 100}
    chosen = {"classifier": "one_vs_rest", **small}
    everything = e.disentanglement_scores(mixed, data, **chosen).as_dict()
    for name, function in (("beta_vae", e.beta_vae_score), ("explicitness", e.modularity)):
        default, same, other = (
            str(function(mixed, data, **options))
            for options in (small, {"classifier": "multinomial", **small}, chosen)
        )
        assert default == same != other
        assert f"={everything[name]}," in other
        with pytest.raises(ValueError, match="`classifier` must be one of .*multin.*one_vs_rest"):
            function(mixed, data, classifier="ridge")


# All of them.

SMALL = {"num_train": 200, "num_eval": 100}


def test_all_scores_at_once_are_the_single_ones(binary):
    data = binary
    everything = kv.evaluation.disentanglement_scores(perfect, data, seed=4, **SMALL)
    e = kv.evaluation
    single = {
        "mutual_information_gap": e.mutual_information_gap(perfect, data, 4, num_train=200).score,
        "beta_vae": e.beta_vae_score(perfect, data, 4, **SMALL).score,
        "factor_vae": e.factor_vae_score(perfect, data, 4, **SMALL).score,
        "sap": e.sap_score(perfect, data, 4, **SMALL).score,
        "modularity": e.modularity(perfect, data, 4, **SMALL).score,
        "explicitness": e.modularity(perfect, data, 4, **SMALL).explicitness,
        "dci_disentanglement": e.dci(perfect, data, 4, **SMALL).disentanglement,
        "dci_completeness": e.dci(perfect, data, 4, **SMALL).completeness,
        "dci_informativeness": e.dci(perfect, data, 4, **SMALL).informativeness,
    }
    assert everything.as_dict() == single
    other = e.mutual_information_gap(perfect, data, 5, num_train=200).score
    assert other != single["mutual_information_gap"]


def test_every_observation_is_encoded_at_most_once():
    seen = []
    factors = np.repeat(grid(2, 2), 100, axis=0)

    def watched(x):
        positions = x[:, 0].astype(int)
        seen.extend(positions)
        return factors[positions]

    data = kv.data.FactorData(np.arange(400)[:, None], factors)
    kv.evaluation.mutual_information_gap(watched, data, num_train=50)
    assert len(set(seen)) == len(seen) <= 50
    seen.clear()
    kv.evaluation.disentanglement_scores(watched, data, **SMALL)
    assert sorted(seen) == list(range(400))


def test_the_representation_of_a_model_is_the_mean_of_its_posterior():
    factors = grid(4, 4, 4)
    images = np.random.default_rng(0).random([64, 8, 8, 1], np.float32)
    data = kv.data.FactorData(images, factors)
    model = kv.VAE(
        encoder=kv.networks.MLPEncoder((8,)),
        decoder=kv.networks.MLPDecoder((8, 8, 1)),
        posterior=kv.posteriors.DiagonalNormal(3),
        likelihood=kv.likelihoods.Bernoulli((8, 8, 1)),
    )
    given = kv.evaluation.mutual_information_gap(model, data)
    expected = kv.evaluation.mutual_information_gap(lambda x: model.encode(x).mean(), data)
    np.testing.assert_array_equal(given.mutual_information, expected.mutual_information)
    assert given.mutual_information.min() > 0.0
    with pytest.raises(ValueError, match="support of Bernoulli"):
        kv.evaluation.mutual_information_gap(model, kv.data.FactorData(images + 1.0, factors))


# Bad input.

ALL = (
    "beta_vae_score",
    "dci",
    "disentanglement_scores",
    "factor_vae_score",
    "modularity",
    "mutual_information_gap",
    "sap_score",
)


class Unbuilt(kv.VAE):
    def _build_parts(self):
        pass


def unbuilt():
    return Unbuilt(
        encoder=kv.networks.MLPEncoder((8,)),
        decoder=kv.networks.MLPDecoder((8, 8, 1)),
        posterior=kv.posteriors.DiagonalNormal(3),
        likelihood=kv.likelihoods.Bernoulli((8, 8, 1)),
    )


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize(
    ("representation", "message"),
    [
        (lambda v: v[:, 0], r"`representation` must return codes of shape \[\d+, D\].*shape=\(\d+"),
        (lambda v: v[:-1], r"`representation` must return codes of shape \[\d+, D\]"),
        (lambda v: v[:, :0], r"`representation` must return codes of shape \[\d+, D\]"),
        (
            lambda v: np.where(v == [[2, 3, 4]], np.nan, v),
            r"`representation` must return finite codes, also for observation \d+.*nan",
        ),
        (lambda v: v / 0.0 if len(v) > 1 else v, "`representation` must return finite codes"),
        ("means", "`representation` must be a function from observations to codes, or a VAE"),
        (unbuilt, "`model` must be built"),
    ],
)
@pytest.mark.filterwarnings("ignore:divide by zero", "ignore:invalid value")
def test_what_is_no_representation_is_refused(data, name, representation, message):
    given = representation() if representation is unbuilt else representation
    with pytest.raises(ValueError, match=message):
        getattr(kv.evaluation, name)(given, data, seed=0)


@pytest.mark.parametrize("name", ALL)
def test_data_without_factors_are_refused(name, data):
    score = getattr(kv.evaluation, name)
    with pytest.raises(ValueError, match="`data` must be a keras_vae.data.FactorData"):
        score(perfect, data.observations)
    with pytest.raises(ValueError, match="`data` must have at least two factors"):
        score(perfect, factor_data(30))
    with pytest.raises(ValueError, match="`seed` must be an integer >= 0"):
        score(perfect, data, seed=-1)
    with pytest.raises(ValueError, match="`verbose` must be one of"):
        score(perfect, data, verbose="no")


@pytest.mark.parametrize("name", ["mutual_information_gap", "modularity", "disentanglement_scores"])
def test_fewer_samples_than_bins_are_refused(name, data):
    score = getattr(kv.evaluation, name)
    with pytest.raises(ValueError, match="`num_train` must be >= 20, the number of bins.*=19"):
        score(perfect, data, num_train=19)
    with pytest.raises(ValueError, match="`data` must hold at least 61 .*bins.*60 observations"):
        score(perfect, data, num_bins=61)
    with pytest.raises(ValueError, match="`num_bins` must be an integer >= 2"):
        score(perfect, data, num_bins=1)


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("beta_vae_score", {"batch_size": 0}, "`batch_size` must be an integer >= 1"),
        ("beta_vae_score", {"num_train": 1}, "`num_train` must be so large that two factors"),
        ("factor_vae_score", {"batch_size": 1}, "`batch_size` must be an integer >= 2"),
        ("factor_vae_score", {"num_variance_estimate": 1}, "`num_variance_estimate` must be"),
        ("factor_vae_score", {"min_stddev": -0.1}, "`min_stddev` must be a finite number >= 0"),
        ("sap_score", {"regularization": 0.0}, "`regularization` must be a finite number > 0"),
        ("sap_score", {"num_train": 1}, "`num_train` must be so large that two values"),
        ("sap_score", {"num_eval": 0}, "`num_eval` must be an integer >= 1"),
        ("sap_score", {"continuous_factors": "x"}, "`continuous_factors` must be one of"),
        ("dci", {"num_trees": 0}, "`num_trees` must be an integer >= 1"),
        ("dci", {"num_train": 1}, "`num_train` must be so large that two values"),
        ("modularity", {"num_eval": 1}, "`num_eval` must be so large that two values"),
    ],
)
def test_numbers_out_of_range_are_refused(data, name, arguments, message):
    with pytest.raises(ValueError, match=message):
        getattr(kv.evaluation, name)(perfect, data, **arguments)


@pytest.mark.parametrize("name", ["dci", "mutual_information_gap", "sap_score"])
def test_a_single_dimension_cannot_be_compared(data, name):
    with pytest.raises(
        ValueError, match=r"`representation` must return codes \[B, D\] with D >= 2"
    ):
        getattr(kv.evaluation, name)(lambda v: v[:, :1], data)


def test_tensors_are_codes_too(data):
    given = kv.evaluation.mutual_information_gap(tf.convert_to_tensor, data)
    assert given.score == kv.evaluation.mutual_information_gap(perfect, data).score
