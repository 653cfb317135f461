"""What every class of a kind must do: a check for each kind, called once a class.

What a check wants of a class is the same for all of its kind; what is special to a class, its
formula above all, is in the tests of its room. Examples of the classes are in `tests/registry.py`.
Products of everything with everything are left to the tests marked `full`.
"""

import contextlib
import functools
import inspect
import json
import math

import keras
import numpy as np
import tensorflow as tf

import keras_vae as kv
from keras_vae.distributions.top_down import TopDownPosterior
from keras_vae.training.losses import by_part
from tests import registry
from tests.small_models import normal_values, randomize

POLICIES = ("float32", "float64", "mixed_bfloat16")
FEATURES = 5


# Configurations.


def plain(value):
    """Return a configuration with lists in place of tuples, as JSON has it."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, (list, tuple)) else value


def restored(original):
    """Return what becomes of an object in JSON, which is written twice to the same letter."""
    text = json.dumps(keras.saving.serialize_keras_object(original))
    copy = keras.saving.deserialize_keras_object(json.loads(text))
    assert type(copy) is type(original)
    assert json.dumps(keras.saving.serialize_keras_object(copy)) == text
    return copy


def check_config(name):
    """Check `get_config`, `from_config` and JSON of a public class."""
    original, kind = registry.example(name), registry.saved_classes()[name]
    assert type(original) is kind
    config = original.get_config()
    copy = kind.from_config(config)
    assert type(copy) is kind
    assert plain(copy.get_config()) == plain(config)
    assert plain(original.get_config()) == plain(config), "from_config changed its argument"
    assert plain(restored(original).get_config()) == plain(config)
    check_arguments(kind, registry.ARGUMENTS[name](), config)
    if issubclass(kind, keras.layers.Layer) and not issubclass(kind, keras.Model):
        check_name_and_dtype(name)


def check_arguments(kind, arguments, config):
    """Check that a configuration holds every argument of the constructors of a class."""
    constructors = [
        base.__init__
        for base in kind.__mro__
        if base.__module__.startswith("keras_vae")
        and "__init__" in vars(base)
        and not inspect.isabstract(base)
    ]
    named = {
        name
        for constructor in constructors
        for name, p in inspect.signature(constructor).parameters.items()
        if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY) and name in arguments
    }
    assert named == set(arguments) <= set(config), "an argument is not in the configuration"
    for name, value in arguments.items():
        if isinstance(value, (int, float, str, tuple)) and name != "condition":
            assert config[name] == value or list(config[name]) == list(value), name


def check_name_and_dtype(name):
    """Check that JSON keeps what every Keras layer has."""
    for policy in ("mixed_bfloat16", "float64"):
        original = registry.example(name, name="mine", dtype=policy)
        copy = restored(original)
        assert copy.name == "mine" and copy.dtype_policy.name == policy
        assert copy.compute_dtype == original.compute_dtype
        assert copy.variable_dtype == original.variable_dtype


# Layers: the same numbers in every way of running and in every precision.


def in_mode(function, mode):
    """Return a function as it is, as a graph, or compiled by XLA."""
    if mode == "eager":
        return function
    return tf.function(function, jit_compile=mode == "xla", autograph=False)


def with_gradients(function, weights):
    """Return what a function computes, and the gradient of the sum of its squares."""
    with tf.GradientTape() as tape:
        values = function()
        loss = tf.add_n([tf.reduce_sum(tf.cast(v, "float64") ** 2) for v in values])
    return values, tape.gradient(loss, [weight.value for weight in weights])


def check_modes(function, weights, draw=lambda: None, mode="xla", rtol=1e-4):
    """Check that eager and compiled agree, and that gradients reach every weight.

    What `draw` gives is compiled as well, but not compared: XLA has a generator of its own.
    """
    expected, gradients = with_gradients(function, weights)
    check_gradients(weights, gradients)
    (found, slopes), z = in_mode(lambda: (with_gradients(function, weights), draw()), mode)()
    assert z is None or np.all(np.isfinite(z))
    for one, other in zip([*expected, *gradients], [*found, *slopes], strict=True):
        scale = np.abs(one).max()  # XLA sums in another order
        np.testing.assert_allclose(other, one, rtol=rtol, atol=rtol * scale)


def check_gradients(weights, gradients):
    """Check that no weight is left without a gradient."""
    for weight, gradient in zip(weights, gradients, strict=True):
        assert gradient is not None, f"no gradient reaches {weight.path}"
        assert np.all(np.isfinite(gradient)), weight.path
        assert np.any(gradient != 0.0), weight.path


def check_precisions(make, outputs, dtypes):
    """Check that outputs of each policy have their dtype, and the numbers of float32.

    Args:
        make: From the name of a policy to a built layer.
        outputs: From a layer to tensors without noise.
        dtypes: The dtype of the outputs for each policy besides float32.
    """
    layer = make("float32")
    randomize(layer)
    expected = outputs(layer)
    assert {value.dtype.name for value in expected} == {"float32"}
    for policy, dtype in dtypes.items():
        other = make(policy)
        for mine, theirs in zip(other.weights, layer.weights, strict=True):
            assert mine.dtype == ("float64" if policy == "float64" else "float32")
            mine.assign(theirs.numpy())
        # bfloat16 has 8 significant bits: networks of 3 layers keep about 2 digits.
        tolerance = {"float64": 1e-4, "mixed_bfloat16": 4e-2}[policy]
        for found, value in zip(outputs(other), expected, strict=True):
            assert found.dtype.name == dtype, policy
            scale, found = np.abs(value).max(), tf.cast(found, "float64")
            np.testing.assert_allclose(found, value, tolerance, tolerance * scale, err_msg=policy)


DENSITIES = {"float64": "float64", "mixed_bfloat16": "float32"}
ACTIVATIONS = {"float64": "float64", "mixed_bfloat16": "bfloat16"}


def check_draws(distribution, weights, reparameterized=True):
    """Check that draws repeat with their seed and, where they should, lead to the weights."""
    p = distribution()
    z = p.sample(3, seed=[0, 1])
    assert z.shape == (3, *p.batch_shape, *p.event_shape) and z.dtype == p.dtype
    assert p.log_prob(z).shape == (3, *p.batch_shape)
    assert np.all(np.isfinite(p.log_prob(z)))
    np.testing.assert_array_equal(z, p.sample(3, seed=[0, 1]))
    if reparameterized and weights:
        draw = lambda: [distribution().sample(3, seed=[0, 1])]  # noqa: E731
        check_gradients(weights, with_gradients(draw, weights)[1])


def check_build_config(layer):
    """Check that JSON of a built layer restores its weights, to be loaded from a file."""
    copy = restored(layer)
    assert copy.built and [w.shape for w in copy.weights] == [w.shape for w in layer.weights]


# Heads.


def made_posterior(name, dtype):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(dtype)  # which the heads that it is made of follow
    head = registry.example(name, dtype=dtype)
    keras.config.set_dtype_policy(before)
    head.build((None, *features_of(head).shape[1:]))
    return head


def features_of(head):
    """Return features: maps for what quantizes maps."""
    shape = (2, 2) if isinstance(head, kv.posteriors.Quantizer) else ()
    return normal_values(4, *shape, FEATURES, dtype="float32")


def check_posterior(name):
    """Check a head for q(z|x): shapes, precisions, modes, gradients, and huge features."""
    head = made_posterior(name, "float32")
    if isinstance(head, kv.posteriors.Quantizer):
        check_quantizer(name, head)
        return
    h = features_of(head)
    z = head(h).sample(3, seed=[0, 1])
    assert head(h).event_shape == head.event_shape == z.shape[2:]

    def densities(head):
        return [head(h).log_prob(tf.cast(tf.identity(z), head.density_dtype))]

    check_precisions(lambda dtype: made_posterior(name, dtype), densities, DENSITIES)
    check_build_config(head)
    check_shapes_in_a_graph(head)
    check_draws(lambda: head(h), head.trainable_weights, not head.discrete)
    randomize(head)
    check_modes(
        lambda: densities(head), head.trainable_weights, lambda: head(h).sample(seed=[0, 1])
    )
    for moment in (head.mean, head.stddev):
        assert moment(head(h)).shape == (4, *head.event_shape)
    assert np.all(np.isfinite(head(1e4 * h).log_prob(head(1e4 * h).sample(seed=[0, 1]))))
    maps = registry.example(name)
    maps.build((None, 1, FEATURES, 1))
    maps.set_weights(head.get_weights())
    np.testing.assert_allclose(maps(h[:, None, :, None]).log_prob(z), *densities(head), rtol=1e-5)


def check_quantizer(name, head):
    """Check a quantizer: precisions, modes, gradients, and that codes stand for what is decoded."""
    h = features_of(head)

    def outputs(head):
        found = head.quantize_features(tf.cast(h, head.compute_dtype))
        return [found.embedded, found.commitment, found.penalty]

    # Not bfloat16, in which another code may be the nearest.
    check_precisions(lambda dtype: made_posterior(name, dtype), outputs, {"float64": "float64"})
    mixed = outputs(made_posterior(name, "mixed_bfloat16"))
    assert {value.dtype.name for value in mixed} == {"float32"}
    check_build_config(head)
    check_shapes_in_a_graph(head)
    check_draws(lambda: head(h), [], reparameterized=False)
    randomize(head)
    check_modes(lambda: outputs(head), head.trainable_weights, lambda: head(h).sample(seed=[0, 1]))
    z = head(h).sample(seed=[0, 1])
    assert z.dtype == tf.int32 and z.shape == (4, *head.event_shape)
    np.testing.assert_array_equal(head.embed(z), outputs(head)[0])
    assert outputs(head)[0].shape[1:] == head.decoder_input_shape
    for moment in (head.mean, head.stddev):
        assert moment(head(h)).shape == (4, *head.event_shape)


def check_shapes_in_a_graph(head):
    """Check that static shapes survive an unknown batch and an unknown number of draws."""

    def draw(h, count):
        z = head(h, training=True).sample(count, seed=[0, 1])
        assert z.shape.rank == 2 + len(head.event_shape) and z.shape[2:] == head.event_shape
        return z

    any_features = tf.TensorSpec([None, *features_of(head).shape[1:]])
    any_batch = any_features, tf.TensorSpec([], tf.int32)
    tf.function(draw, autograph=False).get_concrete_function(*any_batch)


INPUT_SHAPE = (2, 3)


@contextlib.contextmanager
def global_policy(name):
    """Let layers have this policy unless they are told another."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def made_prior(name, dtype):
    with global_policy(dtype):  # for priors that a prior is made of
        head = registry.example(name, dtype=dtype)
    head.build((None, *INPUT_SHAPE), (None, FEATURES))
    return head


def inference(posterior="posteriors.DiagonalNormal", dtype="float32"):
    """Return a small model's way from encoder inputs `[K, 2, 3]` to q(z|x), and its layers."""
    flatten = keras.layers.Flatten(dtype=dtype)
    encoder = keras.layers.Dense(FEATURES, activation="tanh", dtype=dtype)
    encoder.build((None, int(np.prod(INPUT_SHAPE))))
    head = made_posterior(posterior, dtype)
    randomize(encoder, head)
    return lambda x: head(encoder(flatten(x))), [encoder, head]


def check_prior(name):
    """Check a head for p(z): shapes, precisions, modes and gradients."""
    head = made_prior(name, "float32")
    infer = {dtype: inference(dtype=dtype)[0] for dtype in POLICIES}
    y = normal_values(4, FEATURES, dtype="float32")

    def prior(head):
        condition = tf.cast(y, head.compute_dtype)
        return head(condition=condition, infer=infer[head.dtype_policy.name])

    z = prior(head).sample(4, seed=[0, 1])
    if prior(head).batch_shape:  # one p(z|y) an example
        z = z[0]
    assert prior(head).event_shape == head.event_shape

    def densities(head):
        return [prior(head).log_prob(tf.cast(tf.identity(z), head.density_dtype))]

    check_precisions(lambda dtype: made_prior(name, dtype), densities, DENSITIES)
    check_build_config(head)
    check_draws(lambda: prior(head), [])
    randomize(head)
    draw = lambda: prior(head).sample(seed=[0, 1])  # noqa: E731
    if isinstance(head, kv.priors.TwoStage):  # whose density has noise
        check_modes(lambda: densities(head), head.trainable_weights, draw, "graph")
        _, gradients = in_mode(
            lambda: with_gradients(lambda: densities(head), head.weights), "xla"
        )()
        check_gradients(head.weights, gradients)
    else:
        check_modes(lambda: densities(head), head.trainable_weights, draw)


# Networks.


def network_input(name):
    encodes = name.endswith(("Encoder", "BottomUp", "Block", "Cell", "Discriminator"))
    shape = (*registry.SHAPE[:2], 4) if name.endswith(("Block", "Cell")) else registry.SHAPE
    size = math.prod(registry.SHAPE[:2]) // 2 + 2 if name.endswith("TopDown") else 4
    given = (2, 2, 4) if name.endswith("MapDecoder") else (size,)
    return normal_values(3, *(shape if encodes else given), dtype="float32")


def made_network(name, dtype):
    network = registry.example(name, dtype=dtype)
    if isinstance(network, kv.networks.TopDown):
        network.build([(None, 4, 4, 4), (None, 1, 1, 6)], registry.SHAPE)
    else:
        network.build((None, *network_input(name).shape[1:]))
    return network


def outputs_of(network, x):
    """Return the outputs of a network, one or several, as a list."""
    if isinstance(network, kv.networks.TopDown):
        return outputs_of_passes(network, x)
    return tf.nest.flatten(network(x, training=True))


def outputs_of_passes(network, z):
    """Return what generation and inference make of z in a top-down network, which has weights."""
    maps = [normal_values(3, 4, 4, 4), normal_values(3, 1, 1, 6)]
    contexts = network.contexts([tf.cast(one[: len(z)], network.compute_dtype) for one in maps])
    values = tf.split(tf.cast(z, network.density_dtype), network.group_sizes, axis=-1)
    scored = TopDownPosterior(network, contexts).score(lambda position, _: values[position])
    densities = (tf.cast(one, network.compute_dtype) for one in (scored.log_q, scored.log_p))
    return [network(z, training=True), *densities]


def check_network(name, tmp_path):
    """Check an encoder, a decoder or a layer of one: weights, files, precisions and modes."""
    network, x = made_network(name, "float32"), network_input(name)
    randomize(network)
    count = len(network.weights)
    together = outputs_of(network, x)
    assert len(network.weights) == count > 0, "a weight is made by the first call only"
    shapes = network.compute_output_shape((None, *x.shape[1:]))
    shapes = shapes if isinstance(shapes, list) else [shapes]
    assert shapes == [(None, *one.shape[1:]) for one in together[: len(shapes)]]
    for one, alone in zip(together, outputs_of(network, x[:1]), strict=True):
        # Examples do not see each other.
        np.testing.assert_allclose(one[:1], alone, rtol=1e-4, atol=1e-4)
    check_precisions(
        lambda dtype: made_network(name, dtype), lambda n: outputs_of(n, x), ACTIVATIONS
    )
    inner = getattr(made_network(name, "mixed_bfloat16"), "chain", [])
    assert {layer.dtype_policy.name for layer in inner} <= {"mixed_bfloat16"}
    check_modes(lambda: outputs_of(network, x), network.trainable_weights)
    if isinstance(network, keras.Model):
        network.save(tmp_path / "network.keras")
        copy = keras.saving.load_model(tmp_path / "network.keras")
        assert type(copy) is type(network)
        assert plain(copy.get_config()) == plain(network.get_config())
        for one, other in zip(outputs_of(copy, x), together, strict=True):
            np.testing.assert_array_equal(one, other)


@functools.cache
def rooms():
    """Return how the outputs of a layer of each room are had."""
    return {"posteriors": posterior_outputs, "priors": prior_outputs, "networks": network_outputs}


def posterior_outputs(name, policy):
    head = made_posterior(name, policy)
    h = tf.cast(features_of(head), head.compute_dtype)
    if isinstance(head, kv.posteriors.Quantizer):
        return head, lambda: list(head.quantize_features(h)[1:4])
    z = head(h).sample(seed=[0, 1])
    return head, lambda: [head(h).log_prob(tf.identity(z))]


def prior_outputs(name, policy):
    head, infer = made_prior(name, policy), inference(dtype=policy)[0]
    given = {"condition": tf.cast(normal_values(4, FEATURES), head.compute_dtype), "infer": infer}
    z = head(**given).sample(seed=[0, 1])
    return head, lambda: [head(**given).log_prob(tf.identity(z))]


def network_outputs(name, policy):
    network, x = made_network(name, policy), network_input(name)
    return network, lambda: outputs_of(network, x)


# Objectives.


def objectives():
    """Return the examples of all objectives, and every estimator of the bounds."""
    rooms = "objectives.", ("SquaredError", "NegativeLogLikelihood", "FeatureMatch", "Distance")
    names = [n for n in registry.ARGUMENTS if n.startswith(rooms[0]) and not n.endswith(rooms[1])]
    # The sum of the one is over all z, which must be discrete; the other wants a fixed scale.
    apart = ("objectives.ExactMarginal", "objectives.LearnedSimilarity")
    made = {name: registry.example(name) for name in names if name not in apart}
    for estimator in kv.objectives.estimators.ESTIMATORS:
        if estimator != "doubly_reparameterized":
            made[f"ELBO {estimator}"] = kv.objectives.ELBO(num_samples=3, estimator=estimator)
        bound = kv.objectives.ImportanceWeighted(3, estimator, num_groups=2)
        made[f"L_3 {estimator}"] = bound
    return made


def check_objectives(model, x, made):
    """Check that all objectives are finite, teach every weight, and are the same compiled.

    All in one function, as a compilation by XLA takes as long for one. The model has no noise.
    """
    weights = model.trainable_weights
    for objective in made.values():
        objective.build_for(model)

    def losses_and_gradients(x):
        found = []
        for objective in made.values():
            own = [layer for layers in objective.parts.values() for layer in layers]
            taught = [*weights, *(w for layer in own for w in layer.trainable_weights)]
            with tf.GradientTape() as tape:
                terms = model.compute_terms(x, objective.num_samples, training=True, seed=1)
                loss, measures = objective.loss_and_measures(terms)
                losses = [*by_part(loss, objective.loss_parts).values()]
                total = tf.add_n([tf.reduce_mean(loss) for loss in losses])
            assert tuple(measures) == tuple(objective.measure_names)
            assert all(value.shape.rank == 1 for value in (*losses, *measures.values()))
            gradients = tape.gradient(total, [weight.value for weight in taught])
            check_gradients(taught, gradients) if tf.executing_eagerly() else None
            found.append([*losses, *measures.values(), *gradients])
        return found

    expected = losses_and_gradients(x)
    for name, values in zip(made, expected, strict=True):
        assert len(values[0]) == len(x)
        assert all(np.all(np.isfinite(value)) for value in values), name
    any_batch = [tf.TensorSpec([None, *x.shape[1:]], x.dtype)]
    found = tf.function(losses_and_gradients, any_batch, autograph=False, jit_compile=True)(x)
    for name, one, other in zip(made, expected, found, strict=True):
        for a, b in zip(one, other, strict=True):
            scale = np.abs(a).max() + 1e-3
            np.testing.assert_allclose(b, a, 1e-4, 1e-4 * scale, err_msg=name)


def check_objective_dtype(objective, model, x):
    """Check that a loss has the dtype of densities in a model of the global policy."""
    objective.build_for(model)
    loss = objective.loss(model.compute_terms(x, objective.num_samples, training=True, seed=1))
    for one in by_part(loss, objective.loss_parts).values():
        assert one.dtype == model.posterior_head.density_dtype and np.all(np.isfinite(one))


# Estimates.


def check_estimates_sum_to_one(model, x, num_samples, bound):
    """Check that unbiased estimates of p(x) sum to 1 over all x, which fails once in 16,000 seeds.

    Args:
        model: A model whose data have finitely many values.
        x: All of them.
        num_samples: Number of draws of z for each.
        bound: What 4 standard errors must be below, as a check without precision says nothing.
    """
    weights = np.exp(model.log_weights(x, num_samples=num_samples, seed=1))
    error = np.sqrt(weights.var(axis=0).sum() / num_samples)
    # At 4 standard errors: 6.3e-5 for a new seed.
    assert abs(weights.mean(axis=0).sum() - 1.0) < 4.0 * error < bound


def signal_to_noise(gradients):
    """Return |E g| / sqrt(E |g - E g|^2) of gradients `[N, P]`, less the noise of the mean."""
    variance = gradients.var(axis=0, ddof=1)
    signal = np.square(gradients.mean(axis=0)) - variance / len(gradients)
    return np.sqrt(max(signal.sum(), 0.0) / variance.sum())
