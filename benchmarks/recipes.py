"""How the recipe of the tables was found: optimizers, rates, batches, and what helps a VAE besides.

The network and the digits are those of `benchmarks.iwae_table`, 30 passes, most rows at K = 1.
Trainings take the first 50,000 training digits and are judged by L_200 on the other 10,000, not by
the test digits. Rows are named by optimizer, highest rate in thousandths, and batch
size; `both` are the gradient that sticks the landing (`stl`) and a warm-up of the KL over a tenth
of the steps (`kl`), `both_long` has it over three tenths. What follows `muon_8_b500_both` is that
row with another cycle or a constant rate, an average of the weights (`ema`), or an output bias from
zero. Rows `dreg_10` train on the bound of ten samples with the doubly reparameterized gradient for
12 passes, and stand for bounds of more: named are the optimizer of the encoder, its rate, and the
rate of the decoder, whose optimizer is Muon.

    python -m benchmarks.recipes --rows adam_2_b50 muon_8_b500_both dreg_10_muon_2_8_b200

Models and logs go to `runs/recipes`, results to `benchmarks/results/recipes.json` and `.md`. A row
that was interrupted goes on when it is run again.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import keras_vae as kv
from benchmarks import likelihood_tables
from benchmarks.likelihood_tables import elbo, importance_weighted, parts
from benchmarks.rows import Recipe, Row

_BESIDES = {
    "": ("", False, 0.0),
    "_stl": (", sticking the landing", True, 0.0),
    "_kl": (", KL warm-up of 10%", False, 0.1),
    "_both": (", both, 10%", True, 0.1),
    "_kl_long": (", KL warm-up of 30%", False, 0.3),
    "_both_long": (", both, 30%", True, 0.3),
}
_TRIED = [
    *(("adam", rate, batch, "") for rate, batch in ((1, 50), (2, 50), (2, 100))),
    ("adam", 2, 50, "_both"),
    ("adam", 2, 100, "_stl"),
    ("adam", 4, 100, "_kl_long"),
    ("adam", 4, 100, "_both_long"),
    ("adam", 8, 100, "_both_long"),
    ("adam", 4, 200, "_both"),
    ("adam", 4, 500, "_both"),
    ("adam", 8, 500, "_both"),
    ("muon", 4, 200, "_kl"),
    ("muon", 4, 200, "_both_long"),
    ("muon", 8, 200, "_both"),
    ("muon", 8, 200, "_both_long"),
    ("muon", 16, 200, "_both"),
    ("muon", 4, 500, "_both_long"),
    ("muon", 8, 500, "_both"),
]
_OF_SEVERAL = [
    ("muon", 4, 4, 500),
    ("muon", 4, 4, 200),
    ("muon", 8, 8, 200),
    ("muon", 2, 8, 200),
    ("adam", 2, 8, 500),
    ("adam", 2, 8, 200),
    ("adam", 1, 8, 200),
    ("adam", 2, 16, 200),
    ("adam", 1, 4, 100),
]
# The cycle as the package has it by default, and none; averages of the weights with and without it.
_OTHERWISE: dict[str, tuple[str, dict[str, Any]]] = {
    "default_cycle": (
        "default one-cycle (30% warm-up, 1/25 to 1 to 1/250,000 of the highest rate)",
        {"warmup": 0.3, "final_division": 1e4},
    ),
    "constant": ("at a constant rate", {"cycle": False}),
    **{
        f"constant_{rate}": (
            f"at a constant {rate}e-3 instead",
            {"cycle": False, "learning_rate": rate * 1e-3},
        )
        for rate in (1, 2, 4)
    },
    "ema_990": ("EMA of 0.99", {"ema_momentum": 0.99}),
    **{
        f"constant_ema_{str(momentum)[2:]:0<3}": (
            f"at a constant rate, EMA of {momentum}",
            {"cycle": False, "ema_momentum": momentum},
        )
        for momentum in (0.99, 0.999)
    },
}


def _row(optimizer: str, rate: int, batch_size: int, besides: str) -> Row:
    added, sticking, kl_warmup = _BESIDES[besides]
    recipe = Recipe(30, batch_size, optimizer, rate * 1e-3, kl_warmup=kl_warmup)
    made = elbo if sticking else lambda: parts(kv.objectives.ELBO())
    label = f"{optimizer.title()}, {rate}e-3, batches of {batch_size}{added}"
    return Row(label, made, recipe, {}, comparable=False)


ROWS = {
    f"{name}_{rate}_b{size}{end}": _row(name, rate, size, end) for name, rate, size, end in _TRIED
}
ROWS |= {
    f"dreg_10_{name}_{of_encoder}_{rate}_b{size}": Row(
        f"DReG, K = 10, {name.title()}, {of_encoder}e-3 for the encoder, {rate}e-3 for the "
        f"decoder, batches of {size}",
        functools.partial(importance_weighted, 10, "doubly_reparameterized"),
        Recipe(
            12,
            size,
            learning_rate=rate * 1e-3,
            encoder_optimizer=name,
            encoder_learning_rate=of_encoder * 1e-3,
            kl_warmup=0.0,
        ),
        {},
        comparable=False,
    )
    for name, of_encoder, rate, size in _OF_SEVERAL
}
_BEST = ROWS["muon_8_b500_both"]
for _name, (_label, _changed) in _OTHERWISE.items():
    _recipe = dataclasses.replace(_BEST.recipe, **_changed)
    ROWS[f"muon_8_b500_both_{_name}"] = dataclasses.replace(
        _BEST, label=f"{_BEST.label}, {_label}", recipe=_recipe
    )
ROWS["muon_8_b500_both_no_bias"] = dataclasses.replace(
    _BEST, label=f"{_BEST.label}, output bias from zero", bias_of_data=False
)
NOTE = (
    "Both are the gradient that sticks the landing and a warm-up of the KL over that part of the "
    "steps."
)


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    """Runs the rows and returns the results of all so far, by row and seed."""
    split = {"train": "train[:50000]", "test": "train[50000:]", "num_samples": 200}
    return likelihood_tables.main(__doc__, "recipes", ROWS, arguments, NOTE, **split)


if __name__ == "__main__":
    main()
