"""Evaluation of models with several groups of latent variables, and of groups that are maps."""

import numpy as np
import pytest
import tensorflow as tf

import keras_vae as kv
from keras_vae.evaluation.active_units import units_of
from tests.small_models import binary_images, make_vae, randomize


def layered():
    dims = {"latent_dims": (3, 2), "hidden": (4,)}
    model = make_vae(posterior=kv.posteriors.Chain(**dims), prior=kv.priors.Chain(**dims))
    randomize(model.posterior_head)
    return model


@pytest.mark.full
def test_a_report_has_the_rate_and_the_active_units_of_each_group():
    model, x = layered(), binary_images(20)
    options = {"only": ["ELBO", "active units"], "budget": None, "verbose": False}
    summary = kv.evaluation.report(model, x, **options)
    rows = {row.name: row for rows in summary.sections.values() for row in rows}
    assert rows["rate"].value == pytest.approx(rows["rate of z1"].value + rows["rate of z2"].value)
    units = kv.evaluation.active_units(model, x)
    assert rows["active units of z1"].value == np.sum(units.active[:3])
    assert rows["active units of z2"].value == np.sum(units.active[3:])
    assert rows["active units"].value == units.count == np.sum(units.active)


@pytest.mark.full
def test_the_mean_kl_is_that_of_all_groups():
    tf.config.run_functions_eagerly(True)
    model, x = layered(), binary_images(20)
    found = kv.evaluation.mean_kl(model, x, num_samples=2000, verbose=False)
    terms = model.compute_terms(model.standardize(x)[0], num_samples=2000, seed=9)
    assert terms.kl.shape == (20, 2)
    # Two estimates by 20 times 2,000 draws each, whose log-ratios vary by a few nats.
    assert found.mean == pytest.approx(float(np.mean(terms.kl_total)), abs=0.1)


def test_what_has_no_meaning_for_maps_is_refused():
    model = kv.HierarchicalVAE(
        bottom_up=kv.networks.BottomUp({4: 4, 1: 4}),
        top_down=kv.networks.TopDown({1: (1, 2), 4: (1, 1)}),
        likelihood=kv.likelihoods.Bernoulli((8, 8, 1)),
    )
    x = binary_images(4)
    with pytest.raises(ValueError, match="must have latent variables that are vectors: chains of"):
        kv.evaluation.annealed_importance_sampling(model, x, 10, 2)
    factors = kv.data.FactorData(x, np.array([[0, 0], [0, 1], [1, 0], [1, 1]]))
    with pytest.raises(ValueError, match="must have latent variables that are vectors: a factor"):
        kv.evaluation.disentanglement_scores(model, factors)


def test_a_unit_is_active_by_its_variance_and_not_by_its_deviation():
    # The variances of the means are 0.0049 and 0.0121.
    means = np.array([[-0.07, -0.11], [0.07, 0.11]])
    units = units_of(means, threshold=0.01)
    assert units.active.tolist() == [False, True] and units.count == 1
    # With classes, one of them is enough.
    classes = np.stack([means, 0.1 * means], axis=-1)
    assert units_of(classes, threshold=0.01).active.tolist() == [False, True]
