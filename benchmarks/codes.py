"""Codes: VQ-VAEs on MNIST and CIFAR-10, beside the published numbers.

Rows of digits, in the networks of Keras's VQ-VAE example (7x7 codes of 128, 16 dimensions):

    mnist                   grey digits, normal with the standard deviation of the data
    mnist_binary            digits binarized anew in every epoch, a Bernoulli likelihood
    mnist_binary_4x4        the same with 4x4 codes of 256, in larger networks

and of CIFAR-10, in those of Sonnet's VQ-VAE notebook (40,000 images, 8x8 codes of 512, 64
dimensions, 10,000 steps of 32), normal with the standard deviation of the data:

    cifar_vq                one codebook
    cifar_residual          three codebooks of 8 codes: as many bits
    cifar_fsq               8, 8 and 8 levels: as many bits
    cifar_..._third         3 passes in place of 8, of the three above and these:
    cifar_vq_no_restarts_third      codes that never begin anew
    cifar_vq_large_third, cifar_vq_large_no_restarts_third      the same two with 8,192 codes
    cifar_hierarchy         VQ-VAE-2: 4x4 codes over 8x8, 512 each, a discretized logistic mixture

Rows of digits and of the hierarchy go on with a prior over their codes, which is trained on the
codes of the training data. Rows of the Taming-VAEs report on CIFAR-10, for the plane of rate and
distortion: a convolutional VAE of 8x8x8 latent variables, normal with scale 1,

    taming_vae, taming_half     beta = 1 and beta = 0.5
    taming_58, taming_11        GECO, with squared errors of draws of z of at most 57.97 and 15; the
                                latter for about 11.44 at the mean, with lambda <= 50

    python -m benchmarks.codes --rows mnist

MSE / variance is the mean squared error of reconstructions, of the training data and of held-out
data, divided by the variance of the training data. Perplexity is that of a batch of the size of
training, as published, and that of all held-out codes; in use are the codes that occur in the
latter. The rate is that of the model: of codes -log p(z), uniform and of the fitted prior, else the
mean KL. The squared error is that of an image, at the mean of q(z|x), in units of [0, 1]. Models
and logs go to `runs/codes`, results to `benchmarks/results/codes.json` and `.md`. A row that was
interrupted goes on when it is run again.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import math
from collections.abc import Callable, Mapping
from typing import Any

import keras
import tensorflow as tf

import keras_vae as kv
from benchmarks import published, records
from benchmarks.code_judges import Stage, judge
from benchmarks.rows import Data, Recipe, Row

DIGIT, COLOUR = (28, 28, 1), (32, 32, 3)
# Variances of all elements of the training data, in [0, 1].
DIGIT_VARIANCE, COLOUR_VARIANCE = 0.09493, 0.06327
# Weight of the commitment where it is a mean, beside a mean squared error over the variance.
COMMITMENT = 0.25

Parts = dict[str, Any]


def commitment(shape: tuple[int, ...], elements: int) -> float:
    """Returns the weight of a sum of so many elements, beside a log-density of such data."""
    return COMMITMENT * math.prod(shape) / (2 * elements)


def example_networks(likelihood: kv.likelihoods.Likelihood) -> Parts:
    """Returns the networks of Keras's example, between digits and maps of 7x7."""
    convolution = functools.partial(keras.layers.Conv2D, padding="same", activation="relu")
    transposed = functools.partial(keras.layers.Conv2DTranspose, padding="same", activation="relu")
    last = keras.layers.Conv2DTranspose(1, 3, padding="same", use_bias=False)
    return {
        "encoder": keras.Sequential([convolution(32, 3, strides=2), convolution(64, 3, strides=2)]),
        "decoder": keras.Sequential(
            [
                transposed(64, 3, strides=2),
                transposed(32, 3, strides=2),
                last,
                kv.networks.OutputBias(),
            ]
        ),
        "likelihood": likelihood,
    }


def digits(likelihood: Callable[[], kv.likelihoods.Likelihood]) -> Parts:
    """Returns the arguments of `kv.VQVAE` for digits in the networks of Keras's example."""
    return {
        **example_networks(likelihood()),
        "posterior": kv.posteriors.VectorQuantizer((7, 7), 128, 16),
        "commitment": commitment(DIGIT, 7 * 7 * 16),
    }


def small_maps() -> Parts:
    """Returns the arguments of `kv.VQVAE` for binary digits of 4x4 codes."""
    return {
        "encoder": kv.networks.MapEncoder((32, 64, 128)),
        "decoder": kv.networks.MapDecoder(DIGIT, (128, 64, 32)),
        "likelihood": kv.likelihoods.Bernoulli(DIGIT),
        "posterior": kv.posteriors.VectorQuantizer((4, 4), 256, 16),
        "commitment": commitment(DIGIT, 4 * 4 * 16),
    }


def colours(posterior: Callable[[], kv.posteriors.Quantizer], dims: int) -> Parts:
    """Returns the arguments of `kv.VQVAE` for CIFAR-10 in the networks of Sonnet's notebook."""
    return {
        "encoder": kv.networks.MapEncoder((64, 128)),
        "decoder": kv.networks.MapDecoder(COLOUR, (128, 64)),
        "likelihood": kv.likelihoods.Normal(COLOUR, scale=math.sqrt(COLOUR_VARIANCE)),
        "posterior": posterior(),
        "commitment": commitment(COLOUR, 8 * 8 * dims),
    }


def hierarchy() -> Parts:
    """Returns the arguments of `kv.VQVAE` for two maps of codes of CIFAR-10, a VQ-VAE-2."""
    likelihood = kv.likelihoods.DiscretizedLogisticMixture(COLOUR, num_components=5)
    quantizer = functools.partial(kv.posteriors.VectorQuantizer, codebook_size=512, code_dim=64)
    return {
        "encoder": kv.networks.MapEncoder((64, 128)),
        "decoder": kv.networks.MapDecoder(likelihood.params_shape, (128, 64)),
        "likelihood": likelihood,
        "posterior": kv.posteriors.QuantizerHierarchy(quantizer((4, 4)), quantizer((8, 8))),
        "commitment": commitment(COLOUR, (4 * 4 + 8 * 8) * 64),
    }


def normal_maps(objective: Callable[[], kv.objectives.Objective]) -> Parts:
    """Returns the arguments of `kv.VAE` for CIFAR-10 and 8x8x8 latent variables."""
    likelihood = kv.likelihoods.Normal(COLOUR, scale=1.0)
    decoder = kv.networks.MapDecoder(likelihood.params_shape, (128, 64))
    narrow = keras.layers.Conv2D(16, 1)
    return {
        "encoder": keras.Sequential([kv.networks.MapEncoder((64, 128)), narrow]),
        "decoder": keras.Sequential([keras.layers.Reshape((8, 8, 8)), decoder]),
        "likelihood": likelihood,
        "posterior": kv.posteriors.DiagonalNormal(8 * 8 * 8),
        "objective": objective(),
    }


def _recipe(passes: int, batch_size: int, learning_rate: float) -> Recipe:
    return Recipe(
        passes,
        batch_size,
        optimizer="adam",
        learning_rate=learning_rate,
        cycle=False,
        epsilon=1e-7,
        kl_warmup=0.0,
    )


@dataclasses.dataclass(frozen=True)
class FirstImages(Data):
    """Data whose training split is what comes first, as in Sonnet's notebook.

    Attributes:
        first: Number of images to train on.
    """

    first: int = 40_000

    def load(self, split: str, batch_size: int, **options: Any) -> tf.data.Dataset:
        """Returns batches."""
        split = f"train[:{self.first}]" if split == "train" else split
        return super().load(split, batch_size, **options)


_GREY, _BINARY, _COLOUR = Data(binarize=None), Data(), FirstImages("cifar10", None)
_WHOLE = Data("cifar10", None, {"dtype": "uint8"})


def _taming(
    label: str,
    objective: Callable[[], kv.objectives.Objective],
    sse: float,
    rate: float,
    **options: Any,
) -> Row:
    made = functools.partial(normal_maps, objective)
    geco = {"GECO": options} if label.startswith("GECO") else {}
    given = {"sse": sse, "rate": rate}
    recipe = _recipe(12, 128, 1e-3)
    return Row(f"CIFAR-10, {label}", made, recipe, given, _COLOUR, geco, bias_of_data=False)


def _geco(sse: float, multiplier: float = 1.0) -> Callable[[], kv.objectives.Objective]:
    constraint = functools.partial(kv.objectives.SquaredError, math.sqrt(sse))
    return lambda: kv.objectives.GECO(constraint(), initial_multiplier=multiplier)


def _row(label: str, parts: Callable[[], Parts], recipe: Recipe, data: Data, **given: Any) -> Row:
    return Row(label, parts, recipe, given, data, bias_of_data=False, model=kv.VQVAE)


def _of_digits(label: str, parts: Callable[[], Parts], data: Data, **given: Any) -> Row:
    return _row(label, parts, _recipe(30, 128, 1e-3), data, **given)


_QUANTIZERS: dict[str, tuple[str, Callable[[], kv.posteriors.Quantizer], int]] = {
    "vq": ("512 codes", lambda: kv.posteriors.VectorQuantizer((8, 8), 512, 64), 64),
    "vq_no_restarts": (
        "512 codes, no restarts",
        lambda: kv.posteriors.VectorQuantizer((8, 8), 512, 64, restart_below=0.0),
        64,
    ),
    "vq_large": ("8,192 codes", lambda: kv.posteriors.VectorQuantizer((8, 8), 8192, 64), 64),
    "vq_large_no_restarts": (
        "8,192 codes, no restarts",
        lambda: kv.posteriors.VectorQuantizer((8, 8), 8192, 64, restart_below=0.0),
        64,
    ),
    "residual": (
        "residual, 3 x 8 codes",
        lambda: kv.posteriors.ResidualQuantizer((8, 8), 3, 8, 64),
        64,
    ),
    "fsq": ("FSQ, 8 x 8 x 8 levels", lambda: kv.posteriors.FSQ((8, 8), (8, 8, 8)), 3),
}
_SONNET = {"mse_over_variance": 0.056, "perplexity": 326}
ROWS = {
    "mnist": _of_digits(
        "MNIST, 128 codes",
        lambda: digits(lambda: kv.likelihoods.Normal(DIGIT, math.sqrt(DIGIT_VARIANCE))),
        _GREY,
        mse_over_variance=0.0444,
    ),
    "mnist_binary": _of_digits(
        "binary MNIST, 7x7 of 128 codes",
        lambda: digits(lambda: kv.likelihoods.Bernoulli(DIGIT)),
        _BINARY,
    ),
    "mnist_binary_4x4": _of_digits("binary MNIST, 4x4 of 256 codes", small_maps, _BINARY),
}
_LENGTHS = {"": 8, "_third": 3}
_IN_FULL = ("vq", "residual", "fsq")
for _name, (_label, _made, _dims) in _QUANTIZERS.items():
    for _end, _passes in _LENGTHS.items():
        if _name in _IN_FULL or _end:
            ROWS[f"cifar_{_name}{_end}"] = _row(
                f"CIFAR-10, {_label}" + (f", {_passes} passes" if _end else ""),
                functools.partial(colours, _made, _dims),
                _recipe(_passes, 32, 3e-4),
                _COLOUR,
                **(_SONNET if _name == "vq" and not _end else {}),
            )
ROWS["cifar_hierarchy"] = _row(
    "CIFAR-10, 4x4 over 8x8 of 512 codes", hierarchy, _recipe(6, 64, 3e-4), _WHOLE
)
ROWS |= {
    "taming_vae": _taming("VAE", lambda: kv.objectives.ELBO(), 77.66, 31.97),
    "taming_half": _taming("beta = 0.5", lambda: kv.objectives.ELBO(0.5), 57.97, 59.50),
    "taming_58": _taming("GECO, 57.97", _geco(57.97), 57.97, 59.50),
    "taming_11": _taming("GECO, 15", _geco(15.0, 5.0), 11.44, 383.08, bounds=(1e-6, 50.0)),
}


def digit_prior() -> kv.priors.Prior:
    """Returns a prior over maps of 7x7 codes of digits."""
    return kv.priors.PixelCNN((7, 7), 128, filters=32, num_layers=6)


def small_digit_prior() -> kv.priors.Prior:
    """Returns a prior over maps of 4x4 codes of digits."""
    return kv.priors.PixelCNN((4, 4), 256, filters=32, num_layers=4)


def colour_prior() -> kv.priors.Prior:
    """Returns a prior over 4x4 codes, and 8x8 codes given those."""
    top = kv.priors.PixelSNAIL((4, 4), 512, filters=32, num_blocks=1)
    bottom = kv.priors.PixelSNAIL((8, 8), 512, filters=32, num_blocks=2)
    return kv.priors.Hierarchy(top=top, bottom=bottom)


PRIORS = {
    "mnist": Stage(digit_prior),
    "mnist_binary": Stage(digit_prior),
    "mnist_binary_4x4": Stage(small_digit_prior),
    "cifar_hierarchy": Stage(colour_prior, passes=6),
}


NOTE = (
    "Published for MNIST is Keras's example, for CIFAR-10 Sonnet's notebook, both at the end of "
    "the training and on what is trained on; squared errors and rates are those of the Taming-VAEs "
    "report, whose test data were the training data. The VAE of van den Oord et al. has 4.51 "
    "bits/dim, their VQ-VAE 4.67."
)


def table(rows: Mapping[str, Mapping[str, Any]]) -> str:
    """Returns the table, published / here."""
    heads = ["model", "MSE / variance published", "training data", "held out"]
    heads += ["perplexity published", "of a batch", "of all codes", "in use"]
    heads += ["squared error published", "held out", "rate published", "held out", "-ELBO"]
    heads += ["rate of the fitted prior", "nats a code", "-ELBO", "bits/dim"]
    heads += ["passes", "time", "examples/s", "processor"]
    body = [_line(ROWS[name], rows[name]) for name in ROWS if name in rows]
    return published.markdown(heads, body, rows, NOTE)


def _line(row: Row, seeds: Mapping[str, Mapping[str, Any]]) -> list[str]:
    found, given = next(iter(seeds.values())), row.published
    fitted = found.get("prior", {})

    def number(value: float | None, digits: int) -> str:
        return "" if value is None else f"{value:.{digits}f}"

    return [
        published.label(row, seeds),
        str(given.get("mse_over_variance", "")),
        records.spread(dict(seeds), "train_mse_over_variance", 4),
        records.spread(dict(seeds), "test_mse_over_variance", 4),
        str(given.get("perplexity", "")),
        number(found.get("batch_perplexity"), 0),
        ", ".join(f"{value:.0f}" for value in found.get("perplexity", [])),
        ", ".join(f"{value:.1%}" for value in found.get("usage", [])),
        str(given.get("sse", "")),
        records.spread(dict(seeds), "test_sse"),
        str(given.get("rate", "")),
        number(found["test"]["kl"], 1),
        number(-found["test"]["elbo"], 1),
        number(fitted.get("kl"), 1),
        number(fitted.get("nats_per_code"), 3),
        number(-fitted["elbo"] if fitted else None, 1),
        number(fitted.get("bits_per_dim"), 2),
        *published.costs(seeds),
    ]


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    """Runs the rows and returns the results of all so far, by row and seed."""
    parser = published.parser(__doc__, "codes", ROWS)
    parser.add_argument("--prior-passes", type=int, help="of the priors, in place of theirs")
    parser.set_defaults(num_samples=1)  # More say no more.
    args = published.parse(parser, arguments)
    rows: dict[str, Any] = {}
    for seed in args.seeds:
        for name in args.rows:
            judged = functools.partial(
                judge, ROWS[name], PRIORS.get(name), args.runs / f"{name}_seed_{seed}"
            )
            only = argparse.Namespace(**{**vars(args), "rows": [name], "seeds": [seed]})
            rows = published.run(ROWS, judged, only)
    return records.finish(rows, table(rows), args.results)


if __name__ == "__main__":
    main()
