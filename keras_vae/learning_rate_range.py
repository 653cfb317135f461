"""Finds the range of usable learning rates for a training with a short sweep."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import math
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import tensorflow as tf

from keras_vae.callbacks import HyperparameterSchedule
from keras_vae.core import checks
from keras_vae.core.figures import frame_lightly, new_figure
from keras_vae.core.loss_scaling import without_loss_scaling
from keras_vae.models import LatentVariableModel
from keras_vae.training.data import Data

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["LearningRateRange", "find_learning_rate"]

Losses = list[float] | np.ndarray

_SWEEPS: dict[str, Any] = {"exponential": np.geomspace, "linear": np.linspace}
_FEWEST = 10  # The fewest losses that make a usable curve; as many define its level at the start.


@dataclasses.dataclass(frozen=True)
class LearningRateRange:
    """The result of a sweep over the learning rate.

    Attributes:
        base_lr: The rate at which the loss starts to descend, or None if it did not descend.
        max_lr: A rate just below those at which the loss worsens, or None if it did not descend.
        learning_rates: The rates of the steps that were made, `[N]`.
        losses: The loss of each step's batch before the step, `[N]`, in nats.
        smoothed: Their bias-corrected moving average, `[N]`, in nats.
        diverged: Whether the sweep ended early because the loss rose or was not finite.
    """

    base_lr: float | None
    max_lr: float | None
    learning_rates: np.ndarray = dataclasses.field(repr=False)
    losses: np.ndarray = dataclasses.field(repr=False)
    smoothed: np.ndarray = dataclasses.field(repr=False)
    diverged: bool

    def plot(self) -> Figure:
        """Draws the losses over the learning rate, with the two suggested rates.

        Returns:
            A matplotlib `Figure`.
        """
        figure = new_figure(7.0, 4.0)
        axes = figure.subplots()
        frame_lightly(axes)
        axes.plot(self.learning_rates, self.losses, color="0.75", linewidth=1, label="batch")
        axes.plot(self.learning_rates, self.smoothed, color="C0", linewidth=2, label="smoothed")
        if self.base_lr is not None and self.max_lr is not None:
            axes.axvspan(self.base_lr, self.max_lr, color="C2", alpha=0.1, linewidth=0)
            for name, color in (("base_lr", "C2"), ("max_lr", "C3")):
                rate = getattr(self, name)
                label = f"{name} = {rate:.2g}"
                axes.axvline(rate, color=color, linestyle="--", label=label)
        # A divergence would flatten everything before it.
        top, bottom = np.max(self.smoothed[:_FEWEST]), np.min(self.losses)
        margin = max(top - bottom, abs(top) * 1e-6)
        axes.set_ylim(bottom - 0.1 * margin, top + 0.4 * margin)
        axes.set_xscale("log")
        axes.set(xlabel="learning rate", ylabel="loss, nats per example")
        axes.legend(frameon=False, fontsize="small", loc="best")
        return figure


def find_learning_rate(
    model: Any,
    data: Any,
    min: float = 1e-6,
    max: float = 1.0,
    steps: int = 200,
    *,
    y: Any = None,
    sample_weight: Any = None,
    batch_size: int | None = None,
    sweep: str = "exponential",
    smoothing: float = 0.9,
    divergence: float = 4.0,
    verbose: Any = "auto",
) -> LearningRateRange:
    """Finds the learning rates between which a training descends, with a range test.

    lr_i = min (max / min)^(i / (steps - 1)),  or min + (max - min) i / (steps - 1)

    This trains for some steps while the rate grows from `min` to `max`, and restores the model and
    its optimizer exactly as they were, however the sweep ends. The sweep ends early when the
    smoothed loss has risen from its lowest value by more than `divergence` times its previous fall,
    or when a loss or a gradient is not finite. This rule and the following ones hold for losses of
    any sign.

    Let D be the fall of the smoothed loss from its level at the start (the median of the first 10
    batches) to its lowest value. Nothing is suggested if D is within the noise of the batches.
    Otherwise, the suggestions are:

    - `base_lr` is the last rate before the minimum at which less than D / 10 had been gained.
    - The loss turns at the last rate before it rises from its minimum by D / 20, or by the noise.
      By then, the cause of the rise has built up over many steps, so `max_lr` is half a decade
      lower, or half-way to `base_lr` on a log scale, whichever is less. Without a rise, it is the
      last rate.

    Args:
        model: A compiled model, with a learning rate that is a number.
        data: Array `[N, *E]`, or `tf.data.Dataset` of batches as `fit` takes it. It is repeated if
            it is too short. A dataset that is reshuffled in every pass moves on to its next pass.
        min: Learning rate of the first step, > 0.
        max: Learning rate of the last step, > `min`.
        steps: Number of optimizer steps, >= 20.
        y: Array of what the model is conditioned on, if `data` is an array.
        sample_weight: Weights of the examples, if `data` is an array.
        batch_size: Number of examples in a batch, if `data` is an array; 32 by default. Use the
            batch size of the training, as the rates depend on it.
        sweep: `"exponential"` or `"linear"`.
        smoothing: Decay of the moving average, in [0, 1).
        divergence: Rise that ends the sweep, in multiples of the previous fall, > 0.
        verbose: Passed on to `fit`: 0 is silent.

    Returns:
        A `LearningRateRange`, which has a method `plot`.

    Raises:
        ValueError: If an argument is out of range, the model is not compiled, a schedule computes
            its learning rate or a callback drives it, or the data are empty or have no density.
            Nothing has been changed in these cases.

    Example:
        >>> import keras_vae as kv
        >>> model = kv.VAE(
        ...     encoder=kv.networks.MLPEncoder((32,)),
        ...     decoder=kv.networks.MLPDecoder((8, 8, 1), (32,)),
        ...     posterior=kv.posteriors.DiagonalNormal(2),
        ...     likelihood=kv.likelihoods.Bernoulli((8, 8, 1)))
        >>> model.compile("adam")
        >>> found = kv.find_learning_rate(model, np.zeros([64, 8, 8, 1]), steps=60, verbose=0)
        >>> 1e-6 <= found.base_lr < found.max_lr <= 1.0
        True

    References:
        Smith, 2017, section 3.3, arXiv:1506.01186.
    """
    low, high = _bounds(min, max)
    steps = checks.integer("steps", steps, minimum=20)
    rates = _SWEEPS[checks.option("sweep", sweep, _SWEEPS)](low, high, steps)
    if checks.number("smoothing", smoothing, 0.0, 1.0) == 1.0:
        raise checks.invalid("smoothing", "must be < 1", smoothing)
    divergence = checks.number("divergence", divergence, 0.0, exclusive=True)
    _check_model(model)
    given = _checked_data(model, Data.of("data", data, y, sample_weight), batch_size)
    _build(model, given)
    optimizer = without_loss_scaling(model.optimizer)
    batches = steps * (optimizer.gradient_accumulation_steps or 1)
    stream = _stream(given, batch_size or 32, batches, model.seed)
    recorder = _Recorder(steps, smoothing, divergence)
    with _restored(model):
        diverged = _train(model, stream, rates, recorder, batches, verbose)
    losses = np.array(recorder.losses)
    rates, smoothed = rates[: len(losses)], smooth(recorder.losses, smoothing)
    base_lr, max_lr = suggest(rates, losses, smoothing, diverged)
    return LearningRateRange(base_lr, max_lr, rates, losses, smoothed, diverged)


# The curve: pure functions whose results do not change if a constant is added to the losses.


def smooth(losses: Losses, smoothing: float) -> np.ndarray:
    """Returns the bias-corrected exponential moving average of losses `[N]`."""
    sums = itertools.accumulate(losses, lambda mean, loss: smoothing * mean + loss, initial=0.0)
    weights = itertools.accumulate(losses, lambda mean, _: smoothing * mean + 1.0, initial=0.0)
    return np.array(list(sums)[1:]) / np.array(list(weights)[1:])


def suggest(
    learning_rates: np.ndarray, losses: np.ndarray, smoothing: float, diverged: bool
) -> tuple[float | None, float | None]:
    """Returns `base_lr` and `max_lr` by the rules of `find_learning_rate`, or None for both.

    It warns if the loss does not descend, or does not stop descending.
    """
    smoothed = smooth(losses, smoothing)
    fall = _fall(losses, smoothed) if len(losses) >= _FEWEST else 0.0
    if fall <= 0.0 or fall <= _significant(losses, smoothing):
        advice = "sweep over smaller rates if it rose, else over larger ones or more steps"
        warnings.warn(f"The loss did not fall: {advice}.", stacklevel=3)
        return None, None
    least = _FEWEST - 1 + int(np.argmin(smoothed[_FEWEST - 1 :]))
    before = np.flatnonzero(smoothed[:least] > _level(losses) - fall / 10.0)
    base = learning_rates[before[-1] if len(before) else 0]
    rise = max(fall / 20.0, 3.0 * _noise(losses) * _damping(smoothing))
    after = np.flatnonzero(smoothed[least:] > smoothed[least] + rise)
    turn = learning_rates[least + after[0] - 1 if len(after) else -1]
    if not len(after) and not diverged:
        warnings.warn("The loss did not worsen: sweep to a larger `max`.", stacklevel=3)
        return float(base), float(turn)
    return float(base), float(max(turn / math.sqrt(10.0), math.sqrt(base * turn)))


def has_diverged(losses: Losses, smoothing: float, divergence: float) -> bool:
    """Returns whether the smoothed loss has risen by more than `divergence` times its fall."""
    if len(losses) < _FEWEST:
        return False
    smoothed = smooth(losses, smoothing)
    fall = max(_fall(losses, smoothed), _significant(losses, smoothing))
    return bool(smoothed[-1] - np.min(smoothed) > divergence * fall)


def _level(losses: Losses) -> float:
    return float(np.median(losses[:_FEWEST]))


def _fall(losses: Losses, smoothed: np.ndarray) -> float:
    # Skip the first losses, which define the level: even a curve that only rises would appear to
    # fall from their median to the lowest of them.
    return _level(losses) - float(np.min(smoothed[_FEWEST - 1 :]))


def _noise(losses: Losses) -> float:
    """Returns the standard deviation of a single loss, from differences between neighbours."""
    # The median ignores the few large differences of a divergence; that of |N(0, 2)| is 0.954.
    differences = np.median(np.abs(np.diff(losses))) / 0.954
    rounding = np.finfo(np.float32).eps * abs(_level(losses))
    return float(differences + rounding)


def _damping(smoothing: float) -> float:
    """Returns what fraction of the standard deviation of independent losses smoothing leaves."""
    return math.sqrt((1.0 - smoothing) / (1.0 + smoothing))


def _significant(losses: Losses, smoothing: float) -> float:
    """Returns the threshold for a fall: 5 standard deviations of the lowest value and the level."""
    of_the_median = math.sqrt(math.pi / 2.0 / _FEWEST)
    return 5.0 * _noise(losses) * math.hypot(_damping(smoothing), of_the_median)


# The sweep.


class _Recorder(keras.callbacks.Callback):
    """Records the loss of every optimizer step, and stops the training at the end."""

    def __init__(self, steps: int, smoothing: float, divergence: float):
        super().__init__()
        self.losses: list[float] = []
        self.diverged = False
        self._steps = steps
        self._smoothing = smoothing
        self._divergence = divergence
        self._parts: list[float] = []

    def on_train_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Resets the metrics, so that the logs are those of this batch alone."""
        self.model.reset_metrics()
        self._iterations = _steps_made(self.model)

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Records the loss, and decides whether the sweep continues."""
        self._parts.append(float((logs or {})["loss"]))
        if not math.isfinite(self._parts[-1]):
            self.diverged = True
        elif _steps_made(self.model) > self._iterations:
            # Batches whose gradients were accumulated form one step; so do those that loss scaling
            # skipped, together with the one it made.
            self.losses.append(float(np.mean(self._parts)))
            self._parts = []
            self.diverged = has_diverged(self.losses, self._smoothing, self._divergence)
        self.model.stop_training = self.diverged or len(self.losses) == self._steps


def _train(
    model: Any,
    stream: tf.data.Dataset,
    rates: np.ndarray,
    recorder: _Recorder,
    batches: int,
    verbose: Any,
) -> bool:
    """Makes the steps, and returns whether the loss diverged."""
    # The steps are made one at a time, by a function that knows the rates.
    model.steps_per_execution, model.train_function = 1, None
    start, table = _steps_made(model), tf.constant(rates, tf.float64)

    def schedule(step: tf.Tensor) -> tf.Tensor:
        return table[tf.clip_by_value(tf.cast(step, tf.int64) - start, 0, len(rates) - 1)]

    callbacks = [HyperparameterSchedule("learning_rate", schedule), recorder]
    try:
        model.fit(stream, steps_per_epoch=batches, callbacks=callbacks, verbose=verbose)
    except ArithmeticError:
        if not recorder.losses:  # No rate can have caused it yet.
            raise
        return True
    return recorder.diverged


def _steps_made(model: Any) -> int:
    # Mirrored variables cannot be converted to an int directly.
    return int(tf.convert_to_tensor(model.optimizer.iterations))


@contextlib.contextmanager
def _restored(model: Any) -> Iterator[None]:
    """Restores a model and its optimizer to what they were, however the block ends."""
    variables = [*model.variables, *model.metrics_variables, *model.optimizer.variables]
    local = model.distribute_strategy.experimental_local_results  # What each replica holds.
    parts = {id(part): part for variable in variables for part in local(variable.value)}
    values = {key: np.array(part) for key, part in parts.items()}
    # These hold the history, what fit sets and clears, and the functions that were traced before.
    attributes = dict(vars(model))
    try:
        yield
    finally:
        for key, part in parts.items():
            part.assign(values[key])
        vars(model).clear()
        vars(model).update(attributes)


def _stream(data: Data, batch_size: int, batches: int, seed: int) -> tf.data.Dataset:
    """Returns a dataset of at least `batches` batches."""
    if isinstance(data.x, tf.data.Dataset):
        return data.x.repeat()
    given = [part for part in (data.x, data.y, data.sample_weight) if part is not None]
    parts = tf.nest.map_structure(tf.convert_to_tensor, tuple(given))
    size = len(data.x)
    batch_size = min(batch_size, size)
    # Use NumPy's generator, so that the global ones, and with them the shuffling of the training
    # to come, do not advance.
    generator = np.random.default_rng(seed)
    passes = -(-batches * batch_size // size)
    order = np.concatenate([generator.permutation(size) for _ in range(passes)])
    chosen = tf.data.Dataset.from_tensor_slices(order[: batches * batch_size]).batch(batch_size)

    def pick(rows: tf.Tensor) -> Any:
        picked = tf.nest.map_structure(lambda part: tf.gather(part, rows), parts)
        return picked if len(picked) > 1 else picked[0]

    return chosen.map(pick)


# Checks of the arguments.


def _bounds(low: Any, high: Any) -> tuple[float, float]:
    low = checks.number("min", low, 0.0, exclusive=True)
    high = checks.number("max", high, 0.0, exclusive=True)
    if low >= high:
        raise checks.invalid("max", f"must be > min={low:g}", high)
    return low, high


def _check_model(model: Any) -> None:
    if not isinstance(model, LatentVariableModel):
        raise checks.invalid("model", "must be a keras_vae.LatentVariableModel", model)
    if not model.compiled:
        raise checks.invalid("model", "must be compiled", model)
    if "learning_rate" not in model.hyperparameters:
        rule = "must be compiled with a learning rate that is a number, not a schedule or by part"
        raise checks.invalid("model", rule, model.optimizer)


def _checked_data(model: Any, data: Data, batch_size: int | None) -> Data:
    """Returns the data if `fit` would take them, or raises an error."""
    if batch_size is not None:
        checks.integer("batch_size", batch_size)
    is_dataset = not data.is_array
    named = {"y": data.y, "sample_weight": data.sample_weight, "batch_size": batch_size}
    for name, value in named.items():
        if is_dataset and value is not None:
            raise checks.invalid(name, "must be left out where `data` is a dataset", value)
    if is_dataset:
        data = data._replace(x=data.dataset())
    data.check(model._checked)
    unknown = is_dataset and data.x.cardinality() == tf.data.UNKNOWN_CARDINALITY
    if unknown and not any(True for _ in data.x.take(1)):
        raise checks.invalid("data", "must hold at least one batch", data.x)
    return data.with_labels()


def _build(model: Any, data: Data) -> None:
    """Creates all the variables there will be, with the values that `fit` would give them."""
    with model.distribute_strategy.scope():
        if not model.built:
            model.build(data.shape)
        model.optimizer.build(model.trainable_variables)
