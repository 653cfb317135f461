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


@pytest.mark.first_is_quick
@pytest.mark.parametrize("name", HEADS)
def test_a_head_frozen_before_the_model_is_made_does_not_learn(cases, name):
    truth = cases.truth()
    ((argument, head),) = HEADS[name]().items()
    head.trainable = False
    case = cases.untrained(truth, truth.sample(50), **{argument: head})
    before = [weight.numpy() for weight in head.weights]
    case.model.compile(keras.optimizers.Adam(0.1), jit_compile=False)
    case.model.fit(case.x, epochs=2, verbose=0)
    for weight, start in zip(head.weights, before, strict=True):
        np.testing.assert_array_equal(weight.numpy(), start)


@pytest.mark.parametrize("name", HEADS)
def test_a_frozen_head_is_still_frozen_when_loaded(cases, tmp_path, name):
    truth = cases.truth()
    ((argument, head),) = HEADS[name]().items()
    model = cases.untrained(truth, truth.sample(4), **{argument: head}).model
    head.trainable = False
    model.save(tmp_path / "model.keras")
    custom = {"SpyingDense": type(model.decoder)}
    loaded = keras.saving.load_model(tmp_path / "model.keras", custom_objects=custom)
    assert not getattr(loaded, f"{argument}_head").trainable
    # What counts is the model's own list, which the optimizer is given.
    names = [[w.path.split("/", 1)[1] for w in m.trainable_variables] for m in (model, loaded)]
    assert names[1] == names[0]
