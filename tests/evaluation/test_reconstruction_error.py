"""Errors of reconstructions, against formulas written in NumPy and SciPy."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy import signal

import keras_vae as kv

GREY, RGB = (12, 13, 1), (12, 13, 3)


def make(shape=GREY, likelihood=None, posterior=None, **kwargs):
    return kv.VAE(
        encoder=kv.networks.MLPEncoder((6,)),
        decoder=kv.networks.MLPDecoder((likelihood or kv.likelihoods.Normal(shape)).params_shape),
        posterior=posterior or kv.posteriors.DiagonalNormal(2),
        likelihood=likelihood or kv.likelihoods.Normal(shape),
        **kwargs,
    )


def images(shape=GREY, count=7):
    return np.random.default_rng(0).uniform(size=(count, *shape)).astype("float32")


def ssim(x, y, max_value):
    """Return the index of two images `[H, W, C]`, after Wang et al., 2004, eq. 13-16."""
    offsets = np.arange(11) - 5.0
    window = np.exp(-np.square(offsets) / (2.0 * 1.5**2))
    window = np.outer(window, window) / np.sum(np.outer(window, window))
    c1, c2 = (0.01 * max_value) ** 2, (0.03 * max_value) ** 2
    values = []
    for channel in range(x.shape[-1]):
        a, b = (np.float64(image[..., channel]) for image in (x, y))
        mean = lambda image: signal.correlate2d(image, window, mode="valid")  # noqa: E731
        covariance = mean(a * b) - mean(a) * mean(b)
        variances = mean(a * a) - mean(a) ** 2 + mean(b * b) - mean(b) ** 2
        index = (2.0 * mean(a) * mean(b) + c1) * (2.0 * covariance + c2)
        values.append(np.mean(index / ((mean(a) ** 2 + mean(b) ** 2 + c1) * (variances + c2))))
    return np.mean(values)


def check(result, x, mean, max_value=1.0):
    """Check all measures of reconstructions `[N, H, W, C]`."""
    squares = np.square(np.float64(x) - mean).reshape(len(x), -1)
    expected = {
        "sse": squares.sum(axis=1),
        "mse": squares.mean(axis=1),
        "psnr": 10.0 * np.log10(max_value**2 / squares.mean(axis=1)),
        "ssim": [ssim(*pair, max_value) for pair in zip(x, mean, strict=True)],
    }
    for name, values in expected.items():
        estimate = getattr(result, name)
        # tf.image.ssim works in float32.
        close = {"rtol": 1e-4, "atol": 1e-5, "err_msg": name}
        np.testing.assert_allclose(estimate.per_example, values, **close)
        np.testing.assert_allclose(estimate.mean, np.mean(values), **close)
        error = np.std(values, ddof=1) / np.sqrt(len(values))
        np.testing.assert_allclose(estimate.standard_error, error, rtol=1e-3, err_msg=name)


@pytest.mark.parametrize("shape", [GREY, RGB])
def test_measures_at_the_mean_are_those_of_reconstruct(shape):
    model, x = make(shape), images(shape)
    result = kv.evaluation.reconstruction_error(model, x, batch_size=3)
    check(result, x, model.reconstruct(x).numpy())


def test_range_counts_for_psnr_and_ssim_alone():
    tf.config.run_functions_eagerly(True)
    model, x = make(), images()
    check(
        kv.evaluation.reconstruction_error(model, x, max_value=2.0),
        x,
        model.reconstruct(x).numpy(),
        max_value=2.0,
    )


def test_pixels_have_the_range_255():
    likelihood = kv.likelihoods.DiscretizedLogisticMixture(GREY, num_components=2)
    model = make(likelihood=likelihood)
    x = (255.0 * images()).astype("uint8")
    result = kv.evaluation.reconstruction_error(model, x)
    check(result, np.float64(x), model.reconstruct(x).numpy(), max_value=255.0)
    assert result.psnr.mean < 30.0


def fixed_posterior(model, scale):
    """Let q(z|x) be N(0, scale^2) for all x."""
    head = model.posterior_head
    head.loc.set_weights([0.0 * w for w in head.loc.get_weights()])
    kernel, bias = head.raw_scale.get_weights()
    head.raw_scale.set_weights([0.0 * kernel, 0.0 * bias + np.log(np.expm1(scale))])


def test_samples_are_averaged_over_draws_and_have_noise_of_their_own():
    tf.config.run_functions_eagerly(True)
    keras.utils.set_random_seed(1)
    model = kv.VAE(
        encoder=keras.layers.Dense(2),
        decoder=keras.layers.Dense(2, kernel_initializer="identity", use_bias=False),
        posterior=kv.posteriors.DiagonalNormal(2),
        likelihood=kv.likelihoods.Normal((2,)),
    )
    fixed_posterior(model, 0.5)
    x = np.tile([[3.0, -1.0]], (500, 1)).astype("float32")

    def of(num_samples, seed=0):
        return kv.evaluation.reconstruction_error(
            model, x, "sample", num_samples=num_samples, seed=seed
        )

    one, four = of(1), of(4)
    for result in (one, four):
        # E |x - z|^2 = |x|^2 + 2 (0.5 + 1e-4)^2; 4 standard errors: 6.3e-5 for a new seed.
        assert abs(result.sse.mean - 10.5) < 4.0 * result.sse.standard_error + 1e-3
        assert len(np.unique(result.sse.per_example)) > 490
    # Of four draws the error is half as large, to 4 % for 500 examples.
    np.testing.assert_allclose(one.sse.standard_error / four.sse.standard_error, 2.0, rtol=0.2)
    assert np.array_equal(one.sse.per_example, of(1).sse.per_example)
    assert not np.any(one.sse.per_example == of(1, seed=1).sse.per_example)
    # The mean of decibels, not the decibels of the mean, which is more.
    assert four.psnr.mean < -10.0 * np.log10(four.mse.mean) + 0.3
    exact = kv.evaluation.reconstruction_error(model, x)
    np.testing.assert_allclose(exact.sse.mean, 10.0, rtol=1e-6)


@pytest.mark.parametrize(
    "likelihood",
    [
        kv.likelihoods.Normal((10, 20, 1)),  # smaller than the window
        kv.likelihoods.Normal((12, 12, 2)),  # no colours
        kv.likelihoods.Normal((144,)),
        kv.likelihoods.Categorical((12, 12), num_classes=3),
    ],
    ids=["small", "two channels", "vector", "classes"],
)
def test_what_is_no_image_has_no_ssim(likelihood):
    tf.config.run_functions_eagerly(True)
    model = make(likelihood=likelihood)
    x = np.random.default_rng(0).integers(0, 2, (3, *likelihood.shape))
    result = kv.evaluation.reconstruction_error(model, x)
    assert result.ssim is None
    assert np.isfinite(result.psnr.mean)


def test_a_perfect_reconstruction_has_no_error(recwarn):
    tf.config.run_functions_eagerly(True)
    model = kv.VAE(
        encoder=keras.layers.Dense(2, kernel_initializer="identity"),
        decoder=keras.layers.Dense(2, kernel_initializer="identity"),
        posterior=kv.posteriors.DiagonalNormal(2),
        likelihood=kv.likelihoods.Normal((2,)),
    )
    model.posterior_head.loc.set_weights([np.eye(2), np.zeros(2)])
    result = kv.evaluation.reconstruction_error(model, np.ones((3, 2), "float32"))
    assert result.sse.mean == 0.0 and result.psnr.mean == np.inf
    assert not [w for w in recwarn if issubclass(w.category, RuntimeWarning)]


@pytest.mark.full
def test_all_posteriors_and_forms_of_data_work():
    tf.config.run_functions_eagerly(True)
    x = images(count=5)
    data = tf.data.Dataset.from_tensor_slices(x).batch(2)
    flow = kv.posteriors.AutoregressiveFlow(2, num_flows=1, hidden_units=(4,))
    model = make(posterior=flow)
    results = [kv.evaluation.reconstruction_error(model, some, batch_size=2) for some in (x, data)]
    assert results[0].sse.mean == results[1].sse.mean
    model = kv.ConditionalVAE(
        condition=3,
        encoder=kv.networks.MLPEncoder((6,)),
        decoder=kv.networks.MLPDecoder(GREY),
        posterior=kv.posteriors.DiagonalNormal(2),
        likelihood=kv.likelihoods.Normal(GREY),
    )
    y = np.array([0, 1, 2, 2, 0])
    result = kv.evaluation.reconstruction_error(model, (x, y))
    check(result, x, model.reconstruct(x, y).numpy())
    sampled = kv.evaluation.reconstruction_error(model, (x, y), "sample", num_samples=2)
    assert sampled.ssim.per_example.shape == (5,)


def test_bad_input_is_refused():
    model, x = make(), images()

    def refused(match, data=x, model=model, **kwargs):
        with pytest.raises(ValueError, match=match):
            kv.evaluation.reconstruction_error(model, data, **kwargs)

    refused("`at` must be one of", at="mode")
    refused("`num_samples` must be an integer >= 1", at="sample", num_samples=0)
    refused("`num_samples` must be 1 at the mean", num_samples=2)
    refused("`max_value` must be a finite number > 0", max_value=0.0)
    refused("`seed`", seed=-1)
    refused("`batch_size`", batch_size=0)
    refused("`data` must hold at least one", data=x[:0])
    refused("`x` must be finite", data=np.full_like(x, np.nan))
    refused("`x` must have shape", data=x[:, :5])
    refused("`model` must be a VAE", model=keras.Sequential())
