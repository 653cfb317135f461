"""Each symptom by its evidence alone: when it is told, and when it must not be."""

import dataclasses

import numpy as np
import pytest

import keras_vae as kv
from keras_vae.callbacks.health import adversaries, latent, steps
from keras_vae.callbacks.health.evidence import (
    DataRange,
    Evidence,
    Examination,
    Limits,
    Modes,
    Multiplier,
    Number,
    Skips,
)
from keras_vae.callbacks.health.symptoms import SYMPTOMS
from keras_vae.evaluation.latent_groups import LatentGroup

HEALTHY = Examination(
    active_units=20,
    dimensions=50,
    kl=np.full(50, 0.5),
    error=30.0,
    mean_error=52.0,
    spread=20.0,
    scale=0.1,
    posterior_scale=0.05,
    decoder_gradient=0.3,
    posterior_learns=True,
    modes=Modes(25.0, -100.0, 24.0, -99.0),
)
COLLAPSED = dataclasses.replace(
    HEALTHY, active_units=0, kl=np.full(50, 1e-3), error=52.0, spread=0.01
)
DEAD = dataclasses.replace(HEALTHY, error=52.0, spread=0.0)
EXPLODED = dataclasses.replace(HEALTHY, kl=np.array([*np.full(49, 0.5), 500.0]))


def evidence(seen=HEALTHY, step=2000, last=False, beta=1.0, rule=None, **changes):
    defaults = {
        "epoch": step // 100 - 1,
        "begin": 0,
        "numbers": {"beta": Number(beta, rule)},
        "multipliers": (),
        "skips": None,
        "data": DataRange(0.0, 1.0, 0.13, 0.3),
    }
    return Evidence(seen=seen, step=step, last=last, **{**defaults, **changes})


def judge(symptom, now, before=None, **limits):
    """Return the sentence, the same having been seen all through the training by default."""
    if before is None:
        before = [dataclasses.replace(now, step=s, last=False) for s in (500, 1000, 1500)]
    return symptom(now, before, Limits(**limits))


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("name", sorted(SYMPTOMS))
def test_a_healthy_training_has_none(name, last):
    assert judge(SYMPTOMS[name], evidence(last=last)) is None
    assert judge(SYMPTOMS[name], evidence(last=last), before=[]) is None
    assert judge(SYMPTOMS[name], evidence(seen=None, last=last, data=None)) is None


# Posterior collapse.


def test_a_collapse_is_told_with_its_numbers():
    text = judge(latent.posterior_collapse, evidence(COLLAPSED))
    assert text.startswith("0 of 50 latent dimensions are active, and the squared error of")
    assert "52, of the mean image 52" in text and "KLAnnealing" in text


def test_reconstructions_no_better_than_the_mean_image_are_a_collapse_too():
    useless = dataclasses.replace(HEALTHY, error=51.9)
    assert judge(latent.posterior_collapse, evidence(useless))
    better = dataclasses.replace(HEALTHY, error=0.97 * 52.0)
    assert judge(latent.posterior_collapse, evidence(better)) is None


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"step": 499}, id="too early"),
        pytest.param({"beta": 0.05, "rule": "schedule"}, id="the schedule of beta begins"),
        pytest.param({"beta": 0.0}, id="no KL"),
        pytest.param({"numbers": {"capacity": Number(0.5, "schedule")}}, id="little capacity yet"),
        pytest.param({"numbers": {"target_kl": Number(0.9, None)}}, id="no KL wanted"),
        pytest.param(
            {"multipliers": [Multiplier("lambda", 0.01, 1e6, 40.0)]}, id="lambda has to grow"
        ),
    ],
)
def test_a_collapse_that_may_pass_is_not_told(changes):
    assert judge(latent.posterior_collapse, evidence(COLLAPSED, **changes)) is None


@pytest.mark.parametrize(
    "then",
    [
        pytest.param({"error": 54.0}, id="the error falls"),
        pytest.param({"kl": np.full(50, 0.01)}, id="the KL falls"),
        pytest.param({"spread": 0.006}, id="reconstructions begin to vary"),
    ],
)
def test_a_collapse_is_not_told_while_something_moves(then):
    before = [evidence(dataclasses.replace(COLLAPSED, **then), step=1000)]
    assert judge(latent.posterior_collapse, evidence(COLLAPSED), before) is None
    before = [evidence(COLLAPSED, step=1000)]
    assert judge(latent.posterior_collapse, evidence(COLLAPSED), before)


def test_of_one_look_at_the_end_units_alone_tell():
    useless = dataclasses.replace(HEALTHY, error=52.0)
    assert judge(latent.posterior_collapse, evidence(useless, last=True), before=[]) is None
    assert judge(latent.posterior_collapse, evidence(COLLAPSED), before=[]) is None
    assert judge(latent.posterior_collapse, evidence(COLLAPSED, last=True), before=[])


def test_a_constraint_that_is_unmet_at_the_end_excuses_nothing():
    unmet = [Multiplier("lambda", 0.01, 1e6, 40.0)]
    assert judge(latent.posterior_collapse, evidence(COLLAPSED, last=True, multipliers=unmet))


def test_a_posterior_that_does_not_learn_is_not_judged():
    frozen = dataclasses.replace(COLLAPSED, posterior_learns=False)
    assert judge(latent.posterior_collapse, evidence(frozen)) is None


def test_the_number_of_active_units_is_an_argument():
    few = dataclasses.replace(HEALTHY, active_units=3)
    assert judge(latent.posterior_collapse, evidence(few), min_active_units=3) is None
    assert judge(latent.posterior_collapse, evidence(few), min_active_units=4)


# The KL, the decoder and scales.


def test_an_explosion_is_one_of_a_dimension_whatever_their_number():
    text = judge(latent.kl_explosion, evidence(EXPLODED))
    assert "has a KL of 500 nats, all 50 have 524" in text
    # 90 nats in each of 50 dimensions are much, but each of them is near the prior.
    many = dataclasses.replace(HEALTHY, kl=np.full(50, 90.0))
    assert judge(latent.kl_explosion, evidence(many)) is None
    assert judge(latent.kl_explosion, evidence(many), max_kl=80.0)
    # Of a joint KL, the mean over its dimensions counts.
    joint = dataclasses.replace(HEALTHY, kl=np.array([4500.0]))
    assert judge(latent.kl_explosion, evidence(joint)) is None
    assert judge(latent.kl_explosion, evidence(dataclasses.replace(joint, dimensions=40)))


def test_an_explosion_has_to_last_and_to_cost():
    assert judge(latent.kl_explosion, evidence(EXPLODED), before=[]) is None
    assert judge(latent.kl_explosion, evidence(EXPLODED, last=True), before=[])
    falling = dataclasses.replace(EXPLODED, kl=3.0 * EXPLODED.kl)
    assert judge(latent.kl_explosion, evidence(EXPLODED), [evidence(falling)]) is None
    assert judge(latent.kl_explosion, evidence(EXPLODED, last=True), [evidence(falling)])
    early = evidence(EXPLODED, beta=0.01, rule="schedule")
    assert judge(latent.kl_explosion, early) is None


def test_a_dead_decoder_is_no_collapse():
    text = judge(latent.dead_decoder, evidence(DEAD))
    assert text.startswith("reconstructions are the same for every z") and "25 nats" in text
    assert judge(latent.posterior_collapse, evidence(DEAD)) is None
    assert judge(latent.dead_decoder, evidence(COLLAPSED)) is None
    assert judge(latent.dead_decoder, evidence(DEAD, step=499)) is None
    assert judge(latent.dead_decoder, evidence(DEAD), before=[]) is None


def test_a_gradient_of_exactly_zero_is_a_dead_decoder():
    still = dataclasses.replace(HEALTHY, decoder_gradient=0.0)
    assert "exactly zero" in judge(latent.dead_decoder, evidence(still), before=[])
    frozen = dataclasses.replace(HEALTHY, decoder_gradient=None)
    assert judge(latent.dead_decoder, evidence(frozen)) is None


@pytest.mark.parametrize(
    ("modes", "told"),
    [
        pytest.param((77.0, -300.0, 0.003, -310.0), True, id="evaluation sees nothing"),
        pytest.param((20.0, -100.0, 500.0, -900.0), True, id="evaluation explodes"),
        pytest.param((20.0, -100.0, 20.0, -150.0), True, id="statistics of the decoder"),
        pytest.param((30.0, -110.0, 15.0, -90.0), False, id="dropout"),
        pytest.param((30.0, -100.0, 29.0, -110.0), False, id="noise of batches"),
        pytest.param((0.9, -100.0, 0.001, -100.5), False, id="less than a nat"),
    ],
)
def test_training_and_evaluation_mode_apart(modes, told):
    seen = evidence(dataclasses.replace(HEALTHY, modes=Modes(*modes)))
    assert (judge(latent.modes_apart, seen) is not None) == told
    early = dataclasses.replace(seen, step=40)
    assert judge(latent.modes_apart, early) is None
    assert (judge(latent.modes_apart, dataclasses.replace(early, last=True)) is not None) == told
    without = evidence(dataclasses.replace(HEALTHY, modes=None))
    assert judge(latent.modes_apart, without) is None


@pytest.mark.parametrize(
    ("symptom", "field", "bad", "good"),
    [
        (latent.likelihood_scale_at_floor, "scale", 9e-4, 2e-3),
        (latent.posterior_scale_at_floor, "posterior_scale", 1.5e-4, 5e-4),
    ],
)
def test_scales_at_their_floors(symptom, field, bad, good):
    assert judge(symptom, evidence(dataclasses.replace(HEALTHY, **{field: bad})))
    assert judge(symptom, evidence(dataclasses.replace(HEALTHY, **{field: good}))) is None
    assert judge(symptom, evidence(dataclasses.replace(HEALTHY, **{field: None}))) is None


def test_a_kl_without_weight_may_be_as_it_likes():
    """That of InfoVAE has the weight 1 - alpha, and no beta."""
    low = dataclasses.replace(HEALTHY, posterior_scale=1.5e-4)
    light = evidence(low, numbers={}, kl_weight=kv.objectives.InfoVAE(1.0, 10.0).kl_weight)
    heavy = evidence(low, numbers={}, kl_weight=kv.objectives.InfoVAE(0.5, 10.0).kl_weight)
    assert judge(latent.posterior_scale_at_floor, light) is None
    assert judge(latent.posterior_scale_at_floor, heavy)


# Data, steps and numbers.


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (DataRange(0.0, 255.0, 33.0, 78.0), True),
        (DataRange(-1.0, 1.0, -0.74, 0.6), True),
        (DataRange(0.0, 1.0, 0.9, 0.1), False),
        (DataRange(-3.1, 3.3, 0.02, 1.01), False),
        (DataRange(-30.0, 30.0, 0.0, 10.0), True),
    ],
)
def test_data_out_of_range(data, told):
    assert bool(judge(steps.data_out_of_range, evidence(data=data))) == told
    assert judge(steps.data_out_of_range, evidence(data=data), data_range=None) is None
    assert judge(steps.data_out_of_range, evidence(data=data), data_range=(-30, 255)) is None


def test_skipped_steps():
    some = evidence(skips=Skips(2, 31, "the loss", stops=False))
    assert "the loss was not finite; 2 of 31 steps" in judge(steps.non_finite, some)
    assert judge(steps.nothing_but_skips, some) is None
    every = evidence(skips=Skips(31, 31, "the loss", stops=False))
    assert judge(steps.non_finite, every) is None
    assert "all 31 steps" in judge(steps.nothing_but_skips, every)
    stops = evidence(skips=Skips(1, 31, "the loss", stops=True))
    assert "the training stops" in judge(steps.non_finite, stops)
    none = evidence(skips=Skips(0, 0, "the loss", stops=False))
    assert judge(steps.non_finite, none) is None
    assert judge(steps.nothing_but_skips, none) is None


@pytest.mark.parametrize(
    ("value", "constraint", "told"),
    [(1e6, 3.0, True), (1e6, -0.1, False), (1e5, 3.0, False), (1e-6, 3.0, False)],
)
def test_a_multiplier_at_its_bound(value, constraint, told):
    one = [Multiplier("lambda_nll", value, 1e6, constraint)]
    text = judge(steps.multiplier_at_bound, evidence(multipliers=one))
    assert (text is not None) == told
    assert text is None or text.startswith("lambda_nll has reached its bound 1e+06")


@pytest.mark.parametrize(
    ("beta", "rule", "earlier", "told"),
    [
        (0.0, None, 0.0, True),
        (1e-6, None, 1e-6, False),
        (5e-3, "schedule", 0.0, True),
        (0.0, "schedule", 1.0, False),
        (0.5, "schedule", 0.0, False),
        (0.0, "feedback", 0.0, False),
    ],
)
def test_beta_at_the_end(beta, rule, earlier, told):
    # A cycle may end at 0, and feedback at what it likes.
    before = [evidence(beta=earlier, rule=rule)]
    assert (
        bool(judge(steps.beta_still_zero, evidence(beta=beta, rule=rule, last=True), before))
        == told
    )
    assert judge(steps.beta_still_zero, evidence(beta=beta, rule=rule), before) is None
    named = {"objective.beta": Number(beta, rule)}
    before = [evidence(numbers={"objective.beta": Number(earlier, rule)})]
    text = judge(steps.beta_still_zero, evidence(numbers=named, last=True), before)
    assert (text or "").startswith("objective.beta is still") == told


# Groups of latent variables.


def grouped(*kls, units=(5, 5, 5)):
    names = ("z1", "z2", "z3")
    groups = tuple(map(LatentGroup, names, (40, 8, 2), units, kls))
    known = [kl for kl in kls if kl is not None]
    return dataclasses.replace(HEALTHY, kl=np.array(known or [25.0]), groups=groups)


def test_groups_that_hold_nothing_are_named():
    now = evidence(grouped(20.0, 0.004, 0.002))
    text = judge(latent.groups_off, now)
    assert text.startswith("2 of 3 groups of latent variables are switched off (z2, z3): the KL of")
    assert "KLAnnealing" in text and "kl_balancing" in text
    assert judge(latent.groups_off, evidence(grouped(None, None, None, units=(9, 0, 1))))
    assert judge(latent.groups_off, dataclasses.replace(now, last=True), before=[])


def test_groups_are_not_judged_too_early_nor_twice():
    off = grouped(20.0, 0.004, 5.0)
    assert judge(latent.groups_off, evidence(grouped(20.0, 0.02, 5.0))) is None
    assert judge(latent.groups_off, evidence(grouped(0.001, 0.004, 0.001))) is None  # a collapse
    assert judge(latent.groups_off, evidence(off, step=400)) is None  # in the grace
    assert judge(latent.groups_off, evidence(off, beta=0.05, rule="schedule")) is None
    assert judge(latent.groups_off, evidence(off), before=[]) is None


def test_a_group_that_explodes_is_named():
    # 40 dimensions of 30 nats each are no explosion, 2 of 150 nats are one.
    text = judge(latent.kl_explosion, evidence(grouped(1200.0, 3.0, 300.0)))
    assert text.startswith("a latent dimension of the group z3 has a KL of 150 nats")
    assert judge(latent.kl_explosion, evidence(grouped(1200.0, 3.0, 100.0))) is None


def test_a_single_dimension_of_a_large_group_is_seen_to_explode():
    seen = grouped(150.0, 3.0, 20.0)
    kl = np.concatenate([[150.0], np.zeros(39), np.full(8, 3.0 / 8), [10.0, 10.0]])
    one = dataclasses.replace(seen, kl=kl, dimensions=50)
    text = judge(latent.kl_explosion, evidence(one))
    assert text.startswith("a latent dimension of the group z1 has a KL of 150 nats")
    assert judge(latent.kl_explosion, evidence(seen)) is None


def test_a_group_that_explodes_as_a_whole_is_named():
    def judged(now, *earlier):
        before = [evidence(one, step=500 * (i + 1)) for i, one in enumerate(earlier)]
        return judge(latent.kl_explosion, evidence(now), before)

    calm, exploded = grouped(20.0, 3.0, 5.0), grouped(1200.0, 3.0, 5.0)
    text = judged(exploded, calm, calm)
    assert text.startswith("the KL of the group z1 has grown from 20 to 1.2e+03 nats, and recon")
    assert "global_clipnorm" in text
    assert judged(exploded) is None
    assert judged(exploded, grouped(130.0, 3.0, 5.0), calm) is None  # It has been as large before.
    assert judged(grouped(90.0, 3.0, 5.0), grouped(2.0, 3.0, 5.0)) is None
    assert judged(dataclasses.replace(exploded, error=29.0), calm) is None  # It has woken up.
    assert judged(grouped(300.0, 3.0, 5.0), grouped(-50.0, 3.0, 5.0)) is None
    assert judged(grouped(None, None, None), grouped(None, None, None)) is None


def test_spikes_are_told_once_most_steps_are_skipped():
    def judged(skipped, count):
        spikes = Skips(skipped, count, "the norm of the gradient", stops=False)
        return judge(steps.endless_spikes, evidence(spikes=spikes))

    assert judged(3, 31) is None and judged(1, 1) is None
    text = judged(20, 31)
    assert text.startswith("20 of the last 31 steps were skipped, as the norm of the gradient")
    assert "the training stops" not in text and "global_clipnorm" in text
    assert "running median; the training stops" in judged(31, 31)
    short, loud, quiet = (
        evidence(spikes=Skips(skipped, count, "the norm of the gradient", stops=False))
        for skipped, count in ((3, 3), (1, 1), (0, 1))
    )
    assert judge(steps.endless_spikes, short, []).startswith("3 of the last 3"), "it is the end"
    # Epochs of a single step are judged by eight of them.
    assert judge(steps.endless_spikes, loud, [quiet] * 4 + [loud] * 2) is None
    assert judge(steps.endless_spikes, loud, [loud] + [quiet] * 5 + [loud] * 2) is None
    assert judge(steps.endless_spikes, loud, [quiet] * 4 + [loud] * 3).startswith("4 of the last 8")


def test_a_part_that_never_moved():
    moved = {"encoder": 2000, "discriminator": 7}
    assert judge(adversaries.part_never_moved, evidence(last=True, part_steps=moved)) is None
    stood = {**moved, "discriminator": 0}
    text = judge(adversaries.part_never_moved, evidence(last=True, part_steps=stood))
    assert "the discriminator has not made a single step in the 2000" in text
    assert judge(adversaries.part_never_moved, evidence(part_steps=stood)) is None
    none = evidence(last=True, step=0, part_steps=stood)
    assert judge(adversaries.part_never_moved, none, []) is None


def test_an_adversary_that_has_won():
    def told(*accuracies, **limits):
        *before, now = [evidence(accuracy=accuracy) for accuracy in accuracies]
        return judge(adversaries.adversary_has_won, now, before, **limits)

    assert "right about 99.5%" in told(0.7, 0.99, 0.995)
    assert told(0.5, 0.995) is None and told(0.995) is None and told(0.99, 0.6) is None
    assert told(None, None) is None and told(None, 0.99) is None
    assert told(0.99, 0.99, grace=5000) is None
