"""Generation by groups: at a temperature, with some groups given, with some inferred."""

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import keras_vae as kv
from keras_vae.distributions.groups import draw, tempered
from tests.small_models import make_vae, normal_values, randomize

tfd = tfp.distributions

EXACT = {"rtol": 1e-5, "atol": 1e-6}
CHAIN = {
    "posterior": lambda: kv.posteriors.Chain([3, 2], hidden=()),
    "prior": lambda: kv.priors.Chain([3, 2], hidden=()),
}


class Identity(keras.layers.Layer):
    """A decoder of z itself."""

    def call(self, z):
        return tf.identity(z)


def test_the_noise_of_x_is_not_that_of_z():
    # x = z + noise: with the same noise, it would be 2 z.
    model = make_vae(decoder=Identity(), likelihood=kv.likelihoods.Normal((2,), scale=1.0))
    x = model.sample(4000, seed=1, mean=False)
    np.testing.assert_allclose(np.var(x, axis=0), 2.0, rtol=0.15)  # 6.7 standard errors


def layered(**changes):
    """Return a model of two layers, the scales of whose prior are constant."""
    model = make_vae(**{name: make() for name, make in CHAIN.items()}, **changes)
    randomize(model.posterior_head, model.prior_head, model.decoder)
    for layer in model.prior_head.chain.conditionals:
        layer.raw_scale.kernel.assign(tf.zeros_like(layer.raw_scale.kernel))
    return model


def draws(model, **options):
    """Return the z behind `sample`, of which p(x|z) shows but z1."""
    seen = []
    decode = model.decode
    model.decode = lambda z, y=None: (seen.append(z), decode(z, y))[1]
    x = model.sample(16, seed=3, **options)
    del model.decode
    np.testing.assert_array_equal(x, model.decode(seen[0], options.get("y")).mean())
    return model.split(seen[0])


def test_a_temperature_multiplies_the_noise_of_every_group():
    model = layered()
    plain, mean = draws(model), draws(model, temperature=0.0)
    np.testing.assert_array_equal(plain["z1"], draws(model, temperature=1.0)["z1"])
    assert np.all(mean["z2"] == 0.0) and np.ptp(mean["z1"], axis=0).max() == 0.0
    assert np.std(plain["z2"]) > 0.5 and np.std(plain["z1"]) > 0.1
    # A linear chain passes on noise in proportion.
    for name, cool in draws(model, temperature=0.7).items():
        expected = mean[name] + 0.7 * (plain[name] - mean[name])
        np.testing.assert_allclose(cool, expected, **EXACT)


def test_a_temperature_of_one_group_leaves_the_noise_of_the_others():
    model, (layer,) = layered(), layered().prior_head.chain.conditionals
    plain, one = draws(model), draws(model, temperature={"z1": 0.5})
    np.testing.assert_array_equal(one["z2"], plain["z2"])
    centre = layer(plain["z2"]).mean()
    np.testing.assert_allclose(one["z1"] - centre, 0.5 * (plain["z1"] - centre), **EXACT)


def test_given_groups_stay_and_the_rest_is_drawn_from_them():
    model = layered()
    plain = draws(model)
    same = draws(model, given={"z2": plain["z2"]})
    np.testing.assert_array_equal(same["z1"], plain["z1"])
    other = draws(model, given={"z2": np.array([2.0, -1.0])}, temperature=0.0)
    (layer,) = model.prior_head.chain.conditionals
    np.testing.assert_array_equal(other["z2"], np.tile([2.0, -1.0], (16, 1)))
    np.testing.assert_allclose(other["z1"], layer(other["z2"]).mean(), **EXACT)
    lower = draws(model, given={"z1": plain["z1"] + 1.0})
    np.testing.assert_array_equal(lower["z1"], plain["z1"] + 1.0)
    np.testing.assert_array_equal(lower["z2"], plain["z2"])
    both = draws(model, given={name: group + 1.0 for name, group in plain.items()})
    np.testing.assert_array_equal(both["z2"], plain["z2"] + 1.0)


def test_reconstruction_with_groups_of_the_prior():
    model = layered()
    x = np.random.default_rng(0).integers(0, 2, (5, 8, 8, 1)).astype("float32")
    inferred = model.split(model.posterior_head.mean(model.encode(x)))
    np.testing.assert_allclose(
        model.reconstruct(x, keep=["z1", "z2"]), model.reconstruct(x), **EXACT
    )
    (layer,) = model.prior_head.chain.conditionals
    centre = layer(inferred["z2"]).mean()
    found = model.reconstruct(x, keep="z2", temperature=0.0)
    z = model.join({"z1": centre, "z2": inferred["z2"]})
    np.testing.assert_allclose(found, model.decode(z).mean(), **EXACT)
    one, other, again = (model.reconstruct(x, keep="z2", seed=seed) for seed in (1, 2, 1))
    np.testing.assert_array_equal(one, again)
    assert np.abs(one - other).max() > 1e-3


def test_a_single_group_is_one_group():
    model = make_vae()
    z = normal_values(16, 2, dtype="float32")
    np.testing.assert_array_equal(draws(model, given={"z": z})["z"], z)
    plain, cool = draws(model), draws(model, temperature={"z": 0.25})
    np.testing.assert_allclose(cool["z"], 0.25 * plain["z"], **EXACT)


def test_a_condition_gives_each_draw_a_prior_of_its_own():
    model = make_vae(kv.ConditionalVAE, condition=3, prior=kv.priors.ConditionalNormal(2))
    randomize(model.prior_head)
    y = np.arange(16) % 3
    mean, plain, cool = (draws(model, y=y, temperature=t)["z"] for t in (0.0, 1.0, 0.5))
    np.testing.assert_allclose(mean, model.prior(y).mean(), **EXACT)
    np.testing.assert_allclose(cool, mean + 0.5 * (plain - mean), **EXACT)
    x = np.zeros((3, 8, 8, 1), "float32")
    found = model.reconstruct(x, np.arange(3), keep=[], temperature=0.0)
    z = model.prior(np.arange(3)).mean()
    np.testing.assert_allclose(found, model.decode(z, np.arange(3)).mean(), **EXACT)


draws_z2 = {"z2": np.zeros((16, 2), "float32")}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": -0.1}, "`temperature` must be a finite number >= 0. Received"),
        ({"temperature": {"z1": -1}}, "`temperature` must be a finite number >= 0"),
        ({"temperature": {"z3": 1.0}}, r"`temperature` must be of the groups \['z1', 'z2'\]"),
        ({"given": {"z": 0.0}}, r"`given` must be of the groups \['z1', 'z2'\]"),
        ({"given": 1.0}, r"`given` must map names of the groups \['z1', 'z2'\]"),
        ({"given": {"z2": "a"}}, "`given` must be an array of numbers. Received"),
        ({"given": {"z2": [0.0, np.nan]}}, "`given` must hold finite numbers for 'z2'"),
        ({"given": {"z2": [1e300, 0.0]}}, "`given` must hold finite numbers for 'z2'"),
        ({"given": {"z2": np.zeros((4, 2))}}, r"`given` must hold 'z2' of shape \[16, 2\], or"),
        ({"given": {"z2": np.zeros((16, 3))}}, r"or \[2\] for all draws. Received: shape=\(16, 3"),
    ],
)
def test_what_is_asked_for_is_checked(options, message):
    with pytest.raises(ValueError, match=message):
        layered().sample(16, **options)


def test_more_draws_than_a_tensor_has_rows_are_refused():
    with pytest.raises(ValueError, match="`num_samples` must be an integer <= 2147483647. Rec"):
        layered().sample(2**40)


@pytest.mark.parametrize("value", ["a", None, 1j * np.ones((2, 5)), tf.ones([2, 5], tf.complex64)])
def test_z_that_holds_no_real_numbers_is_refused(value):
    model = layered()
    z = model.split(np.zeros((2, 5), "float32"))
    calls = (
        ("z", lambda: model.decode(value)),
        ("z", lambda: model.split(value)),
        ("groups", lambda: model.join({**z, "z1": value})),
    )
    for argument, call in calls:
        with pytest.raises(ValueError, match=f"`{argument}` must be an array of numbers. Rec"):
            call()


def test_z_keeps_its_gradient_and_its_dtype():
    model = layered()
    with tf.GradientTape() as tape:
        z = [tf.Variable(tf.ones([2, 5])), keras.Variable(np.ones((2, 5), "float32"))]
        means = [tf.reduce_sum(model.decode(one).mean()) for one in z]
    gradients = tape.gradient(means, [z[0], z[1].value])
    np.testing.assert_allclose(*gradients, **EXACT)
    assert np.any(gradients[0])
    groups = model.split([[0.5] * 5])
    assert model.join({**groups, "z2": [[0.5, 0.5]]}).dtype == tf.float32


def test_groups_to_keep_are_checked():
    with pytest.raises(ValueError, match=r"`keep` must be of the groups \['z1', 'z2'\]"):
        layered().reconstruct(np.zeros((1, 8, 8, 1)), keep=["top"])


def test_a_prior_that_draws_all_groups_at_once():
    model = make_vae(posterior=CHAIN["posterior"](), prior=kv.priors.StandardNormal(5))
    plain, cool = draws(model), draws(model, temperature=0.5)
    np.testing.assert_allclose(cool["z2"], 0.5 * plain["z2"], **EXACT)
    both = {name: group + 1.0 for name, group in plain.items()}
    np.testing.assert_array_equal(draws(model, given=both)["z1"], both["z1"])
    with pytest.raises(ValueError, match="`given` must hold all groups or none for a prior"):
        model.sample(16, given=draws_z2)
    with pytest.raises(ValueError, match="`temperature` must be one number for a prior"):
        model.sample(16, temperature={"z1": 0.5, "z2": 0.7})


@pytest.mark.parametrize(
    "changes",
    [
        lambda: {"prior": kv.priors.MixtureOfNormals(2, num_components=2)},
        lambda: {"prior": kv.priors.AutoregressiveFlow(2, num_flows=1, hidden_units=(4,))},
        lambda: {
            "posterior": kv.posteriors.Categorical(2, 3, temperature=0.5),
            "prior": kv.priors.Categorical(2, 3),
        },
    ],
    ids=["mixture", "flow", "discrete"],
)
def test_what_has_no_scale_takes_no_temperature(changes):
    model = make_vae(**changes())
    with pytest.raises(ValueError, match=r"`temperature` must be 1 for z of a \w+, which has no"):
        model.sample(4, temperature=0.5)
    assert model.sample(4, temperature=1.0).shape == (4, 8, 8, 1)


def test_scales_of_all_normals_are_multiplied():
    tril = tf.constant([[2.0, 0.0], [1.0, 3.0]])
    for p in (
        tfd.MultivariateNormalTriL([1.0, 2.0], tril),
        tfd.Independent(tfd.Normal([1.0, 2.0], [2.0, 3.0]), 1),
        tfd.MultivariateNormalDiag([1.0, 2.0], [2.0, 3.0]),
    ):
        cool = tempered(p, 0.5)
        np.testing.assert_allclose(cool.mean(), p.mean())
        np.testing.assert_allclose(cool.stddev(), 0.5 * p.stddev())
        np.testing.assert_allclose(draw(p, [1], [0, 1], temperatures={0: 0.0})[0], p.mean())
