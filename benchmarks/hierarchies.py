"""Several groups of latent variables on MNIST and CIFAR-10, beside the published numbers.

The digits are binarized anew in every epoch. Rows:

    chain_1, chain_5, chain_50      two stochastic layers of Burda et al. (2016) in the network
                                    784-200-200-[100]-100-100-[50] tanh: the ELBO, its gradient
                                    sticking the landing, and bounds of 5 and 50 samples with the
                                    doubly reparameterized gradient
    ladder                          five layers of Sonderby et al. (2016), perceptrons
    convolutional                   seven groups at the scales 1, 7 and 14
    convolutional_short             the same, trained for an eighth of the passes
    one_group                       the same network with one group, trained as long as that
    cifar                           eight groups at the scales 1, 8 and 16 on CIFAR-10, a
                                    discretized logistic mixture

    python -m benchmarks.hierarchies --rows chain_1

Published are 3,280 passes with batches of 20 for the two layers, 2,000 passes for the ladder. NLL
is estimated on all test images: by L_5000 for perceptrons, by L_1000 for the convolutional network
that is trained in full, by L_100 for short trainings, and by L_50 on CIFAR-10. Models and logs go
to `runs/hierarchies`, results to `benchmarks/results/hierarchies.json` and `.md`. A row that was
interrupted goes on when it is run again.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import keras_vae as kv
from benchmarks import likelihood_tables
from benchmarks.likelihood_tables import FIFTY_SAMPLES, IMAGE, SEVERAL_SAMPLES
from benchmarks.peers import hierarchy_shape
from benchmarks.rows import Data, Recipe, Row

LATENT_DIMS, HIDDEN = (100, 50), (100, 100)


def chain(objective: Callable[[], kv.objectives.Objective]) -> dict[str, Any]:
    """Returns the arguments of `kv.VAE` for the network of two stochastic layers."""
    return {
        "encoder": kv.networks.MLPEncoder((200, 200), activation="tanh"),
        "decoder": kv.networks.MLPDecoder(IMAGE, (200, 200), activation="tanh"),
        "posterior": kv.posteriors.Chain(LATENT_DIMS, HIDDEN),
        "prior": kv.priors.Chain(LATENT_DIMS, HIDDEN),
        "likelihood": kv.likelihoods.Bernoulli(IMAGE),
        "objective": objective(),
    }


def _chain_row(
    label: str, objective: Callable[[], kv.objectives.Objective], recipe: Recipe, **published: Any
) -> Row:
    made = functools.partial(chain, objective)
    return Row(label, made, recipe, {**published, "passes": 3280})


def _elbo() -> kv.objectives.Objective:
    return kv.objectives.ELBO(estimator="sticking_the_landing")


def _dreg(num_samples: int) -> Callable[[], kv.objectives.Objective]:
    return lambda: kv.objectives.ImportanceWeighted(num_samples, "doubly_reparameterized")


# As those of the digits, which peers build, too.
CIFAR_CHANNELS = {16: 64, 8: 64, 1: 64}
CIFAR_GROUPS = {1: (1, 32), 8: (4, 8), 16: (3, 4)}
COLORS = (32, 32, 3)
CONVOLUTIONAL = Recipe(
    passes=96,
    batch_size=hierarchy_shape.BATCH_SIZE,
    optimizer="adamax",
    learning_rate=hierarchy_shape.LEARNING_RATE,
    epsilon=1e-7,
    kl_warmup=0.1,
)


def convolutional(
    likelihood: Callable[[], kv.likelihoods.Likelihood],
    channels: Mapping[int, int],
    groups: Mapping[int, tuple[int, int]],
    blocks: int = hierarchy_shape.BLOCKS_DOWN,
) -> dict[str, Any]:
    """Returns the arguments of `kv.HierarchicalVAE`; `blocks` cells follow each group."""
    return {
        "bottom_up": kv.networks.BottomUp(channels, hierarchy_shape.BLOCKS_UP),
        "top_down": kv.networks.TopDown(groups, blocks=blocks),
        "likelihood": likelihood(),
        "objective": kv.objectives.ELBO(kl_balancing="size" if _several(groups) else None),
    }


def _several(groups: Mapping[int, tuple[int, int]]) -> bool:
    return sum(count for count, _ in groups.values()) > 1


def _digits(
    groups: Mapping[int, tuple[int, int]], blocks: int = hierarchy_shape.BLOCKS_DOWN
) -> Callable[[], dict[str, Any]]:
    bernoulli = functools.partial(kv.likelihoods.Bernoulli, IMAGE)
    return functools.partial(convolutional, bernoulli, hierarchy_shape.CHANNELS, groups, blocks)


def _colors() -> dict[str, Any]:
    mixture = functools.partial(kv.likelihoods.DiscretizedLogisticMixture, COLORS, num_components=5)
    return convolutional(mixture, CIFAR_CHANNELS, CIFAR_GROUPS)


def _ladder() -> dict[str, Any]:
    return {
        "latent_dims": (64, 32, 16, 8, 4),
        "hidden": (512, 256, 128, 64, 32),
        "likelihood": kv.likelihoods.Bernoulli(IMAGE),
    }


def _hierarchy_row(label: str, parts: Callable[[], dict[str, Any]], **options: Any) -> Row:
    options = {"recipe": CONVOLUTIONAL, "published": {}, "num_samples": 1000, **options}
    return Row(label, parts, model=kv.HierarchicalVAE, comparable=False, **options)


_SHORT: dict[str, Any] = {
    "recipe": dataclasses.replace(CONVOLUTIONAL, passes=CONVOLUTIONAL.passes // 8),
    "num_samples": 100,
}
ROWS = {
    "chain_1": _chain_row(
        "two layers, K = 1", _elbo, Recipe(passes=240), nll=85.33, active_units="16+5"
    ),
    "chain_5": _chain_row(
        "two layers, K = 5 (DReG)",
        _dreg(5),
        dataclasses.replace(SEVERAL_SAMPLES, passes=120),
        nll=83.89,
        active_units="21+5",
    ),
    "chain_50": _chain_row(
        "two layers, K = 50 (DReG)",
        _dreg(50),
        dataclasses.replace(FIFTY_SAMPLES, passes=100),
        nll=82.90,
        active_units="26+7",
    ),
    "ladder": Row(
        "Ladder VAE, five layers",
        _ladder,
        Recipe(passes=150, weight_decay=0.03, kl_warmup=0.25),
        {"nll": 81.84, "passes": 2000},
        model=kv.LadderVAE,
    ),
    "convolutional": _hierarchy_row(
        "seven groups, convolutional", _digits(hierarchy_shape.GROUPS), published={"nll": 81.08}
    ),
    "convolutional_short": _hierarchy_row(
        "the same, an eighth of the passes", _digits(hierarchy_shape.GROUPS), **_SHORT
    ),
    "one_group": _hierarchy_row(
        "one group of 32, an eighth of the passes", _digits({1: (1, 32)}, blocks=3), **_SHORT
    ),
    "cifar": _hierarchy_row(
        "CIFAR-10, eight groups",
        _colors,
        recipe=Recipe(passes=16, batch_size=32, learning_rate=3e-3, weight_decay=0.2, epsilon=1e-7),
        published={"bits_per_dim": 4.51},
        data=Data("cifar10", binarize=None, options={"dtype": "uint8"}),
        num_samples=50,
    ),
}


NOTE = (
    "Published for two layers are numbers of Burda et al.; github.com/nbip/IWAE repeats them with "
    "84.83, 83.48 and 82.82. Sonderby et al. have that of the ladder. Beside the convolutional "
    "hierarchy stands a residual network with one group of 32 (Kingma et al., 2016, table 1), of "
    "another size and training; BIVA has 78.41 and NVAE 78.01, on GPUs. Beside CIFAR-10 stands the "
    "continuous VAE of van den Oord et al. (2017); NVAE has 2.91. Active units are counted for "
    "each group in the order of `model.latents`, at the means of the groups drawn before it."
)


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    """Runs the rows and returns the results of all so far, by row and seed."""
    return likelihood_tables.main(__doc__, "hierarchies", ROWS, arguments, NOTE)


if __name__ == "__main__":
    main()
