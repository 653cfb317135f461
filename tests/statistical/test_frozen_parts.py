"""A head that is frozen does not learn, whenever it was frozen."""

import keras
import numpy as np
import pytest

import keras_vae as kv

HEADS = {
    "mixture prior": lambda: {"prior": kv.priors.MixtureOfNormals(2, num_components=4)},
    "flow prior": lambda: {"prior": kv.priors.AutoregressiveFlow(2, hidden_units=(8,))},
    "VampPrior": lambda: {"prior": kv.priors.VampPrior(2, num_pseudo_inputs=3)},
    "diagonal posterior": lambda: {"posterior": kv.posteriors.DiagonalNormal(2)},
    "full covariance posterior": lambda: {"posterior": kv.posteriors.FullCovarianceNormal(2)},
    "flow posterior": lambda: {"posterior": kv.posteriors.AutoregressiveFlow(2, hidden_units=(8,))},
    "learned scale": lambda: {"likelihood": kv.likelihoods.Normal((5,), scale="shared")},
}


def frozen(cases, name, count=4):
    """Return a case of a model that is made of a frozen head, and that head."""
    ((argument, head),) = HEADS[name]().items()
    head.trainable = False
    truth = cases.truth()
    return cases.untrained(truth, truth.sample(count), **{argument: head}), head


@pytest.mark.parametrize("name", HEADS)
def test_the_optimizer_is_not_given_a_head_frozen_before_the_model_is_made(cases, name):
    case, head = frozen(cases, name)
    learned = {id(weight) for weight in case.model.trainable_variables}
    assert head.weights and learned
    assert not learned & {id(weight) for weight in head.weights}


def test_a_frozen_head_does_not_learn(cases):
    case, head = frozen(cases, "flow posterior")
    before, decoder = head.get_weights(), case.model.decoder.get_weights()
    case.model.compile(keras.optimizers.Adam(0.1), run_eagerly=True)
    case.model.fit(case.x, epochs=2, verbose=0)
    for weight, start in zip(head.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, start)
    assert np.all(case.model.decoder.get_weights()[0] != decoder[0])


@pytest.mark.parametrize("name", ["VampPrior", "flow posterior", "learned scale"])
def test_a_frozen_head_is_still_frozen_when_loaded(cases, tmp_path, name):
    ((argument, head),) = HEADS[name]().items()
    truth = cases.truth()
    model = cases.untrained(truth, truth.sample(4), **{argument: head}).model
    head.trainable = False
    model.save(tmp_path / "model.keras")
    custom = {"SpyingDense": type(model.decoder)}
    loaded = keras.saving.load_model(tmp_path / "model.keras", custom_objects=custom)
    assert not getattr(loaded, f"{argument}_head").trainable
    # What counts is the model's own list, which the optimizer is given.
    names = [[w.path.split("/", 1)[1] for w in m.trainable_variables] for m in (model, loaded)]
    assert names[1] == names[0]
