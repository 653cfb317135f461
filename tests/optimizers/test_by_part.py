"""One optimizer for each part of a model: by_part and PartOptimizer."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_vae as kv
from keras_vae.optimizers import PartOptimizer, RAdam, by_part

Adam, SGD = keras.optimizers.Adam, keras.optimizers.SGD


@pytest.fixture
def gradients():
    """Return random gradients for all trainable variables, for five steps."""

    def make(model, steps=5):
        rng = np.random.default_rng(0)
        shapes = [v.shape for v in model.trainable_variables]
        return [[rng.normal(size=s).astype("float32") for s in shapes] for _ in range(steps)]

    return make


def trained(model, x, epochs=1, **kwargs):
    options = {"batch_size": 8, "shuffle": False, "verbose": 0, **kwargs}
    return model.fit(x, epochs=epochs, **options).history


def values(model):
    return [v.numpy() for v in model.trainable_variables]


def vamp(**changes):
    return {"prior": kv.priors.VampPrior(2, num_pseudo_inputs=3), **changes}


# Which variable belongs where.


def test_parts_of_a_vae(make_vae):
    model = make_vae(**vamp(likelihood=kv.likelihoods.Normal((8, 8, 1), "shared")))
    layers = {
        "encoder": [model.encoder, model.posterior_head],
        "decoder": [model.decoder, model.likelihood_head],
        "prior": [model.prior_head],
    }
    expected = {
        part: [id(v) for layer in its for v in layer.trainable_variables]
        for part, its in layers.items()
    }
    assert {part: [id(v) for v in vs] for part, vs in model.trainable_parts.items()} == expected
    assert all(expected.values())
    assert sum(map(len, expected.values())) == len(model.trainable_variables)


def test_frozen_and_shared_variables(make_vae):
    model = make_vae()
    model.encoder.trainable = False
    assert len(model.trainable_parts["encoder"]) == len(model.posterior_head.trainable_variables)
    condition = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    model = make_vae(kv.ConditionalVAE, condition=condition, prior=kv.priors.ConditionalNormal(2))
    parts = model.trainable_parts
    assert sorted(parts) == ["condition", "decoder", "encoder", "prior"]
    ids = [id(v) for its in parts.values() for v in its]
    assert sorted(ids) == sorted(id(v) for v in model.trainable_variables)


def test_a_layer_of_two_parts_counts_once(make_vae):
    shared = keras.layers.Dense(64)
    model = make_vae(
        encoder=keras.Sequential([keras.layers.Flatten(), shared]),
        decoder=keras.Sequential([keras.layers.Dense(64), shared, keras.layers.Reshape((8, 8, 1))]),
    )
    ids = [id(v) for its in model.trainable_parts.values() for v in its]
    assert len(set(ids)) == len(ids) == len(model.trainable_variables)
    assert {id(v) for v in shared.weights} <= {id(v) for v in model.trainable_parts["encoder"]}


def test_own_models_are_one_part():
    class Own(kv.LatentVariableModel):
        pass

    assert list(Own().trainable_parts) == ["model"]


# Steps.


def test_steps_are_those_of_separate_optimizers(make_vae, gradients):
    def optimizers():
        return {
            "encoder": Adam(1e-2, clipnorm=0.5),
            "decoder": RAdam(3e-2, weight_decay=0.1),
            "prior": SGD(0.5, momentum=0.9, global_clipnorm=1.0),
        }

    one, two = (make_vae(**vamp()) for _ in range(2))
    by_hand, whole = optimizers(), by_part(two, **optimizers())
    for step in gradients(one):
        whole.apply([tf.constant(g) for g in step], two.trainable_variables)
        of = {id(v): g for v, g in zip(one.trainable_variables, step, strict=True)}
        for part, its in one.trainable_parts.items():
            by_hand[part].apply([tf.constant(of[id(v)]) for v in its], its)
    for a, b in zip(values(one), values(two), strict=True):
        np.testing.assert_array_equal(a, b)
    assert int(whole.iterations) == 5


def test_rates_differ(make_vae, gradients):
    model = make_vae()
    before = values(model)
    optimizer = by_part(model, encoder=SGD(0.5), default=SGD(0.25))
    (step,) = gradients(model, 1)
    optimizer.apply(step, model.trainable_variables)
    encoder = {id(v) for v in model.trainable_parts["encoder"]}
    for v, old, g in zip(model.trainable_variables, before, step, strict=True):
        rate = 0.5 if id(v) in encoder else 0.25
        np.testing.assert_allclose(v.numpy(), old - rate * g, rtol=1e-6, atol=1e-6)


@pytest.mark.full
def test_equal_optimizers_are_one(make_vae, x):
    options = {"learning_rate": 0.01, "beta_1": 0.8}
    one, two = make_vae(), make_vae()
    one.compile(Adam(**options), run_eagerly=True)
    two.compile(by_part(two, encoder=Adam(**options), decoder=Adam(**options)), run_eagerly=True)
    assert trained(one, x[:16]) == trained(two, x[:16])
    for a, b in zip(values(one), values(two), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_graph_takes_the_eager_steps(make_vae, gradients):
    found = []
    for compiled in (False, True):
        model = make_vae()
        optimizer = by_part(model, encoder=RAdam(1e-2), decoder=Adam(1e-3))
        optimizer.build(model.trainable_variables)

        def apply(gradients, model=model, optimizer=optimizer):
            optimizer.apply(gradients, model.trainable_variables)

        if compiled:
            apply = tf.function(apply)
        for step in gradients(model, 6):
            apply([tf.constant(g) for g in step])
        found.append(values(model))
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_a_part_without_gradients_stays(make_vae, gradients):
    model = make_vae()
    optimizer = by_part(model, encoder=Adam(0.1), decoder=Adam(0.1, weight_decay=0.1))
    (step,) = gradients(model, 1)
    encoder = {id(v) for v in model.trainable_parts["encoder"]}
    variables = model.trainable_variables
    before = values(model)
    pairs = zip(step, variables, strict=True)
    optimizer.apply([g if id(v) in encoder else None for g, v in pairs], variables)
    for v, old in zip(variables, before, strict=True):
        assert np.any(v.numpy() != old) == (id(v) in encoder)
    with pytest.raises(ValueError, match="`grads` must hold a gradient"):
        optimizer.apply([None] * len(step), variables)


@pytest.mark.full
def test_averages_are_put_in_place(make_vae, x):
    one, two = make_vae(), make_vae()
    options = {"learning_rate": 0.1, "use_ema": True, "ema_momentum": 0.5}
    one.compile(SGD(**options), run_eagerly=True)
    two.compile(by_part(two, encoder=SGD(**options), decoder=SGD(0.1)), run_eagerly=True)
    trained(one, x[:16])
    trained(two, x[:16])
    part = {id(v) for v in two.trainable_parts["encoder"]}
    for a, b in zip(one.trainable_variables, two.trainable_variables, strict=True):
        assert np.array_equal(a.numpy(), b.numpy()) == (id(b) in part)


def test_accumulation_counts_once(make_vae, gradients):
    model = make_vae()
    options = {"learning_rate": 0.1, "gradient_accumulation_steps": 2}
    optimizer = by_part(model, encoder=SGD(**options), decoder=SGD(**options))
    before = values(model)
    steps = gradients(model, 2)
    optimizer.apply(steps[0], model.trainable_variables)
    assert int(optimizer.iterations) == 0
    optimizer.apply(steps[1], model.trainable_variables)
    assert int(optimizer.iterations) == 1
    for v, old, a, b in zip(model.trainable_variables, before, *steps, strict=True):
        np.testing.assert_allclose(v.numpy(), old - 0.1 * (a + b) / 2, rtol=1e-5, atol=1e-6)


# Around it.


@pytest.mark.full
def test_loss_scaling_goes_around(make_vae, x):
    keras.config.set_dtype_policy("mixed_float16")
    model = make_vae()
    model.compile(by_part(model, encoder=Adam(1e-2), decoder=Adam(1e-3)), run_eagerly=True)
    assert isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
    assert set(model.hyperparameters) >= {"encoder.learning_rate", "decoder.learning_rate"}
    before = values(model)
    history = trained(model, x)
    assert np.isfinite(history["loss"]).all()
    assert int(model.optimizer.iterations) >= 1
    assert all(np.any(a != b) for a, b in zip(before, values(model), strict=True))


@pytest.mark.full
def test_a_schedule_drives_the_rate_of_one_part(make_vae, x):
    model = make_vae()
    model.compile(by_part(model, encoder=Adam(1e-2), decoder=Adam(1e-3)), run_eagerly=True)
    schedule = kv.schedules.Linear(0.5, 0.0, steps=4)
    callback = kv.callbacks.HyperparameterSchedule("encoder.learning_rate", schedule)
    history = trained(model, x[:16], callbacks=[callback])
    assert history["encoder.learning_rate"] == [0.375]
    rates = {k: float(v) for k, v in model.optimizer.hyperparameters.items()}
    assert rates == pytest.approx({"encoder.learning_rate": 0.375, "decoder.learning_rate": 1e-3})


def test_rates_by_schedules_of_keras_cannot_be_driven(make_vae):
    model = make_vae()
    schedule = kv.schedules.Linear(0.5, 0.0, steps=4)
    optimizer = by_part(model, encoder=Adam(schedule), decoder=Adam(1e-3))
    assert list(optimizer.hyperparameters) == ["decoder.learning_rate"]
    assert float(optimizer.learning_rate) == 0.5
    optimizer["decoder"].learning_rate = 0.25
    assert float(optimizer.hyperparameters["decoder.learning_rate"]) == 0.25
    with pytest.raises(ValueError, match=r"part by part, as optimizer\['encoder'\]"):
        optimizer.learning_rate = 0.1


def test_tensorboard_logs_it(make_vae, x, tmp_path):
    pytest.importorskip("tensorboard")
    model = make_vae()
    model.compile(by_part(model, encoder=Adam(1e-2), decoder=Adam(1e-3)), run_eagerly=True)
    trained(model, x[:8], callbacks=[keras.callbacks.TensorBoard(tmp_path, write_graph=False)])


# Saved.


@pytest.mark.first_is_quick
@pytest.mark.parametrize("way", ["keras", "weights"])
def test_saved_and_resumed_is_unbroken(make_vae, weights, x, tmp_path, way):
    def compiled():
        model = make_vae(**vamp())
        optimizer = by_part(model, encoder=RAdam(1e-2), decoder=Adam(1e-3), prior=Adam(0.1))
        model.compile(optimizer, run_eagerly=True)
        return model

    x = x[:8]
    whole = compiled()
    trained(whole, x)
    whole.optimizer["encoder"].learning_rate = 0.5
    if way == "keras":
        whole.save(tmp_path / "m.keras")
        # As in another process, where layers get other names.
        keras.layers.Dense(3)
        resumed = keras.saving.load_model(tmp_path / "m.keras")
    else:
        whole.save_weights(tmp_path / "m.weights.h5")
        resumed = compiled()
        resumed.optimizer.build(resumed.trainable_variables)
        resumed.load_weights(tmp_path / "m.weights.h5")
    resumed.run_eagerly = True
    assert float(resumed.optimizer["encoder"].learning_rate) == 0.5
    for model in (whole, resumed):
        trained(model, x)
    assert int(resumed.optimizer.iterations) == 2
    assert len(weights(whole)) > 3 * len(whole.trainable_variables)
    for a, b in zip(weights(whole), weights(resumed), strict=True):
        np.testing.assert_array_equal(a, b)


def test_own_variables_are_all_there_once(make_vae, gradients, tmp_path):
    model = make_vae()
    optimizer = by_part(model, encoder=Adam(1e-2), decoder=Adam(1e-3))
    (step,) = gradients(model, 1)
    optimizer.apply(step, model.trainable_variables)
    store = {}
    optimizer.save_own_variables(store)
    assert len(store) == len(optimizer.variables)
    ids = [id(v) for v in optimizer.variables]
    assert len(set(ids)) == len(ids) == 2 * len(model.trainable_variables) + 2 * 3
    other = type(optimizer).from_config(optimizer.get_config())
    other.build(model.trainable_variables)
    other.load_own_variables(store)
    for a, b in zip(optimizer.variables, other.variables, strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())


def test_config_survives_json(make_vae):
    model = make_vae()
    original = by_part(model, encoder=RAdam(0.25, clipnorm=1.0), default="sgd")
    text = json.dumps(keras.optimizers.serialize(original))
    restored = keras.optimizers.deserialize(json.loads(text))
    assert restored.get_config() == original.get_config()
    encoder = {id(v) for v in model.trainable_parts["encoder"]}
    in_encoder = [id(v) in encoder for v in model.trainable_variables]
    assert restored.parts == tuple("encoder" if its else "default" for its in in_encoder)
    assert restored["encoder"].clipnorm == 1.0


# Errors.


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"encodr": "adam"}, r"`encodr` must be a part of the model, of \['encoder', 'decoder'"),
        ({"encoder": "adam"}, r"`default` must be an optimizer, as \['decoder'\] have none"),
        ({}, r"`default` must be an optimizer, as \['encoder', 'decoder'\] have none"),
        (
            {
                "encoder": lambda: SGD(0.1, gradient_accumulation_steps=2),
                "decoder": lambda: SGD(0.1),
            },
            "`optimizers` must .*agree in their gradient_accumulation_steps.*'encoder': 2",
        ),
        (
            {"default": lambda: keras.optimizers.LossScaleOptimizer(SGD())},
            "`default` must not wrap",
        ),
        ({"default": 3}, "`default` must be a Keras optimizer, its name or conf.*default=3"),
        ({"encoder": "adm", "decoder": "sgd"}, "`encoder` must be a Keras .*encoder='adm'"),
        ({"encoder": None, "decoder": "sgd"}, "`encoder` must be a Keras .*encoder=None"),
        ({"default": lambda: SGD(loss_scale_factor=2.0)}, "`default` must have no loss_scale"),
    ],
)
def test_what_does_not_fit_is_refused(make_vae, given, message):
    made = {part: one() if callable(one) else one for part, one in given.items()}
    with pytest.raises(ValueError, match=message):
        by_part(make_vae(), **made)


def test_optimizers_in_use_are_refused(make_vae):
    model, adam = make_vae(), Adam()
    with pytest.raises(ValueError, match="must differ from part to part"):
        by_part(model, encoder=adam, decoder=adam)
    adam.build(model.trainable_variables)
    with pytest.raises(ValueError, match="`default` must be new"):
        by_part(model, default=adam)
    with pytest.raises(ValueError, match=r"`parts` must be one of .*Received: parts='prior'"):
        PartOptimizer({"encoder": Adam()}, ["encoder", "prior"])
    with pytest.raises(ValueError, match="`optimizers` must be at least one"):
        PartOptimizer({}, [])


def test_layers_frozen_since_are_told(make_vae):
    model = make_vae()
    optimizer = by_part(model, default="sgd")
    model.encoder.trainable = False
    with pytest.raises(ValueError, match="`variables` must be .* make the optimizer anew"):
        optimizer.build(model.trainable_variables)


def test_variables_outside_of_the_parts_need_the_default(make_vae):
    class WithMore(kv.VAE):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            self._tracker.unlock()
            self.more = self.add_weight(shape=(2,), name="more")

    model = make_vae(WithMore)
    with pytest.raises(ValueError, match=r"`default` must be .* as \['\S*more'\] have none"):
        by_part(model, encoder=SGD(), decoder=SGD())
    optimizer = by_part(model, encoder=SGD(), decoder=SGD(), default=SGD())
    assert optimizer.parts.count("default") == 1


def test_unbuilt_models(make_vae):
    class Own(kv.LatentVariableModel):
        pass

    with pytest.raises(ValueError, match=r"`model` must be built.*model.build"):
        by_part(Own(), model=SGD())
    model = make_vae()
    model.built = False
    assert by_part(model, default=SGD()).parts
    assert model.built
