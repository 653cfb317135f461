"""Callbacks that balance a model and its discriminator by deciding which of them steps."""

from __future__ import annotations

from typing import Any

import keras

from keras_vae.controllers import AccuracyGate as AccuracyGateHook
from keras_vae.controllers import EquilibriumGate, Gate
from keras_vae.core import checks
from keras_vae.core.loss_scaling import without_loss_scaling
from keras_vae.optimizers import PartOptimizer


class _GateCallback(keras.callbacks.Callback):
    """Attaches a gate for the duration of a training."""

    def __init__(self, parts: tuple[str, ...]):
        super().__init__()
        self._parts = parts
        self._gate: Gate | None = None

    def set_model(self, model: Any) -> None:
        """Attaches the gate; Keras calls this before it makes the train function."""
        super().set_model(model)
        gate = self._make(_counts(model, self._parts))
        measured = getattr(model.objective, "measure_names", ())
        missing = [name for name in gate.feedback if name not in measured]
        if missing:
            rule = f"must have an objective that measures {missing}, such as Adversarial"
            raise checks.invalid("model", f"{rule} for {type(self).__name__}", model.objective)
        self._gate = gate
        model.attach(gate, by=type(self).__name__)

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Detaches the gate."""
        self.model.detach(self._gate)

    def _make(self, counts: dict[str, keras.Variable]) -> Gate:
        raise NotImplementedError


class Equilibrium(_GateCallback):
    """Keeps a decoder and its discriminator in balance: the one too far ahead waits.

    discriminator waits: real < e - m or fake < e - m
    decoder waits:       real > e + m or fake > e + m;  if both would wait, both step

    `real` and `fake` are the discriminator's losses in the logs, `discriminator_real` and
    `discriminator_fake`, averaged over the batch of all replicas. The rule runs inside the train
    step, on the values of that same step; all other parts step regardless. The logs hold
    `decoder_steps` and `discriminator_steps`, the number of steps each has made. The default values
    are meant for the loss `"non_saturating"`, which is ln 2 = 0.69 when the discriminator cannot
    tell data from fakes.

    Args:
        margin: m >= 0.
        equilibrium: e.
        decoder: Name of the part that waits when the discriminator is deceived.
        discriminator: Name of the part that waits when it is not.

    Raises:
        ValueError: If an argument is out of range; at the start of `fit`, if the objective has no
            discriminator, or the optimizer was not made by `optimizers.by_part` with a separate
            optimizer for each of the two parts.

    Example:
        >>> callback = Equilibrium(margin=0.35, equilibrium=0.68)

    References:
        Larsen et al., 2016, arXiv:1512.09300, and their code.
    """

    def __init__(
        self,
        margin: float = 0.35,
        equilibrium: float = 0.68,
        decoder: str = "decoder",
        discriminator: str = "discriminator",
    ):
        super().__init__((decoder, discriminator))
        self.margin = checks.number("margin", margin, 0.0)
        self.equilibrium = checks.number("equilibrium", equilibrium)

    def _make(self, counts: dict[str, keras.Variable]) -> Gate:
        return EquilibriumGate(counts, self.margin, self.equilibrium)


class AccuracyGate(_GateCallback):
    """Makes the discriminator wait while it is right about more than a fraction of the batch.

    discriminator waits: accuracy > maximum

    The rule runs inside the train step, on the accuracy of that same step over the batch of all
    replicas, which the logs hold as `discriminator_accuracy`. The logs also hold
    `discriminator_steps`, the number of steps the discriminator has made.

    Args:
        maximum: The largest accuracy at which the discriminator still steps, in [0, 1]; 0.5 is
            chance.
        discriminator: Name of the discriminator's part of the model.

    Raises:
        ValueError: If an argument is out of range; at the start of `fit`, if the objective has no
            discriminator, or the optimizer was not made by `optimizers.by_part` with a separate
            optimizer for the discriminator.

    Example:
        >>> callback = AccuracyGate(maximum=0.8)
    """

    def __init__(self, maximum: float = 0.8, discriminator: str = "discriminator"):
        super().__init__((discriminator,))
        self.maximum = checks.number("maximum", maximum, 0.0, 1.0)

    def _make(self, counts: dict[str, keras.Variable]) -> Gate:
        return AccuracyGateHook(counts, self.maximum)


def _counts(model: Any, parts: tuple[str, ...]) -> dict[str, keras.Variable]:
    """Returns the step counters of the optimizers of `parts`, or raises an error."""
    optimizer = without_loss_scaling(model.optimizer)
    known = isinstance(optimizer, PartOptimizer)
    if not known or not set(parts) <= set(optimizer.parts):
        rule = f"must be one of keras_vae.optimizers.by_part, with one of their own for {parts}"
        raise checks.invalid("optimizer", rule, optimizer)
    steps = next(iter(optimizer.optimizers)).gradient_accumulation_steps
    if steps:
        rule = "must not accumulate gradients, as a gate decides about single batches"
        raise checks.invalid("optimizer", rule, f"gradient_accumulation_steps={steps}")
    return {part: optimizer[part]._iterations for part in parts}
