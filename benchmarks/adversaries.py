"""Compares samples and reconstructions of adversarial models and of VAEs with equal networks.

Rows, all with the encoder and the decoder of `examples/mnist_5k.py`, on grey digits:

    vae         VAE, Bernoulli likelihood
    vae_long    the same for as long as `vae_gan` took, once that is done
    vae_prior   the same as `vae`, with a fitted prior
    vae_gan     VAE-GAN: features of a discriminator in place of pixels
    hinge       Laplace likelihood and a small KL, and a patch discriminator with a constant weight
    adaptive    the same with the adaptive weight, as in the autoencoders of latent diffusion
    wae_mmd     Wasserstein autoencoder with an MMD
    aae         adversarial autoencoder

    python examples/train_classifier.py --data mnist
    python -m benchmarks.adversaries --rows vae vae_gan vae_long vae_prior --seeds 0 1 2
    python -m benchmarks.adversaries --rows hinge adaptive wae_mmd aae --seeds 0

A mixture of Gaussians is fitted afterwards as the prior of `vae_prior`, `hinge` and `adaptive`.
Distances are those of held-out digits to as many samples, by the features of `--classifier`, and of
a second network where `--second` names the file of one. Results go to
`benchmarks/results/adversaries.json` and `.md`, models and logs to `runs/adversaries`. A training
that was interrupted goes on after its last epoch; a row that is done is not repeated.
"""

from __future__ import annotations

import argparse
import pathlib
import statistics
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

import keras_vae as kv
from benchmarks import records, training

IMAGE, LATENT_DIM = (28, 28, 1), 16
Adam = keras.optimizers.Adam


def _model(likelihood: Any, objective: Any, seed: int) -> kv.VAE:
    return kv.VAE(
        encoder=kv.networks.ConvEncoder(),
        decoder=kv.networks.ConvDecoder(IMAGE),
        posterior=kv.posteriors.DiagonalNormal(LATENT_DIM),
        likelihood=likelihood,
        objective=objective,
        seed=seed,
    )


def _by_part(model: kv.VAE, rate: float = 3e-4, **options: Any) -> Any:
    adversary = Adam(rate, beta_1=0.5)
    own = {"default": Adam(1e-3, beta_1=0.5), "discriminator": adversary}
    return kv.optimizers.by_part(model, **own, **options)


def vae(seed: int, steps: int) -> kv.VAE:
    """Makes a VAE."""
    model = _model(kv.likelihoods.Bernoulli(IMAGE), kv.objectives.ELBO(), seed)
    model.compile(Adam(keras.optimizers.schedules.CosineDecay(1e-3, steps)))
    return model


def vae_gan(seed: int, steps: int) -> kv.VAE:
    """Makes a VAE-GAN."""
    discriminator = kv.networks.ConvDiscriminator()
    objective = kv.objectives.LearnedSimilarity(discriminator)
    model = _model(kv.likelihoods.Bernoulli(IMAGE), objective, seed)
    model.compile(_by_part(model))
    return model


def autoencoder(seed: int, steps: int, adaptive: bool) -> kv.VAE:
    """Makes an autoencoder with a small KL, an absolute error and a patch discriminator."""
    start = steps // 10
    objective = kv.objectives.Adversarial(
        kv.objectives.ELBO(beta=0.1),
        kv.networks.PatchDiscriminator(),
        weight=0.5 if adaptive else 20.0,
        adaptive=adaptive,
        weight_start=2 * start,
    )
    model = _model(kv.likelihoods.Laplace(IMAGE, 0.1), objective, seed)
    model.compile(_by_part(model, start={"discriminator": start}))
    return model


def wae_mmd(seed: int, steps: int) -> kv.VAE:
    """Makes a Wasserstein autoencoder with an MMD."""
    # With ten times the weight, z stays that of the prior for every x.
    objective = kv.objectives.InfoVAE(alpha=1.0, lambda_=10.0, kernel="imq")
    model = _model(kv.likelihoods.Bernoulli(IMAGE), objective, seed)
    model.compile(Adam(1e-3))
    return model


def aae(seed: int, steps: int) -> kv.VAE:
    """Makes an adversarial autoencoder."""
    layers = [keras.layers.Dense(256, "leaky_relu") for _ in range(2)]
    critic = keras.Sequential([*layers, keras.layers.Dense(1)])
    objective = kv.objectives.AdversarialPosterior(critic, weight=10.0)
    model = _model(kv.likelihoods.Bernoulli(IMAGE), objective, seed)
    model.compile(_by_part(model))
    return model


ROWS: dict[str, Callable[[int, int], kv.VAE]] = {
    "vae": vae,
    "vae_gan": vae_gan,
    "vae_long": vae,
    "vae_prior": vae,
    "hinge": lambda seed, steps: autoencoder(seed, steps, adaptive=False),
    "adaptive": lambda seed, steps: autoencoder(seed, steps, adaptive=True),
    "wae_mmd": wae_mmd,
    "aae": aae,
}
FITTED = ("vae_prior", "hinge", "adaptive")
COLUMNS = {
    "seconds": ("s", 0),
    "frechet_samples": ("Fréchet, samples", 2),
    "frechet_draws": ("draws", 2),
    "frechet_reconstructions": ("reconstructions", 2),
    "kernel_samples": ("kernel distance, samples", 3),
    "kernel_draws": ("draws", 3),
    "coverage_samples": ("coverage, samples", 3),
    "coverage_draws": ("draws", 3),
    "second_frechet_samples": ("second network: Fréchet, samples", 2),
    "second_frechet_draws": ("draws", 2),
    "second_kernel_samples": ("kernel distance, samples", 3),
    "second_kernel_draws": ("draws", 3),
    "second_coverage_samples": ("coverage, samples", 3),
    "second_coverage_draws": ("draws", 3),
    "squared_error": ("squared error", 2),
    "log_likelihood": ("log p(x), pixel model", 1),
}


def train(name: str, seed: int, epochs: int, args: argparse.Namespace) -> tuple[kv.VAE, float]:
    """Trains to the last epoch, from where it is, and returns the seconds as well.

    They are those of the median epoch, for all: an epoch may have been interrupted or held up.
    """
    folder = args.runs / f"{name}_{epochs}_epochs_seed_{seed}"

    def load(done: int) -> Any:
        options = {"batch_size": args.batch_size, "seed": seed, "initial_epoch": done}
        return kv.data.load(args.data, args.train, **options)

    def build(steps: int) -> kv.VAE:
        keras.utils.set_random_seed(seed)
        model = ROWS[name](seed, steps)
        model.initialize_output_bias(kv.data.load(args.data, args.train, shuffle=False))
        return model

    model = training.fit(folder, build, load, epochs)
    return model, epochs * statistics.median(line["seconds"] for line in training.logs(folder))


def epochs_of(name: str, seed: int, args: argparse.Namespace) -> int:
    """Returns the passes of a row: for `vae_long`, as many as fit in the time of `vae_gan`."""
    if name != "vae_long":
        return args.epochs
    rows = records.read(args.results)["rows"]
    missing = [row for row in ("vae", "vae_gan") if str(seed) not in rows.get(row, {})]
    if missing:
        raise SystemExit(f"vae_long needs the rows {missing} of seed {seed} first")
    short, long = (rows[row][str(seed)]["seconds"] for row in ("vae", "vae_gan"))
    return max(args.epochs, round(args.epochs * long / short))


def judge(name: str, model: kv.VAE, digits: np.ndarray, args: argparse.Namespace) -> dict[str, Any]:
    """Measures images and density on held-out digits."""
    if name in FITTED:
        data = kv.data.load(args.data, args.train, 500, shuffle=False)
        prior = kv.priors.MixtureOfNormals(LATENT_DIM, 50, covariance="full")
        model = model.with_prior(kv.evaluation.fit_prior(model, data, prior))
    extract = kv.evaluation.classifier_features(str(args.classifier))
    made = {
        "samples": batches(lambda seed, n: model.sample(n, seed=seed), len(digits)),
        "draws": batches(lambda seed, n: model.sample(n, seed=seed, mean=False), len(digits)),
    }
    reconstructions = batches(
        lambda at, n: model.reconstruct(digits[500 * at : 500 * at + n]), len(digits)
    )
    measured = {
        **distances(digits, made, extract),
        "frechet_reconstructions": frechet(digits, reconstructions, extract),
        "squared_error": float(np.mean(np.sum((digits - reconstructions) ** 2, axis=(1, 2, 3)))),
        "log_likelihood": kv.evaluation.log_likelihood(
            model, digits[: args.num_likelihood], num_samples=args.num_samples, verbose=False
        ).mean,
    }
    if args.second is not None:
        found = distances(digits, made, kv.evaluation.classifier_features(str(args.second)))
        measured |= {f"second_{name}": value for name, value in found.items()}
    return measured


def distances(
    digits: np.ndarray, made: dict[str, np.ndarray], extract: keras.Model
) -> dict[str, float]:
    """Returns how far each kind of images is from digits, by the features of a network."""
    found = {}
    for kind, images in made.items():
        given = digits, images, extract
        kernel = kv.evaluation.kernel_distance(*given, verbose=False)
        found[f"frechet_{kind}"] = frechet(*given)
        found[f"kernel_{kind}"] = kernel.distance
        found[f"coverage_{kind}"] = kv.evaluation.manifold_scores(*given, verbose=False).coverage
    return found


def frechet(digits: np.ndarray, images: np.ndarray, extract: keras.Model) -> float:
    """Returns the Fréchet distance of images to digits."""
    return kv.evaluation.frechet_distance(digits, images, extract, verbose=False).distance


def batches(make: Callable[[int, int], Any], count: int) -> np.ndarray:
    """Returns so many images, made 500 at a time by a function of the number and the size."""
    sizes = [min(500, count - at) for at in range(0, count, 500)]
    return np.concatenate([np.asarray(make(i, size)) for i, size in enumerate(sizes)])


def table(rows: dict[str, Any]) -> str:
    """Returns a table of the rows, with means and standard deviations over the seeds."""
    found = {key for row in rows.values() for one in row.values() for key in one}
    columns = {key: column for key, column in COLUMNS.items() if key in found}
    names = ["model", "seeds", *(title for title, _ in columns.values())]
    lines = [f"| {' | '.join(names)} |", "|---" * len(names) + "|"]
    for name in (name for name in ROWS if name in rows):
        row = rows[name]
        cells = [
            records.spread(row, key, digits) if all(key in one for one in row.values()) else ""
            for key, (_, digits) in columns.items()
        ]
        lines.append(f"| {name} | {len(row)} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    """Runs the rows, unless they are done, and returns the results so far, by row and seed."""
    args = _parser().parse_args(arguments)
    test = kv.data.load(args.data, args.test, 500, shuffle=False)
    digits = np.concatenate(list(test.as_numpy_iterator()))
    for seed in args.seeds:
        for name in args.rows:
            if str(seed) in records.read(args.results)["rows"].get(name, {}):
                continue
            epochs = epochs_of(name, seed, args)
            model, seconds = train(name, seed, epochs, args)
            row = {"seconds": seconds, "epochs": epochs, **judge(name, model, digits, args)}
            records.add(args.results, name, seed, row, circumstances(args))
    rows = records.read(args.results)["rows"]
    return records.finish(rows, table(rows), args.results)


def circumstances(args: argparse.Namespace) -> dict[str, Any]:
    """Returns the configuration, without files of this machine, the versions and the processor."""
    given = {k: v for k, v in vars(args).items() if k not in ("classifier", "second")}
    return records.circumstances(argparse.Namespace(**given))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--batch-size", type=int, default=100)
    parser.add_argument("--data", default="mnist", help='or "mnist_5k", without a download')
    parser.add_argument("--train", default="train")
    parser.add_argument("--test", default="test")
    parser.add_argument("--classifier", type=pathlib.Path, default="runs/classifier/mnist.keras")
    parser.add_argument("--second", type=pathlib.Path, default=None)
    parser.add_argument("--num-samples", type=int, default=500, help="of the log-likelihood")
    parser.add_argument("--num-likelihood", type=int, default=1000, help="digits for it")
    parser.add_argument("--runs", type=pathlib.Path, default="runs/adversaries")
    results = records.FOLDER / "adversaries.json"
    parser.add_argument("--results", type=pathlib.Path, default=results)
    return parser


if __name__ == "__main__":
    main()
