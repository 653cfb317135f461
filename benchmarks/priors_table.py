"""Priors and posteriors on MNIST: a VampPrior, a mixture, flows, and none of them.

All have the network of `benchmarks.iwae_table`, its digits and one sample of z; but for the flow
posterior the gradient sticks the landing. Rows:

    vae                 standard normal prior, normal posterior
    vamp_prior          500 pseudo-inputs (Tomczak & Welling, 2018)
    mixture_prior       100 normals
    flow_prior          two masked autoregressive flows of 128-128
    flow_posterior      two inverse autoregressive flows of 128-128 (Kingma et al., 2016)

    python -m benchmarks.priors_table --rows vae flow_prior

Published are numbers of pythae's README, of other networks on binary MNIST, for reference. Models
and logs go to `runs/priors_table`, results to `benchmarks/results/priors_table.json` and `.md`;
`docs/figures/likelihoods.py` draws them. A row that was interrupted goes on when it is run again.
"""

from __future__ import annotations

from typing import Any

import keras_vae as kv
from benchmarks import likelihood_tables
from benchmarks.likelihood_tables import LATENT_DIM, elbo, flow_prior, parts
from benchmarks.rows import Recipe, Row

_RECIPE = Recipe(passes=150)
ROWS = {
    "vae": Row("VAE", elbo, _RECIPE, {"nll": 89.78}, comparable=False),
    "vamp_prior": Row(
        "VampPrior, 500 pseudo-inputs",
        lambda: elbo(prior=kv.priors.VampPrior(LATENT_DIM, num_pseudo_inputs=500)),
        _RECIPE,
        {"nll": 85.79},
        comparable=False,
    ),
    "mixture_prior": Row(
        "mixture prior, 100 normals",
        lambda: elbo(prior=kv.priors.MixtureOfNormals(LATENT_DIM, num_components=100)),
        _RECIPE,
        {},
        comparable=False,
    ),
    "flow_prior": Row(
        "flow prior",
        flow_prior,
        _RECIPE,
        {},
        comparable=False,
    ),
    "flow_posterior": Row(
        "flow posterior",
        # Sticking the landing would ask for the density of what is not remembered to be a draw,
        # which takes as many passes of the flow's networks as there are latent dimensions.
        lambda: parts(kv.objectives.ELBO(), posterior=kv.posteriors.AutoregressiveFlow(LATENT_DIM)),
        _RECIPE,
        {},
        comparable=False,
    ),
}


NOTE = (
    "Published are numbers of other networks and of fixed binary digits, that of the VAE by L_200, "
    "for reference."
)


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    """Runs the rows and returns the results of all so far, by row and seed."""
    return likelihood_tables.main(__doc__, "priors_table", ROWS, arguments, NOTE)


if __name__ == "__main__":
    main()
