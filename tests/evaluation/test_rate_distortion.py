"""Rate-distortion curves: which models are dominated, what is drawn and what is refused."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_vae as kv

DATA = np.random.default_rng(0).normal(size=(30, 4)).astype("float32")


class Known(kv.LatentVariableModel):
    """A model whose rates and distortions are given, and vary with x alone."""

    def __init__(self, rate, distortion, **kwargs):
        super().__init__(**kwargs)
        self.rate, self.distortion = rate, distortion

    def standardize(self, x, y=None):
        return tf.convert_to_tensor(x), None

    def check_support(self, x, y=None):
        return x, y

    def compute_terms(self, x, num_samples=1, training=False, seed=0, y=None):
        spread = x[:, 0] - tf.constant(np.mean(DATA[:, 0]))
        densities = tf.repeat(-self.distortion - spread[None], num_samples, axis=0)
        kl = (self.rate + 2.0 * spread)[:, None]
        return kv.Terms(densities, densities, densities, kl)


def curve_of(*points, **kwargs):
    models = {float(beta): Known(*point) for beta, point in enumerate(points, start=1)}
    return kv.evaluation.rate_distortion(models, DATA, **kwargs)


def make_vae(likelihood=None):
    return kv.VAE(
        encoder=keras.layers.Dense(6),
        decoder=keras.layers.Dense(4),
        posterior=kv.posteriors.DiagonalNormal(2),
        likelihood=likelihood or kv.likelihoods.Normal((4,)),
    )


def test_means_and_errors_are_those_over_the_examples():
    curve = curve_of((5.0, 20.0), batch_size=8)
    spread = np.std(DATA[:, 0], ddof=1) / np.sqrt(30.0)
    np.testing.assert_allclose(curve.rates, 5.0, rtol=1e-5)
    np.testing.assert_allclose(curve.distortions, 20.0, rtol=1e-5)
    np.testing.assert_allclose(curve.elbos, -25.0, rtol=1e-5)
    np.testing.assert_allclose(curve.rate_errors, 2.0 * spread, rtol=1e-5)
    np.testing.assert_allclose(curve.distortion_errors, spread, rtol=1e-5)
    # Rate and distortion of an example are not independent.
    np.testing.assert_allclose(curve.elbo_errors, 3.0 * spread, rtol=1e-5)


def test_models_are_in_the_order_of_beta():
    tf.config.run_functions_eagerly(True)
    models = {4.0: Known(1.0, 9.0), 0.5: Known(5.0, 3.0), 2: Known(2.0, 6.0)}
    curve = kv.evaluation.rate_distortion(models, DATA)
    assert curve.betas.tolist() == [0.5, 2.0, 4.0]
    np.testing.assert_allclose(curve.rates, [5.0, 2.0, 1.0], rtol=1e-5)
    np.testing.assert_allclose(curve.distortions, [3.0, 6.0, 9.0], rtol=1e-5)


@pytest.mark.parametrize(
    ("points", "dominated"),
    [
        ([(1, 9), (2, 5), (5, 3)], [False, False, False]),
        ([(1, 9), (2, 5), (3, 6)], [False, False, True]),  # by the second, in both
        ([(1, 9), (1, 5)], [True, False]),  # the same rate
        ([(2, 5), (3, 5)], [False, True]),  # the same distortion
        ([(2, 5), (2, 5)], [False, False]),  # the same model twice
        ([(3, 5), (1, 8)], [False, False]),  # a better ELBO alone does not dominate
    ],
)
def test_a_model_is_dominated_by_one_that_has_less_of_one_and_no_more_of_the_other(
    points, dominated
):
    tf.config.run_functions_eagerly(True)
    assert curve_of(*points).dominated.tolist() == dominated


@pytest.mark.full
def test_a_vae_has_the_rate_of_mean_kl_and_the_noise_of_the_seed():
    models = {1.0: make_vae()}
    tf.config.run_functions_eagerly(True)
    one, same, other = (
        kv.evaluation.rate_distortion(models, DATA, seed=seed, num_samples=4) for seed in (1, 1, 2)
    )
    rate = kv.evaluation.mean_kl(models[1.0], DATA)
    np.testing.assert_allclose(one.rates[0], rate.mean, rtol=1e-5)
    np.testing.assert_allclose(one.rate_errors[0], rate.standard_error, rtol=1e-5)
    assert one.distortions == same.distortions != other.distortions


def test_the_figure_shows_every_model_the_frontier_and_lines_of_equal_elbo():
    tf.config.run_functions_eagerly(True)
    curve = curve_of((1.0, 90.0), (9.0, 50.0), (30.0, 30.0), (32.0, 60.0))
    (axes,) = curve.plot().get_axes()
    assert "rate" in axes.get_xlabel() and "nats" in axes.get_xlabel()
    assert "distortion" in axes.get_ylabel() and "nats" in axes.get_ylabel()
    labels = [text.get_text() for text in axes.texts]
    assert {"β = 1", "β = 2", "β = 3", "β = 4"} <= set(labels)
    frontier, *others = axes.get_lines()
    np.testing.assert_allclose(frontier.get_xdata(), [1.0, 9.0, 30.0], rtol=1e-4)
    equal = [line for line in others if np.ptp(np.sum(line.get_data(), axis=0)) < 1e-6]
    assert len(equal) >= 3
    told = {float(label) for label in labels if not label.startswith("β")}
    # But for those that enter the axes in a corner.
    assert len(told) >= len(equal) - 2
    assert told <= {-round(float(line.get_xdata()[0] + line.get_ydata()[0]), 9) for line in equal}
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    assert left < 1.0 and right > 32.0 and bottom < 30.0 and top > 90.0
    faces = axes.collections[-1].get_facecolors()
    assert np.all(faces[3] == 1.0) and not np.all(faces[0] == 1.0)  # the dominated one is hollow


def test_a_single_model_can_be_drawn():
    tf.config.run_functions_eagerly(True)
    assert len(curve_of((1.0, 2.0)).plot().get_axes()) == 1


def test_bad_input_is_refused():
    def refused(match, models, data=DATA, **kwargs):
        with pytest.raises(ValueError, match=match):
            kv.evaluation.rate_distortion(models, data, **kwargs)

    good = {1.0: make_vae()}
    refused("`models` must map", {})
    refused("`models` must map", [make_vae()])
    refused("`models` must be a finite number", {"one": make_vae()})
    refused("`models` must be a finite number >= 0", {-1.0: make_vae()})
    refused("`model` must be a LatentVariableModel", {1.0: keras.Sequential()})
    other = make_vae(kv.likelihoods.Bernoulli((4,)))
    refused("`models` must have one kind of p", {**good, 2.0: other})
    refused("`data` must be .* to be read more than once", good, data=iter([DATA]))
    refused("`data` must hold at least one", good, data=DATA[:0])
    refused("`x` must be finite", good, data=np.full((2, 4), np.nan, "float32"))
    refused("`num_samples`", good, num_samples=0)
    refused("`seed`", good, seed=-1)
    refused("`batch_size`", good, batch_size=0)
