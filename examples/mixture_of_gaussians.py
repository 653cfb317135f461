"""Fits a mixture of three Gaussians in the plane in five ways, and checks each against the exact.

log p(x) = log sum_c p(c) N(x; mu_c, s^2 I) can be summed here. So one sees what it costs not to:

    exact     the sum over all components (`ExactMarginal`)
    naive     log p(x|c) at a single sample c of the prior
    weighted  the importance-weighted bound, 5 samples of q(c|x) (`ImportanceWeighted`)
    vae       the ELBO, with one sample of q(c|x) (`ELBO`)
    relaxed   the ELBO, with the gradient of a sample that is softened in training (Gumbel-softmax)

All start at the same three points of the data, and differ in the objective alone. Half a minute on
two cores:

    python examples/mixture_of_gaussians.py
"""

from __future__ import annotations

import argparse
import itertools
import json
import pathlib
from typing import TYPE_CHECKING

import keras
import numpy as np
import tensorflow as tf

import keras_vae as kv

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WEIGHTS = np.array([0.5, 0.3, 0.2])
MEANS = np.array([[-2.0, -0.5], [1.0, 1.5], [2.0, -1.5]])
SCALE = 0.7
COLORS = {"exact": "C0", "naive": "C3", "weighted": "C1", "vae": "C2", "relaxed": "C4"}
NUMBERS = (1, 2, 5, 10, 30, 100)  # of samples


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
    "relaxed": kv.objectives.ELBO,
}
TEMPERATURES = {"relaxed": 0.3}


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
        posterior=kv.posteriors.Categorical(1, 3, temperature=TEMPERATURES.get(name)),
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


def expected_gaps(model: kv.VAE, x: np.ndarray) -> dict[str, list[float]]:
    """Returns log p(x) - E[L_K], means over x, with K of NUMBERS samples of p(c) or of q(c|x).

    The samples of one x matter only by how often each component is among them, so that the
    expectation is a sum over such counts: without noise, as one run of the estimates has.
    """
    c = np.eye(3)[:, np.newaxis, np.newaxis]  # [3, 1, 1, 3]
    log_p_c = model.prior().log_prob(c) + tf.zeros([3, len(x)])
    log_q = model.encode(x).log_prob(c)
    log_p_x = model.decode(c).log_prob(x)  # [3, N]
    proposals = {"naive": (log_p_x, log_p_c), "weighted": (log_p_x + log_p_c - log_q, log_q)}
    return {
        name: [expected_gap(np.float64(log_w), np.float64(log_r), k) for k in NUMBERS]
        for name, (log_w, log_r) in proposals.items()
    }


def expected_gap(log_w: np.ndarray, log_r: np.ndarray, num_samples: int) -> float:
    """Returns the mean over x of log p(x) - E_r[log 1/K sum_k w_k], for w and r `[3, N]`."""
    grid = itertools.product(range(num_samples + 1), repeat=2)
    counts = np.array([(i, j, num_samples - i - j) for i, j in grid if i + j <= num_samples])
    log_factorial = np.cumsum(np.log(np.maximum(np.arange(num_samples + 1), 1)))
    log_ways = log_factorial[-1] - log_factorial[counts].sum(axis=1)
    log_r = log_r - np.logaddexp.reduce(log_r)  # Of float32, it sums to one but for rounding.
    probability = np.exp(log_ways[:, np.newaxis] + counts @ log_r)  # [counts, N]
    # Relative to p(x), as the numbers are that the gap is made of.
    relative = np.exp(np.maximum(log_w - np.logaddexp.reduce(log_w + log_r), -700.0))
    return float(-(probability * np.log(counts @ relative / num_samples)).sum(axis=0).mean())


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


def draw(models: dict[str, kv.VAE], x: np.ndarray) -> Figure:
    """Draws what each model has fitted, and bounds of the exactly fitted one against K."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10.0, 6.6), layout="constrained", dpi=110)
    panels = figure.subplots(2, 3).flatten()
    for axes, (name, model) in zip(panels, models.items(), strict=False):
        axes.scatter(*x.T, s=3, color="0.85")
        draw_components(axes, MEANS, SCALE, WEIGHTS, color="black", linestyle=":")
        weights = tf.nn.softmax(tf.convert_to_tensor(model.prior_head.logits)[0]).numpy()
        scale = float(model.likelihood_head.scale)
        draw_components(axes, model.decoder.kernel.numpy(), scale, weights, color=COLORS[name])
        title = f"{name}: log p(x) = {exact(model, x).mean():.3f}"
        axes.set(title=title, aspect="equal", xlim=(-5.5, 5.5), ylim=(-5.0, 5.0))
    draw_bounds(panels[-1], models["exact"], x)
    truth = f"{true_log_p_x(x).mean():.3f}"
    figure.suptitle(
        "Fitted components at two scales, width by weight; dotted the true ones, of which "
        f"log p(x) = {truth}"
    )
    return figure


def draw_components(
    axes: Axes, means: np.ndarray, scale: float, weights: np.ndarray, **line: str
) -> None:
    """Draws each component as a circle of two scales, the wider its line the more its weight."""
    from matplotlib.patches import Circle

    for mean, weight in zip(means, weights, strict=True):
        circle = Circle(mean, 2.0 * scale, fill=False, linewidth=0.6 + 4.0 * weight, **line)
        axes.add_patch(circle)


def draw_bounds(axes: Axes, model: kv.VAE, x: np.ndarray) -> None:
    """Draws how far bounds on log p(x) are below it, against the number of their samples."""
    labels = {"naive": "K samples of the prior", "weighted": "K samples of q(c|x)"}
    for name, gaps in expected_gaps(model, x).items():
        axes.plot(NUMBERS, gaps, "o-", color=COLORS[name], label=labels[name])
    axes.axhline(gaps[0], color=COLORS["vae"], linestyle="--", label="ELBO, whatever K")
    axes.set(title="exact fit: log p(x) - E[estimate]", xlabel="samples K", ylabel="nats")
    axes.set(xscale="log", yscale="log")
    axes.legend(frameon=False, fontsize="small")


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
    draw(models, held_out).savefig(args.runs / "mixture.png")
    (args.runs / "results.json").write_text(json.dumps(results, indent=2) + "\n")
    print(f"\nFigure in {args.runs}.")
    return results


if __name__ == "__main__":
    main()
