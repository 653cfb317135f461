"""Fits a mixture of three Gaussians in the plane in four ways, and checks each against the exact.

log p(x) = log sum_c p(c) N(x; mu_c, s^2 I) can be summed here. So one sees what it costs not to:

    exact     the sum over all components (`ExactMarginal`)
    naive     log p(x|c) at a single sample c of the prior
    weighted  the importance-weighted bound, 5 samples of q(c|x) (`ImportanceWeighted`)
    vae       the ELBO, with one sample of q(c|x) (`ELBO`)

Half a minute on two cores:

    python examples/mixture_of_gaussians.py
"""

from __future__ import annotations

import argparse
import json
import pathlib
from typing import TYPE_CHECKING

import keras
import numpy as np
import tensorflow as tf

import keras_vae as kv

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WEIGHTS = np.array([0.5, 0.3, 0.2])
MEANS = np.array([[-2.0, -0.5], [1.0, 1.5], [2.0, -1.5]])
SCALE = 0.7
COLORS = {"exact": "C0", "naive": "C3", "weighted": "C1", "vae": "C2"}


class PriorSample(kv.objectives.Objective):
    """-log p(x|c) at a single sample c of the prior, with the log-derivative trick for p(c).

    An objective of one's own needs no more than this. Its loss is a bound on -log p(x), as the ELBO
    with q(c|x) = p(c) is, and a poor one: most samples have nothing to do with x.
    """

    pathwise = False

    def loss(self, terms: kv.Terms) -> tf.Tensor:
        """Returns -log p(x|c), c ~ p(c): `[B]`, nats."""
        draws = terms.draws
        count = tf.shape(draws.x)[0]
        c = draws.p_z.sample(count, seed=draws.seed)[tf.newaxis]  # [1, B, 1, 3]
        log_p_x = draws.likelihood(c).log_prob(draws.x)[0]  # [B]
        score = tf.stop_gradient(log_p_x) * draws.p_z.log_prob(c)[0]
        score += 0.0 * terms.log_q[0]  # The encoder has no part; Keras warns of weights left out.
        return -kv.bounds.with_gradient_of(log_p_x, score)


OBJECTIVES = {
    "exact": kv.objectives.ExactMarginal,
    "naive": PriorSample,
    "weighted": lambda: kv.objectives.ImportanceWeighted(5, "score_function"),
    "vae": lambda: kv.objectives.ELBO(estimator="score_function"),
}


def draw_data(count: int, seed: int) -> np.ndarray:
    """Returns points of the true mixture, `[N, 2]`."""
    rng = np.random.default_rng(seed)
    components = rng.choice(len(WEIGHTS), size=count, p=WEIGHTS)
    return (MEANS[components] + SCALE * rng.normal(size=(count, 2))).astype("float32")


def true_log_p_x(x: np.ndarray) -> np.ndarray:
    """Returns log p(x) of the mixture that the data came from, `[N]`, nats."""
    squares = np.square((x[:, None] - MEANS) / SCALE).sum(axis=-1)
    log_joint = np.log(WEIGHTS) - 0.5 * squares - 2.0 * np.log(SCALE * np.sqrt(2.0 * np.pi))
    return np.logaddexp.reduce(log_joint, axis=1)


def build(name: str, x: np.ndarray, seed: int) -> kv.VAE:
    """Makes a mixture as a VAE: z is the component, and the decoder's rows are the means."""
    keras.utils.set_random_seed(seed)
    decoder = keras.layers.Dense(2, use_bias=False)
    model = kv.VAE(
        encoder=kv.networks.MLPEncoder((32,), activation="tanh"),
        decoder=decoder,
        posterior=kv.posteriors.Categorical(1, 3),
        prior=kv.priors.Categorical(1, 3, learned=True),
        likelihood=kv.likelihoods.Normal((2,), scale="shared"),
        objective=OBJECTIVES[name](),
        seed=seed,
    )
    # Equal means would stay equal. Three distant points of the data part them, as k-means++ does.
    chosen = [0]
    for _ in range(2):
        distances = np.square(x[:, None] - x[chosen]).sum(axis=-1).min(axis=1)
        chosen.append(int(np.argmax(distances)))
    decoder.kernel.assign(x[chosen])
    return model


def exact(model: kv.VAE, x: np.ndarray) -> np.ndarray:
    """Returns log p(x) by a sum over the components, `[N]`, nats."""
    loss = kv.objectives.ExactMarginal().loss(model.compute_terms(tf.constant(x)))
    return -loss.numpy()


def estimates(model: kv.VAE, x: np.ndarray, num_samples: int) -> dict[str, float]:
    """Returns mean estimates of log p(x) of one model: by the prior, by q(c|x), and by the ELBO."""
    q_weights = model.log_weights(x, num_samples=num_samples, seed=7)  # [K, N]
    c = model.prior().sample((num_samples, len(x)), seed=[7, 8])
    prior_weights = model.decode(c).log_prob(x)
    bound = kv.bounds.importance_weighted
    return {
        "naive": float(tf.reduce_mean(bound(prior_weights))),
        "weighted": float(tf.reduce_mean(bound(q_weights))),
        "vae": float(tf.reduce_mean(q_weights)),
    }


def fit(name: str, x: np.ndarray, epochs: int, seed: int) -> kv.VAE:
    """Fits a mixture by one of the objectives."""
    model = build(name, x, seed)
    steps = epochs * -(-len(x) // 100)
    rate = keras.optimizers.schedules.CosineDecay(0.02, steps)
    model.compile(keras.optimizers.Adam(rate), jit_compile=False)
    model.fit(x, batch_size=100, epochs=epochs, verbose=0)
    return model


def judge(models: dict[str, kv.VAE], x: np.ndarray) -> dict[str, dict[str, float]]:
    """Returns for each model log p(x), exact, and what its own objective says, means in nats."""
    results = {}
    for name, model in models.items():
        own = model.evaluate(x, batch_size=len(x), verbose=0, return_dict=True)["loss"]
        results[name] = {"exact": float(exact(model, x).mean()), "estimate": -own}
    return results


def table(results: dict[str, dict[str, float]], truth: float) -> str:
    """Writes the results as a table."""
    lines = [f"  {'fitted by':<12}{'log p(x), exact':>18}{'its own estimate':>20}{'gap':>10}"]
    for name, row in results.items():
        gap = row["exact"] - row["estimate"]
        lines.append(f"  {name:<12}{row['exact']:>18.3f}{row['estimate']:>20.3f}{gap:>10.3f}")
    lines.append(f"  {'the truth':<12}{truth:>18.3f}")
    return "\n".join(["Held out, nats an example", *lines])


def draw(models: dict[str, kv.VAE], x: np.ndarray, numbers: tuple[int, ...]) -> Figure:
    """Draws the fitted components, and the estimates of the exactly fitted model against K."""
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(10.0, 4.2), layout="constrained")
    left.scatter(*x.T, s=4, color="0.8", label="held-out points")
    for offset, (name, model) in enumerate(models.items()):
        means, scale = model.decoder.kernel.numpy(), float(model.likelihood_head.scale)
        weights = tf.nn.softmax(tf.convert_to_tensor(model.prior_head.logits)[0]).numpy()
        for mean, weight in zip(means, weights, strict=True):
            line = {"linewidth": 0.5 + 3.0 * weight, "linestyle": ["-", "--", ":", "-."][offset]}
            circle = pyplot.Circle(mean, 2.0 * scale, fill=False, color=COLORS[name], **line)
            left.add_patch(circle)
        left.plot([], [], color=COLORS[name], label=name)
    left.set(title="components at two scales", aspect="equal", xlabel="$x_1$", ylabel="$x_2$")
    left.legend(frameon=False, fontsize="small")
    log_p_x = exact(models["exact"], x).mean()
    curves = [estimates(models["exact"], x, k) for k in numbers]
    for name in ("naive", "weighted", "vae"):
        gaps = [log_p_x - curve[name] for curve in curves]
        right.plot(numbers, gaps, "o-", color=COLORS[name], label=name)
    right.set(title="how far estimates are below log p(x)", xscale="log", yscale="log")
    right.set(xlabel="samples K, of the exactly fitted model", ylabel="nats an example")
    right.legend(frameon=False, fontsize="small")
    return figure


def main(arguments: list[str] | None = None) -> dict[str, dict[str, float]]:
    """Runs the example and returns its held-out results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--examples", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--runs", type=pathlib.Path, default="runs/mixture_of_gaussians")
    args = parser.parse_args(arguments)

    x, held_out = draw_data(args.examples, args.seed), draw_data(1000, args.seed + 1)
    models = {name: fit(name, x, args.epochs, args.seed) for name in OBJECTIVES}
    results = judge(models, held_out)
    print(table(results, float(true_log_p_x(held_out).mean())))
    args.runs.mkdir(parents=True, exist_ok=True)
    draw(models, held_out, (1, 2, 5, 10, 30, 100)).savefig(args.runs / "mixture.png", dpi=110)
    (args.runs / "results.json").write_text(json.dumps(results, indent=2) + "\n")
    print(f"\nFigure in {args.runs}.")
    return results


if __name__ == "__main__":
    main()
