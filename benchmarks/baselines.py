"""Baselines on statically binarized MNIST and on small Omniglot, for users to compare with.

The network is that of `benchmarks.iwae_table`; beside the VAE stand the best rows of
`benchmarks.iwae_table` and of `benchmarks.priors_table`. Rows, of each data set:

    ..._vae             the ELBO with one sample
    ..._dreg_50         the bound of 50 samples, doubly reparameterized
    ..._flow_prior      the ELBO with a prior of two masked autoregressive flows

    python -m benchmarks.baselines --rows mnist_vae omniglot_vae

`mnist` is `"binarized_mnist"` of TFDS, the fixed binarization of published tables. `omniglot` has
the 105 x 105 images of TFDS, averaged to 28 x 28, inverted so that ink is 1, binarized anew in
every epoch, with the split of TFDS: 19,280 drawings to train on, and 13,180 of other alphabets to
test. Published are numbers of Burda et al., whose Omniglot is reduced and split otherwise, into
24,345 and 8,070 drawings.

Models and logs go to `runs/baselines`, results to `benchmarks/results/baselines.json` and `.md`;
`docs/figures/likelihoods.py` draws them. A row that was interrupted goes on when it is run again.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

from benchmarks import likelihood_tables
from benchmarks.likelihood_tables import (
    FIFTY_SAMPLES,
    IMAGE,
    elbo,
    flow_prior,
    importance_weighted,
)
from benchmarks.rows import Data, Recipe, Row

# Omniglot has a third of the images of MNIST: smaller batches, or more passes, for the steps.
_SETS = {
    "mnist": (
        "static MNIST",
        Data("binarized_mnist", None),
        (88.71, 87.10),
        (Recipe(passes=328), FIFTY_SAMPLES),
    ),
    "omniglot": (
        "Omniglot",
        Data("omniglot", options={"image_shape": IMAGE, "invert": True}),
        (108.11, 104.67),
        (Recipe(passes=328, batch_size=200), dataclasses.replace(FIFTY_SAMPLES, passes=328)),
    ),
}
ROWS = {}
for _name, (_label, _data, (_one, _fifty), (_recipe, _recipe_of_fifty)) in _SETS.items():
    ROWS |= {
        f"{_name}_vae": Row(
            f"{_label}, VAE, K = 1",
            elbo,
            _recipe,
            {"nll": _one, "passes": 3280},
            _data,
            comparable=_name == "mnist",
        ),
        f"{_name}_dreg_50": Row(
            f"{_label}, DReG, K = 50 (published: IWAE)",
            functools.partial(importance_weighted, 50, "doubly_reparameterized"),
            _recipe_of_fifty,
            {"nll": _fifty, "passes": 3280},
            _data,
            comparable=_name == "mnist",
        ),
        f"{_name}_flow_prior": Row(
            f"{_label}, flow prior",
            flow_prior,
            _recipe,
            {},
            _data,
            comparable=False,
        ),
    }


NOTE = "Published for Omniglot are numbers of other images and of another split."


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    """Runs the rows and returns the results of all so far, by row and seed."""
    return likelihood_tables.main(__doc__, "baselines", ROWS, arguments, NOTE)


if __name__ == "__main__":
    main()
