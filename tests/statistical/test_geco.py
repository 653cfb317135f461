"""GECO against exact answers: a Lagrangian solved by hand, and q_IW written out in NumPy."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy import optimize, special

import keras_vae as kv

GECO, NegativeLogLikelihood = kv.objectives.GECO, kv.objectives.NegativeLogLikelihood
ImportanceWeighted, SquaredError = kv.objectives.ImportanceWeighted, kv.objectives.SquaredError

EXACT = {"rtol": 1e-6, "atol": 1e-10}
KAPPA = 1.25
STEPS, EPOCHS = 50, 30


class Lagrangian:
    """The least KL + λ (E||x - W z - b||^2 - κ^2) over q, for orthogonal columns of W.

    For fixed λ the best q(z|x) has independent dimensions of precision 1 + 2 λ w_d^2 and mean
    2 λ W_d^T (x - b) / (1 + 2 λ w_d^2). All means are over the data.
    """

    def __init__(self, case):
        self.case = case
        self.squares = np.sum(np.square(case.truth.w), axis=0)
        self.projected = (case.x - case.truth.b) @ case.truth.w

    def q(self, multiplier):
        precision = 1.0 + 2.0 * multiplier * self.squares
        return 2.0 * multiplier * self.projected / precision, 1.0 / precision

    def constraint(self, mean, variance, kappa=KAPPA):
        error = self.case.x - self.case.truth.b - mean @ self.case.truth.w.T
        squares = np.sum(np.square(error), axis=-1) + np.sum(self.squares * variance, axis=-1)
        return np.mean(squares) - kappa**2

    @staticmethod
    def kl(mean, variance):
        return np.mean(np.sum(np.square(mean) + variance - 1.0 - np.log(variance), axis=-1)) / 2.0

    def solve(self):
        log = optimize.brentq(lambda log: self.constraint(*self.q(np.exp(log))), -10.0, 10.0)
        return np.exp(log)


def constrained(cases, multiplier=1.0, bound=None, size=64):
    keras.utils.set_random_seed(1)
    truth = cases.truth(orthogonal=True)
    objective = GECO(SquaredError(KAPPA), bound, multiplier)
    case = cases.with_decoder(truth, truth.sample(size), objective=objective)
    case.model.decoder.trainable = False
    return case


def train(case):
    rate = keras.optimizers.schedules.CosineDecay(0.05, STEPS * EPOCHS, alpha=0.02)
    case.model.compile(keras.optimizers.Adam(rate, beta_2=0.95), jit_compile=False)
    rule = kv.callbacks.GECO(learning_rate=0.1, alpha=0.9, clip=(0.95, 1.05))
    data = tf.data.Dataset.from_tensors(case.x).repeat(STEPS)
    return case.model.fit(data, epochs=EPOCHS, callbacks=[rule], verbose=0).history


def test_training_ends_on_the_constraint_at_the_least_rate(cases):
    case = constrained(cases, 100.0, kv.objectives.ELBO(num_samples=16))
    exact = Lagrangian(case)
    multiplier = exact.solve()
    history = train(case)
    q = case.q()
    mean, variance = q.mean, np.diagonal(q.covariance, axis1=1, axis2=2)
    # λ starts two orders off; the noise of 16 x 64 samples a step leaves some thousandths.
    assert abs(exact.constraint(mean, variance)) < 0.01 * KAPPA**2
    assert q.kl().sum(axis=-1).mean() == pytest.approx(exact.kl(*exact.q(multiplier)), rel=0.01)
    assert history["lambda"][-1] == pytest.approx(multiplier, rel=0.05)


def test_the_solution_is_one_of_a_constrained_optimum(cases):
    exact = Lagrangian(constrained(cases))
    multiplier = exact.solve()
    assert 0.05 < multiplier < 20.0, "the starting points of the trainings lie around it"
    # dKL/dκ^2 = -λ on the constraint: the envelope theorem.
    kls = []
    for kappa in (KAPPA - 1e-4, KAPPA + 1e-4):
        log = optimize.brentq(lambda v, k=kappa: exact.constraint(*exact.q(np.exp(v)), k), -9, 9)
        kls.append(exact.kl(*exact.q(np.exp(log))))
    assert (kls[1] - kls[0]) / (4e-4 * KAPPA) == pytest.approx(-multiplier, rel=1e-4)


# Values: the loss of given terms.


def numpy_squares(case, z):
    return np.sum(np.square(case.x - z @ case.truth.w.T - case.truth.b), axis=-1)  # [S, B]


def loss_of(case, objective, seed=1):
    terms = case.model.compute_terms(tf.constant(case.x), objective.num_samples, seed=seed)
    return objective.loss_and_measures(terms)


@pytest.mark.parametrize("per", ["image", "dimension"])
def test_loss_is_the_lagrangian(generic, per):
    terms, z = generic.terms(num_samples=3)
    objective = GECO(SquaredError(0.8, per), kv.objectives.ELBO(num_samples=3), 2.5)
    loss, measures = loss_of(generic, objective)
    squares = numpy_squares(generic, z).mean(axis=0) / {"image": 1, "dimension": 5}[per]
    np.testing.assert_allclose(measures["constraint"], squares - 0.64, **EXACT)
    np.testing.assert_allclose(loss, terms.kl.sum(axis=1) + 2.5 * (squares - 0.64), **EXACT)


def test_kappa_per_dimension_is_the_root_mean_squared_error_of_a_pixel(generic):
    _, z = generic.terms(num_samples=1)
    rmse = np.sqrt(numpy_squares(generic, z).mean() / 5.0)
    constraint = loss_of(generic, GECO(SquaredError(rmse, "dimension")))[1]["constraint"]
    assert np.mean(constraint) == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("target", [7.0, -3.0])
def test_likelihood_constraint(generic, target):
    terms, _ = generic.terms(num_samples=1)
    loss, measures = loss_of(generic, GECO(NegativeLogLikelihood(target), initial_multiplier=2.0))
    np.testing.assert_allclose(measures["constraint"], -terms.log_p_x[0] - target, **EXACT)
    expected = terms.kl.sum(axis=1) + 2.0 * (-terms.log_p_x[0] - target)
    np.testing.assert_allclose(loss, expected, **EXACT)


@pytest.mark.parametrize("num_groups", [1, 2])
def test_importance_weighted_constraint_and_rate(generic, num_groups):
    bound = ImportanceWeighted(5, num_groups=num_groups)
    terms, z = generic.terms(5 * num_groups)
    shape = (5, num_groups, -1)
    log_w = (terms.log_p_x + terms.log_p_z - terms.log_q).reshape(shape)
    v = special.softmax(log_w, axis=0)
    bounds = (special.logsumexp(log_w, axis=0) - np.log(5.0)).mean(axis=0)
    distortion = -(v * terms.log_p_x.reshape(shape)).sum(axis=0).mean(axis=0)
    loss, _ = loss_of(generic, GECO(NegativeLogLikelihood(0.0), bound, 3.0))
    np.testing.assert_allclose(loss, 2.0 * distortion - bounds, **EXACT)
    squares = (v * numpy_squares(generic, z).reshape(shape)).sum(axis=0).mean(axis=0)
    loss, measures = loss_of(generic, GECO(SquaredError(0.8), bound, 3.0))
    np.testing.assert_allclose(measures["constraint"], squares - 0.64, **EXACT)
    np.testing.assert_allclose(loss, -bounds - distortion + 3.0 * (squares - 0.64), **EXACT)


# Gradients.


def loss_and_gradient(case, objective, num_samples, seed=1):
    def loss():
        terms = case.model.compute_terms(tf.constant(case.x), num_samples, seed=seed)
        return tf.reduce_mean(objective.loss(terms))

    return case.loss_and_gradient(loss)


def function(loss):
    """Return an objective that is a plain function of the terms."""
    return type("Function", (), {"loss": staticmethod(loss)})()


def assert_same(case, one, other, num_samples):
    for a, b in zip(
        loss_and_gradient(case, function(one.loss), num_samples),
        loss_and_gradient(case, function(other), num_samples),
        strict=True,
    ):
        np.testing.assert_allclose(a, b, **EXACT)


@pytest.mark.parametrize("constraint", [SquaredError, NegativeLogLikelihood])
def test_importance_weighting_by_one_sample_is_a_sampled_kl(generic, constraint):
    weighted = GECO(constraint(0.8), ImportanceWeighted(1), 3.0)
    plain = GECO(constraint(0.8), initial_multiplier=3.0)

    def sampled(terms):
        kl = tf.reduce_mean(terms.log_q - terms.log_p_z, axis=0)[:, None]
        return plain.loss(terms._replace(kl=kl))

    assert_same(generic, weighted, sampled, 1)


@pytest.mark.parametrize("num_groups", [1, 2])
def test_importance_weighted_gradient_stops_at_the_weights(generic, num_groups):
    def expected(terms):
        shape = [5, num_groups, -1]
        log_w = tf.reshape(terms.log_p_x + terms.log_p_z - terms.log_q, shape)
        weights = tf.exp(log_w) / tf.reduce_sum(tf.exp(log_w), axis=0)
        held = tf.stop_gradient(weights)
        distortion = -tf.reduce_sum(held * tf.reshape(terms.log_p_x, shape), axis=0)
        bound = tf.math.log(tf.reduce_mean(tf.exp(log_w), axis=0))
        return tf.reduce_mean(2.0 * distortion - bound, axis=0)

    bound = ImportanceWeighted(5, num_groups=num_groups)
    geco = GECO(NegativeLogLikelihood(0.0), bound, 3.0)
    assert_same(generic, geco, expected, 5 * num_groups)


class LatentCost(kv.objectives.Constraint):
    """A constraint on log q itself."""

    label = "latent_cost"

    def distance(self, terms):
        return terms.log_q - terms.log_p_z

    def tolerance(self):
        return tf.constant(1.0, tf.float64)


def test_mean_gradient_of_other_estimators(cases):
    # 16 weights, each within 4.5 standard errors, twice: fails by chance once in 4500 seeds.
    truth = cases.truth(num_pixels=3, latent_dim=1)
    found = []
    for estimator in ("reparameterized", "score_function", "sticking_the_landing"):
        keras.utils.set_random_seed(1)
        bound = kv.objectives.ELBO(num_samples=2, estimator=estimator)
        # A distance of x and its mean, and one of log q itself.
        objective = GECO([SquaredError(0.8), LatentCost()], bound, [2.0, 2.0])
        case = cases.with_decoder(truth, truth.sample(3), objective=objective)
        case.model.decoder.trainable = False
        _, gradients = case.sampled(100, copies=100)
        error = gradients.std(axis=0) / np.sqrt(len(gradients))
        found.append((gradients.mean(axis=0), error))
    expected, e = found[0]
    for mean, f in found[1:]:
        assert np.all(np.abs(mean - expected) <= 4.5 * np.hypot(e, f) + 1e-9)
        assert np.any(np.abs(expected) > 10.0 * np.hypot(e, f)), "the test has power"


@pytest.mark.parametrize(
    "bound",
    [
        lambda: ImportanceWeighted(3, "doubly_reparameterized"),
        lambda: ImportanceWeighted(3, "score_function"),
        lambda: ImportanceWeighted(3, elbo_weight=0.5),
        lambda: SquaredError(1.0),
        lambda: "elbo",
    ],
)
def test_bounds_whose_gradient_would_be_wrong_are_refused(bound):
    with pytest.raises(ValueError, match="`bound` must .*Received: bound="):
        GECO(SquaredError(1.0), bound())


# Several constraints, and one's own.


def absolute(x, mean):
    return tf.reduce_sum(tf.abs(x - mean), axis=-1)


def test_several_constraints_add_up(generic):
    terms, z = generic.terms(num_samples=1)
    constraints = [SquaredError(0.8), absolute, SquaredError(2.0), NegativeLogLikelihood(4.0)]
    objective = GECO(constraints, initial_multiplier=[0.5, 1.0, 2.0, 3.0])
    loss, measures = loss_of(generic, objective)
    squares = numpy_squares(generic, z)[0]
    errors = np.abs(generic.x - z[0] @ generic.truth.w.T - generic.truth.b).sum(axis=-1)
    expected = {
        "constraint_squared_error_1": squares - 0.64,
        "constraint_distance": errors,
        "constraint_squared_error_2": squares - 4.0,
        "constraint_negative_log_likelihood": -terms.log_p_x[0] - 4.0,
    }
    assert list(measures) == list(expected) == list(objective.measure_names)
    for name, values in expected.items():
        np.testing.assert_allclose(measures[name], values, **EXACT)
    total = sum(w * c for w, c in zip([0.5, 1.0, 2.0, 3.0], expected.values(), strict=True))
    np.testing.assert_allclose(loss, terms.kl.sum(axis=1) + total, **EXACT)


def test_feature_match_sends_its_gradient_through_frozen_features(generic):
    features = keras.Sequential([keras.Input((5,)), keras.layers.Dense(3, "tanh")])
    constraint = kv.objectives.FeatureMatch(features, kappa=0.5)
    kernel, bias = features.layers[-1].weights
    decoder = generic.model.decoder

    def expected(terms):
        mean = terms.draws.z @ decoder.kernel + decoder.bias
        one, other = (tf.tanh(v @ kernel.value + bias.value) for v in (mean, terms.draws.x))
        distance = tf.reduce_mean(tf.reduce_sum((one - other) ** 2, axis=-1), axis=0)
        return tf.reduce_sum(terms.kl, axis=1) + 2.0 * (distance - 0.25)

    geco = GECO(constraint, kv.objectives.ELBO(num_samples=2), 2.0)
    assert_same(generic, geco, expected, 2)
    assert not constraint.trainable_weights
    constraint.trainable = True  # As `model.trainable = True` does.
    assert not constraint.trainable_weights


@pytest.mark.parametrize("function", [lambda x, mean: absolute(x, mean)[0], lambda x, mean: mean])
def test_a_distance_of_another_shape_is_refused(generic, function):
    with pytest.raises(ValueError, match=r"`constraint` must give a distance of every sample"):
        loss_of(generic, GECO(function))


def test_what_is_no_constraint_or_multiplier_is_refused():
    for given in (SquaredError, 3.0, None, [], [SquaredError(1.0), "x"]):
        with pytest.raises(ValueError, match="`(constraint|initial_multiplier)` must .*Received"):
            GECO(given)
    for given in (0.0, -1.0, np.nan, np.inf, "1", None, True, [1.0, 2.0], []):
        with pytest.raises(ValueError, match="`initial_multiplier` must .*Received"):
            GECO(SquaredError(1.0), initial_multiplier=given)


def test_labels_that_numbers_do_not_keep_apart_are_refused():
    third = LatentCost()
    third.label = "squared_error_1"
    with pytest.raises(ValueError, match="`constraint` must have labels"):
        GECO([SquaredError(1.0), SquaredError(1.0), third])


def test_the_rate_has_the_weight_of_the_bound():
    terms = kv.Terms(
        log_p_x=tf.constant([[-90.0]]),
        log_p_z=tf.constant([[-3.0]]),
        log_q=tf.constant([[-1.0]]),
        kl=tf.constant([[1.5, 0.5]]),
    )
    constraint, bound = kv.objectives.NegativeLogLikelihood(80.0), kv.objectives.ELBO(beta=3.0)
    objective = kv.objectives.GECO(constraint, bound, initial_multiplier=2.0)
    np.testing.assert_allclose(objective.loss(terms), [3.0 * 2.0 + 2.0 * (90.0 - 80.0)])
