"""How far reconstructions are from the data, by the usual measures for images."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import tensorflow as tf

from keras_vae.core import checks
from keras_vae.evaluation.estimate import Estimate, estimate_of
from keras_vae.evaluation.reading import checked_vae, is_image, map_batches
from keras_vae.models import VAE

AT = ("mean", "sample")
# Width of the Gaussian window of SSIM.
_WINDOW = 11


@dataclasses.dataclass(frozen=True)
class ReconstructionError:
    """The error of reconstructions over examples, in units of x.

    Attributes:
        sse: Squared error, summed over the elements of an example.
        mse: Squared error, averaged over the elements of an example.
        psnr: Peak signal-to-noise ratio in dB; infinite if a reconstruction is perfect.
        ssim: Structural similarity, at most 1; None unless x is a grey or RGB image of at least
            11 x 11 pixels, which is the size of its window.
    """

    sse: Estimate
    mse: Estimate
    psnr: Estimate
    ssim: Estimate | None


def reconstruction_error(
    model: Any,
    data: Any,
    at: str = "mean",
    *,
    num_samples: int = 1,
    max_value: float | None = None,
    seed: int = 0,
    batch_size: int = 128,
    verbose: bool = True,
) -> ReconstructionError:
    """Measures how far the means of p(x|z) are from the data.

    sse = sum_e (x_e - xhat_e)^2,  mse = sse / E,  psnr = 10 log10(max_value^2 / mse)
    ssim = mean over windows of (2 m m' + c1) (2 cov + c2) / ((m^2 + m'^2 + c1) (v + v' + c2))

    xhat is the mean of p(x|z), at the mean of q(z|x) or at draws z ~ q(z|x). m, v and cov are the
    means, variances and covariance of x and xhat under a Gaussian window of 11 x 11 pixels with
    sigma = 1.5 inside the image, c1 = (0.01 max_value)^2 and c2 = (0.03 max_value)^2; for RGB
    images, ssim is the mean over the channels. The measures are computed for each example and then
    averaged.

    Args:
        model: A `VAE`.
        data: Array `[N, *E]`, or dataset of batches as `fit` takes it.
        at: `"mean"` of q(z|x), or `"sample"`.
        num_samples: With `"sample"`, draws of z for every x, over which the measures are averaged.
        max_value: Range of the data, for PSNR and SSIM; by default, 255 for pixels 0..255, and 1
            for everything else.
        seed: Integer >= 0.
        batch_size: Number of examples to process at once, if `data` is an array.
        verbose: Whether to show progress if it takes long.

    Returns:
        A `ReconstructionError`, whose standard errors are over the examples.

    Raises:
        ValueError: If an argument is out of range, the model is not built, or the data are empty or
            have no density.

    Example:
        >>> import keras_vae as kv
        >>> model = kv.VAE(
        ...     encoder=kv.networks.MLPEncoder((32,)),
        ...     decoder=kv.networks.MLPDecoder((8, 8, 1), (32,)),
        ...     posterior=kv.posteriors.DiagonalNormal(2),
        ...     likelihood=kv.likelihoods.Bernoulli((8, 8, 1)))
        >>> error = reconstruction_error(model, tf.zeros([64, 8, 8, 1]))
        >>> round(error.sse.mean / error.mse.mean)
        64

    References:
        Rezende and Viola, 2018, arXiv:1810.00597 (the summed error); Wang et al., 2004, eq. 13,
        "Image quality assessment: from error visibility to structural similarity".
    """
    model = checked_vae(model)
    at = checks.option("at", at, AT)
    num_samples = checks.count("num_samples", num_samples)
    if at == "mean" and num_samples != 1:
        raise checks.invalid("num_samples", "must be 1 at the mean of q(z|x)", num_samples)
    if max_value is None:
        max_value = _range_of(model)
    max_value = checks.number("max_value", max_value, 0.0, exclusive=True)

    def measures(x: tf.Tensor, y: Any, seed: tf.Tensor) -> tf.Tensor:
        q = model.encode(x, y)
        if at == "mean":
            return _measures(model, x, model.posterior_head.mean(q), y, max_value)
        z = q.sample(num_samples, seed=seed)  # [S, B, D]
        # One draw at a time, as it is the decoded images that take memory.
        each = tf.map_fn(
            lambda draw: _measures(model, x, draw, y, max_value),
            z,
            fn_output_signature=tf.float64,
            parallel_iterations=1,
        )
        return tf.reduce_mean(each, axis=0)

    parts = list(map_batches(measures, model, data, batch_size, seed, verbose))
    with np.errstate(invalid="ignore"):  # The PSNR of a perfect reconstruction is infinite.
        sse, mse, psnr, *ssim = (estimate_of(list(each)) for each in zip(*parts, strict=True))
    return ReconstructionError(sse, mse, psnr, ssim[0] if ssim else None)


def _range_of(model: VAE) -> float:
    """Returns the range of bounded data if it is larger than one, and otherwise 1."""
    support = model.likelihood_head.support
    width = support.high - support.low
    return width if 1.0 < width < math.inf else 1.0


def _measures(model: VAE, x: tf.Tensor, z: tf.Tensor, y: Any, max_value: float) -> tf.Tensor:
    """Returns three or four measures, `[3 | 4, B]`, of the mean of p(x|z) for z `[B, D]`."""
    mean = model.decode(z, y).mean()
    difference = tf.cast(x, tf.float64) - tf.cast(mean, tf.float64)
    squares = tf.reshape(tf.square(difference), [-1, math.prod(x.shape[1:])])
    sse, mse = tf.reduce_sum(squares, axis=-1), tf.reduce_mean(squares, axis=-1)
    psnr = 10.0 / math.log(10.0) * (2.0 * math.log(max_value) - tf.math.log(mse))
    measures = [sse, mse, psnr]
    if _is_image(model):
        # It is computed in float32, whatever the dtype of the images.
        ssim = tf.image.ssim(x, mean, max_value, filter_size=_WINDOW)
        measures.append(tf.cast(ssim, tf.float64))
    return tf.stack(measures)


def _is_image(model: VAE) -> bool:
    """Returns whether x is an image that is large enough for the window of SSIM."""
    return is_image(model) and min(model.likelihood_head.shape[:2]) >= _WINDOW
