"""The range test: its rules on curves, its rates in each step, and that it leaves no trace."""

import inspect

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_vae as kv
from keras_vae.learning_rate_range import has_diverged, smooth, suggest

RATES = np.geomspace(1e-6, 1.0, 200)
DECADE = 199 / 6  # steps


class Quadratic(kv.LatentVariableModel):
    """The loss 1/2 sum_d h_d (w_d - x_d)^2, whose curvature is h."""

    def __init__(self, curvature=(1.0,), **kwargs):
        super().__init__(**kwargs)
        self.curvature = tf.constant(curvature, tf.float32)

    def build(self, input_shape):
        self.w = self.add_weight(shape=self.curvature.shape, initializer="ones", name="w")
        self.built = True

    def standardize(self, x, y=None):
        return tf.convert_to_tensor(x), None

    def check_support(self, x, y=None):
        return x, y

    def compute_terms(self, x, num_samples=1, training=False, seed=0, y=None):
        seen(self)
        log_p_x = -0.5 * tf.reduce_sum(self.curvature * (self.w - x) ** 2, axis=-1)[tf.newaxis]
        zero = tf.zeros_like(log_p_x)
        return kv.Terms(log_p_x, zero, zero, tf.zeros_like(x))


USED = []


def seen(model):
    """Write down the learning rate that a step of the model has."""
    if model.record:
        tf.numpy_function(lambda rate: USED.append(rate), [model.optimizer.learning_rate], [])


Quadratic.record = False


def quadratic(optimizer=None, run_eagerly=True, **kwargs):
    model = Quadratic(**kwargs)
    model.compile(optimizer or keras.optimizers.SGD(0.01), run_eagerly=run_eagerly)
    return model


def points(size=64, dimensions=1, scale=0.1):
    return np.random.default_rng(0).normal(0, scale, [size, dimensions]).astype("float32")


def find(model, data, **kwargs):
    return kv.find_learning_rate(model, data, **{"verbose": 0, "steps": 20, **kwargs})


# The rules on curves.


def valley(level=10.0, bottom=2.0, start=1e-4, end=1e-2, turn=1e-1, noise=0.0, seed=0):
    """Return losses: level, a line down on the log scale, flat, and far up beyond a rate."""
    fraction = np.clip(np.log(RATES / start) / np.log(end / start), 0.0, 1.0)
    losses = level + (bottom - level) * fraction + np.where(turn < RATES, 100.0, 0.0)
    return losses + noise * np.random.default_rng(seed).normal(size=len(RATES))


def test_the_rates_of_a_curve_without_noise():
    base, top = suggest(RATES, valley(), 0.0, diverged=True)
    # A tenth of the fall is made after a tenth of two decades; both to one step of the sweep.
    assert 1e-4 * 10 ** (0.2 - 1 / DECADE) <= base <= 1e-4 * 10**0.2
    assert 1e-1 * 10 ** (-0.5 - 1 / DECADE) <= top <= 1e-1 * 10**-0.5


@pytest.mark.parametrize(("scale", "shift"), [(1.0, -1000.0), (1e-3, 0.0), (50.0, 300.0)])
def test_units_and_constants_of_the_loss_do_not_matter(scale, shift):
    losses = valley(noise=0.2)
    changed = scale * losses + shift
    assert suggest(RATES, changed, 0.9, False) == suggest(RATES, losses, 0.9, False)
    for end in range(10, 200, 3):
        arguments = 0.9, 0.5
        assert has_diverged(changed[:end], *arguments) == has_diverged(losses[:end], *arguments)


def test_the_rates_of_a_noisy_curve():
    for seed in range(20):
        base, top = suggest(RATES, valley(noise=0.5, seed=seed), 0.9, diverged=True)
        # The moving average is 9 steps late: 0.27 of a decade.
        assert 1e-4 < base < 5e-4, seed
        assert 1e-1 / 10**0.75 < top <= 1e-1 / 10**0.4, seed


def test_a_spike_within_the_descent_ends_nothing():
    losses = valley()
    losses[110] += 16.0  # at 2e-3, by twice the fall
    assert suggest(RATES, losses, 0.9, True) == suggest(RATES, valley(), 0.9, True)
    assert not has_diverged(losses[:115], 0.9, 4.0)


@pytest.mark.parametrize("smoothing", [0.0, 0.9, 0.98])
def test_noise_alone_suggests_nothing(smoothing):
    # Beyond 5 standard deviations: less than 200 * 3e-7 each, and there are 50.
    for seed in range(50):
        losses = -50.0 + np.random.default_rng(seed).normal(size=200)
        with pytest.warns(UserWarning, match="did not fall"):
            assert suggest(RATES, losses, smoothing, False) == (None, None)
        assert not any(has_diverged(losses[:end], smoothing, 4.0) for end in range(1, 200, 20))


@pytest.mark.parametrize(
    "losses",
    [np.full(200, 3.0), np.linspace(1.0, 9.0, 200), np.array([5.0, 1.0, 90.0]), np.array([7.0])],
    ids=["flat", "rising", "three losses", "one loss"],
)
def test_without_a_descent_nothing_is_suggested(losses):
    with pytest.warns(UserWarning, match="did not fall"):
        assert suggest(RATES[: len(losses)], losses, 0.9, True) == (None, None)


def test_a_loss_that_falls_to_the_end():
    losses = np.linspace(-3.0, -9.0, 200)
    with pytest.warns(UserWarning, match="larger `max`"):
        base, top = suggest(RATES, losses, 0.0, diverged=False)
    assert base == pytest.approx(RATES[20], rel=0.4)
    assert top == RATES[-1]
    # By a loss that was not finite: there are no losses of the divergence.
    _, top = suggest(RATES, losses, 0.0, diverged=True)
    assert top == pytest.approx(RATES[-1] / 10**0.5)


def test_the_rates_are_in_order_where_the_descent_is_short():
    base, top = suggest(RATES, valley(start=1e-3, end=1.5e-3, turn=1.5e-3), 0.0, diverged=True)
    assert 1e-3 * 0.9 < base < top < 1.5e-3


def test_divergence_is_a_rise_in_multiples_of_the_fall():
    def diverged(last):
        return has_diverged([*np.linspace(-500.0, -900.0, 30), last], 0.0, 4.0)

    # From the level, -555 or so, to -900; four times the best loss would be -3600.
    assert not diverged(450.0)
    assert diverged(850.0)


def test_smoothing_is_a_weighted_mean_of_what_there_is():
    losses = np.array([3.0, -1.0, 4.0, 1.0])
    for n, found in enumerate(smooth(losses, 0.8)):
        assert found == pytest.approx(
            np.average(losses[: n + 1], weights=0.8 ** np.arange(n, -1, -1))
        )


# The sweep.


@pytest.mark.first_is_quick
@pytest.mark.parametrize(
    ("sweep", "space", "accumulation"),
    [("exponential", np.geomspace, 3), ("linear", np.linspace, None)],
)
def test_the_rate_is_exact_at_every_step(monkeypatch, sweep, space, accumulation):
    USED.clear()
    optimizer = keras.optimizers.SGD(0.01, gradient_accumulation_steps=accumulation)
    model = quadratic(optimizer, run_eagerly=False)
    model.fit(points(), batch_size=8, epochs=3, verbose=0)  # 24 batches: iterations are not 0
    monkeypatch.setattr(Quadratic, "record", True)
    found = find(model, points(), min=1e-3, max=1e-1, steps=25, sweep=sweep, batch_size=8)
    expected = space(1e-3, 1e-1, 25)
    np.testing.assert_array_equal(found.learning_rates, expected)
    np.testing.assert_array_equal(USED, np.repeat(expected, accumulation or 1).astype("float32"))
    assert len(found.losses) == 25
    assert not found.diverged


@pytest.mark.full
def test_accumulation_under_loss_scaling_makes_all_steps():
    inner = keras.optimizers.SGD(0.01, gradient_accumulation_steps=2)
    model = Quadratic()
    model.compile(keras.optimizers.LossScaleOptimizer(inner, initial_scale=2.0), run_eagerly=True)
    with pytest.warns(UserWarning, match="did not worsen"):
        found = find(model, points(), min=1e-3, max=1e-1, batch_size=8)
    assert len(found.losses) == 20


@pytest.mark.parametrize("kind", ["infinite", "unknown length"])
def test_losses_are_those_of_single_batches_and_short_data_are_repeated(kind):
    x = points(12)
    data = tf.data.Dataset.from_tensor_slices(x).batch(5)
    if kind == "infinite":
        data = data.repeat()
    if kind == "unknown length":
        data = data.filter(lambda batch: True)
    with pytest.warns(UserWarning, match="did not fall"):
        found = find(quadratic(), data, min=1e-30, max=1e-29)
    expected = [np.mean((1.0 - part) ** 2) / 2.0 for part in (x[:5], x[5:10], x[10:])]
    np.testing.assert_allclose(found.losses, np.resize(expected, 20), rtol=1e-6)


def test_an_array_is_shuffled_and_seen_in_full():
    x = points(12)
    with pytest.warns(UserWarning, match="did not fall"):
        found = find(quadratic(), x, min=1e-30, max=1e-29, steps=24, batch_size=4)
    passes = found.losses.reshape(8, 3)
    np.testing.assert_allclose(passes.mean(axis=1), np.mean((1 - x) ** 2) / 2.0, rtol=1e-6)
    assert len(np.unique(passes[:, 0])) > 4


@pytest.mark.full
def test_sample_weights_count():
    x, weights = points(8), np.full(8, 2.0, "float32")
    options = {"min": 1e-9, "max": 1e-8, "batch_size": 64}  # more than there are
    with pytest.warns(UserWarning, match="did not fall"):
        one, two = (
            find(quadratic(), x, **options),
            find(quadratic(), x, sample_weight=weights, **options),
        )
    np.testing.assert_allclose(two.losses, 2.0 * one.losses, rtol=1e-6)


@pytest.mark.first_is_quick
@pytest.mark.parametrize(
    ("curvature", "sweep"),
    [((40.0, 4.0, 0.4), "exponential"), ((10.0, 3.0), "linear")],
)
def test_below_the_limit_of_stability_of_a_quadratic(curvature, sweep):
    # Gradient descent is stable up to 2 / L, L the largest curvature.
    x = points(512, len(curvature))
    model = quadratic(curvature=curvature, run_eagerly=False)
    options = {"min": 1e-4, "max": 1e2} if sweep == "exponential" else {"min": 1e-3, "max": 1.0}
    found = find(model, x, steps=200, sweep=sweep, **options)
    limit = 2.0 / max(curvature)
    assert limit / 5.0 < found.max_lr < limit
    assert found.base_lr < found.max_lr / 2.0
    assert found.diverged
    assert len(found.learning_rates) == len(found.losses) == len(found.smoothed) < 200


@pytest.mark.full
def test_adam_learns_more_at_the_suggested_rate():
    data = kv.data.load("mnist_5k", split="train", batch_size=64, binarize="dynamic")
    losses = {}
    image = (28, 28, 1)
    keras.utils.set_random_seed(0)
    model = kv.VAE(
        encoder=kv.networks.MLPEncoder((64,)),
        decoder=kv.networks.MLPDecoder(image, (64,)),
        posterior=kv.posteriors.DiagonalNormal(8),
        likelihood=kv.likelihoods.Bernoulli(image),
    )
    model.compile(keras.optimizers.Adam())
    found = find(model, data, steps=150)
    assert 1e-5 < found.base_lr < found.max_lr < 0.1
    start, slots = model.get_weights(), [v.numpy() for v in model.optimizer.variables]
    for name, rate in (("max_lr", found.max_lr), ("a tenth of base_lr", found.base_lr / 10.0)):
        model.set_weights(start)
        for variable, value in zip(model.optimizer.variables, slots, strict=True):
            variable.assign(value)
        model.optimizer.learning_rate = rate
        history = model.fit(data.repeat(), epochs=2, steps_per_epoch=100, verbose=0).history
        losses[name] = history["loss"][-1]
    assert losses["max_lr"] < losses["a tenth of base_lr"] - 50.0  # nats; about 170 and 500


# No trace.


def state(model):
    """Return what a later training depends on, and the attributes of the model."""
    variables = [*model.variables, *model.metrics_variables, *model.optimizer.variables]
    local = model.distribute_strategy.experimental_local_results
    values = [np.array(part) for variable in variables for part in local(variable.value)]
    return values, {name: value for name, value in vars(model).items()}


def assert_same(found, expected):
    for a, b in zip(found[0], expected[0], strict=True):
        np.testing.assert_array_equal(a, b)
    assert list(found[1]) == list(expected[1])
    for name, value in expected[1].items():
        assert found[1][name] is value, name


SHAPE = (4, 4, 1)


def images():
    return np.random.default_rng(0).integers(0, 2, [24, *SHAPE]).astype("float32")


def make_vae():
    keras.utils.set_random_seed(0)
    dropout = keras.Sequential(
        [keras.layers.Flatten(), keras.layers.Dense(4), keras.layers.Dropout(0.2)]
    )
    return kv.VAE(
        encoder=dropout,
        decoder=kv.networks.MLPDecoder(SHAPE, (4,)),
        posterior=kv.posteriors.DiagonalNormal(2),
        likelihood=kv.likelihoods.Bernoulli(SHAPE),
        prior=kv.priors.VampPrior(2, num_pseudo_inputs=3),
    )


@pytest.mark.full
@pytest.mark.parametrize(
    "options",
    [
        {"steps_per_execution": 3, "jit_compile": False},
        {"replicas": True, "jit_compile": False},
    ],
    ids=["graph", "replicas"],
)
def test_the_trainings_that_follow_are_the_same_to_the_bit(request, options):
    options = dict(options)
    strategy = tf.distribute.get_strategy()
    if options.pop("replicas", False):
        strategy = request.getfixturevalue("replicas")

    def train(with_the_test):
        with strategy.scope():
            model = make_vae()
            model.compile(keras.optimizers.Adam(1e-2), **options)
        history = []
        for number in range(2):
            if with_the_test and number:
                find(model, images(), batch_size=8, min=1e-4, max=1e9, steps=22, divergence=1e9)
            # Shuffled, by Keras: the global generators must stand where they stood.
            history.append(model.fit(images(), batch_size=8, verbose=0).history)
        return state(model)[0], history

    (values, history), (expected_values, expected) = train(True), train(False)
    assert history == expected
    for a, b in zip(values, expected_values, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.full
def test_a_model_that_is_not_built_trains_the_same_afterwards():
    def train(with_the_test):
        model = quadratic(keras.optimizers.Adam(0.1), curvature=(3.0, 1.0))
        if with_the_test:
            assert not model.built
            find(model, points(64, 2), min=1e-3)
        return model.fit(points(64, 2), epochs=3, verbose=0).history

    assert train(True) == train(False)


def test_everything_is_given_back_however_the_sweep_ends(monkeypatch):
    model = quadratic(keras.optimizers.Adam(0.05, use_ema=True))
    model.compile(model.optimizer, run_eagerly=True, steps_per_execution=4)
    model.fit(points(), verbose=0, callbacks=[keras.callbacks.EarlyStopping("loss")])
    before, history = state(model), model.history
    assert float(model.optimizer.learning_rate) == pytest.approx(0.05)
    ends = keras.callbacks.ProgbarLogger.on_train_batch_end
    for error in (None, ArithmeticError, KeyboardInterrupt):
        moved = []

        def end(self, batch, logs=None, error=error, moved=moved):
            ends(self, batch, logs)
            if batch == 15:
                moved.append(not np.array_equal(state(model)[0][0], before[0][0]))
                if error:
                    raise error("on purpose")

        monkeypatch.setattr(keras.callbacks.ProgbarLogger, "on_train_batch_end", end)
        if error is KeyboardInterrupt:
            with pytest.raises(error, match="on purpose"):
                find(model, points(), min=1e-3, verbose=1)
        else:
            assert find(model, points(), min=1e-3, verbose=1).diverged == bool(error)
        assert moved == [True]
        assert_same(state(model), before)
        assert model.history is history
        assert model.steps_per_execution == 4


def test_a_gradient_that_is_not_finite_ends_the_sweep():
    model = quadratic(run_eagerly=False)
    found = find(model, points(), min=1e-3, max=1e15, steps=100, divergence=1e30)
    assert found.diverged
    assert np.all(np.isfinite(found.losses))
    assert found.base_lr < 2.0 < found.learning_rates[-1] < 1e15


# What is refused.


def compiled_with_a_schedule():
    return quadratic(keras.optimizers.SGD(keras.optimizers.schedules.CosineDecay(0.1, 10)))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"model": Quadratic}, "`model` must be compiled. Received"),
        (
            {"model": compiled_with_a_schedule},
            "`model` must be compiled with a learning rate that is",
        ),
        ({"model": keras.Sequential}, "`model` must be a keras_vae.LatentVariableModel"),
        ({"min": 0.0}, "`min` must be a finite number > 0"),
        ({"min": 0.1, "max": 0.1}, "`max` must be > min=0.1. Received: max=0.1"),
        ({"max": np.inf}, "`max` must be a finite number"),
        ({"steps": 19}, "`steps` must be an integer >= 20"),
        ({"sweep": "cosine"}, "`sweep` must be one of ['exponential', 'linear']"),
        ({"smoothing": 1.0}, "`smoothing` must be < 1"),
        ({"divergence": 0.0}, "`divergence` must be a finite number > 0"),
        ({"batch_size": 0}, "`batch_size` must be an integer >= 1"),
        ({"data": points(0)}, "`data` must hold at least one example"),
        ({"data": None}, "`data` must be an array, a pair of arrays (x, y) or a dataset of"),
        ({"data": tf.data.Dataset.from_tensors(points()).take(0)}, "`data` must hold at least one"),
        (
            {"data": tf.data.Dataset.from_tensors(points()).filter(lambda x: False)},
            "`data` must hold at least one batch",
        ),
        (
            {"data": tf.data.Dataset.from_tensors(points()), "batch_size": 3},
            "`batch_size` must be left out where `data` is a dataset",
        ),
    ],
)
def test_what_cannot_be_is_refused_before_anything_changes(arguments, message):
    arguments = dict(arguments)
    model = arguments.pop("model", quadratic)()
    before = set(vars(model))
    with pytest.raises(ValueError) as error:
        find(model, arguments.pop("data", points()), **arguments)
    assert message in str(error.value)
    assert set(vars(model)) == before
    assert not model.built


@pytest.mark.full
def test_a_rate_that_a_callback_drives_is_refused():
    model = quadratic()
    schedule = kv.callbacks.HyperparameterSchedule("learning_rate", kv.schedules.Constant(0.1))
    schedule.set_model(model)
    with pytest.raises(ValueError, match="driven by another callback"):
        find(model, points())
    schedule.on_train_end()
    find(model, points(), min=1e-3)


# The figure.


def test_the_figure_shows_both_losses_and_both_rates():
    model = quadratic(run_eagerly=False)
    found = find(model, points(), steps=60, sweep="linear", min=1e-3, max=5.0)
    (axes,) = found.plot().get_axes()
    assert axes.get_xscale() == "log"
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert labels[:2] == ["batch", "smoothed"]
    lines = axes.get_lines()
    np.testing.assert_array_equal(lines[0].get_ydata(), found.losses)
    np.testing.assert_array_equal(lines[1].get_ydata(), found.smoothed)
    rates = {"base_lr": lines[2], "max_lr": lines[3]}
    assert {name: line.get_xdata()[0] for name, line in rates.items()} == {
        "base_lr": found.base_lr,
        "max_lr": found.max_lr,
    }
    low, high = axes.get_ylim()
    assert low < found.losses.min() and high < 10.0 * found.losses[0], "of the part that matters"


def test_the_figure_of_a_sweep_that_found_nothing():
    with pytest.warns(UserWarning, match="did not fall"):
        found = find(quadratic(), points(), min=1e-9, max=1e-8)
    assert found.base_lr is found.max_lr is None
    (axes,) = found.plot().get_axes()
    assert len(axes.get_lines()) == 2


def test_the_names_of_the_arguments():
    parameters = inspect.signature(kv.find_learning_rate).parameters
    assert list(parameters)[:5] == ["model", "data", "min", "max", "steps"]
