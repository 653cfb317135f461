"""What terms give to a step besides densities: a penalty, measures, and statistics of the state."""

import numpy as np
import pytest
import tensorflow as tf

import keras_vae as kv
from tests.small_models import binary_images, make_vae


class CountingVAE(kv.VAE):
    """A VAE that counts the bright pixels of all training batches, and penalizes their share."""

    measure_names = ("share",)

    def build(self, input_shape):
        self.total = self.add_weight(
            name="total", initializer="zeros", trainable=False, aggregation="only_first_replica"
        )
        super().build(input_shape)

    def compute_terms(self, x, *args, **kwargs):
        share = tf.reduce_mean(x, axis=(1, 2, 3))
        statistics = {"bright": tf.reduce_sum(x)}
        terms = super().compute_terms(x, *args, **kwargs)
        return terms._replace(penalty=share, measured={"share": share}, statistics=statistics)

    def state_updates(self, statistics):
        return [(self.total, self.total + statistics["bright"])]


@pytest.fixture(scope="module")
def x():
    return binary_images(12)


EXECUTIONS = ({"run_eagerly": True}, {"jit_compile": True})


@pytest.mark.first_is_quick
@pytest.mark.parametrize("execution", EXECUTIONS, ids=str)
def test_the_step_adds_the_penalty_and_assigns_the_state_once_a_batch(x, execution):
    model = make_vae(CountingVAE)
    model.compile("adam", **execution)
    logs = model.fit(x, epochs=2, batch_size=4, verbose=0).history
    assert model.total.numpy() == 2 * x.sum()
    assert logs["share"] == pytest.approx([x.mean()] * 2)
    np.testing.assert_allclose(np.add(logs["loss"], logs["elbo"]), logs["share"], rtol=1e-4)
    logs = model.evaluate(x, verbose=0, return_dict=True)
    assert logs["loss"] + logs["elbo"] == pytest.approx(logs["share"], rel=1e-4)
    assert model.total.numpy() == 2 * x.sum(), "evaluation moved the state"


@pytest.mark.full
def test_replicas_add_up_their_statistics(replicas, x):
    with replicas.scope():
        model = make_vae(CountingVAE)
        model.compile("adam")
    model.fit(x, batch_size=5, verbose=0)
    assert model.total.numpy() == x.sum()


@pytest.mark.full
def test_a_step_that_is_left_out_leaves_the_state_as_it_was(x):
    class Broken(CountingVAE):
        def compute_terms(self, x, *args, **kwargs):
            terms = super().compute_terms(x, *args, **kwargs)
            first = self.trained_batches < 1
            return terms._replace(penalty=terms.penalty * tf.where(first, np.nan, 1.0))

    model = make_vae(Broken)
    model.compile("adam", run_eagerly=True)
    before = [v.numpy() for v in model.trainable_variables]
    with pytest.raises(ArithmeticError, match="the penalty is not finite"):
        model.fit(x, batch_size=4, verbose=0)
    assert model.total.numpy() == 0.0
    for variable, old in zip(model.trainable_variables, before, strict=True):
        np.testing.assert_array_equal(variable, old)
    check = kv.callbacks.HealthCheck(x, non_finite="skip")
    model.fit(x, batch_size=4, shuffle=False, verbose=0, callbacks=[check])
    assert model.total.numpy() == x[4:].sum()
