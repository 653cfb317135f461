"""Gates: whether a part of the model is updated in a step, by how well an adversary is doing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import tensorflow as tf

from keras_vae.controllers.controller import StepHook


class Gate(StepHook):
    """Makes parts of the model skip steps, and logs how many steps each part has made.

    Args:
        name: The name of the gate.
        counts: The number of steps of each part that it controls, by the part's name: the
            `iterations` of the part's optimizer.

    Example:
        >>> class Closed(Gate):
        ...     def gate(self, means):
        ...         return {part: tf.constant(False) for part in self.counts}
        >>> {part: bool(opens) for part, opens in Closed("closed", {"decoder": 0}).gate({}).items()}
        {'decoder': False}
    """

    def __init__(self, name: str, counts: Mapping[str, keras.Variable]):
        super().__init__(name)
        self.counts = dict(counts)

    @property
    def key(self) -> tuple[Any, ...]:
        return self.name, *(f"{part} {id(count)}" for part, count in self.counts.items())

    @property
    def logged(self) -> dict[str, keras.Variable]:
        return {f"{part}_steps": count for part, count in self.counts.items()}


class EquilibriumGate(Gate):
    """Makes the discriminator wait when it is too good, and the decoder when it is too bad.

    discriminator waits: real < e - m or fake < e - m
    decoder waits:       real > e + m or fake > e + m;  if both would wait, both step

    Args:
        counts: The number of steps of the decoder and of the discriminator, in this order.
        margin: The margin m.
        equilibrium: The equilibrium e.

    Example:
        >>> gate = EquilibriumGate({"decoder": 0, "discriminator": 0}, 0.35, 0.68)
        >>> means = {"discriminator_real": tf.constant(0.1), "discriminator_fake": tf.constant(0.7)}
        >>> {part: bool(opens) for part, opens in gate.gate(means).items()}
        {'decoder': True, 'discriminator': False}

    References:
        Larsen et al., 2016, arXiv:1512.09300, and their code.
    """

    feedback = ("discriminator_real", "discriminator_fake")

    def __init__(self, counts: Mapping[str, keras.Variable], margin: float, equilibrium: float):
        super().__init__("equilibrium", counts)
        self.margin = margin
        self.equilibrium = equilibrium

    @property
    def key(self) -> tuple[Any, ...]:
        return *super().key, self.margin, self.equilibrium

    def gate(self, means: Mapping[str, tf.Tensor]) -> Mapping[str, tf.Tensor]:
        losses = tf.stack([means[name] for name in self.feedback])
        too_good = tf.reduce_any(losses < self.equilibrium - self.margin)
        too_bad = tf.reduce_any(losses > self.equilibrium + self.margin)
        both = too_good & too_bad
        decoder, discriminator = self.counts
        return {decoder: ~too_bad | both, discriminator: ~too_good | both}


class AccuracyGate(Gate):
    """Makes the discriminator wait when it is right about more than a fraction of the batch.

    Args:
        counts: The number of steps of the discriminator.
        maximum: The largest accuracy at which it still makes steps.

    Example:
        >>> gate = AccuracyGate({"discriminator": 0}, 0.8)
        >>> bool(gate.gate({"discriminator_accuracy": tf.constant(0.9)})["discriminator"])
        False
    """

    feedback = ("discriminator_accuracy",)

    def __init__(self, counts: Mapping[str, keras.Variable], maximum: float):
        super().__init__("accuracy_gate", counts)
        self.maximum = maximum

    @property
    def key(self) -> tuple[Any, ...]:
        return *super().key, self.maximum

    def gate(self, means: Mapping[str, tf.Tensor]) -> Mapping[str, tf.Tensor]:
        opens = means["discriminator_accuracy"] <= self.maximum
        return dict.fromkeys(self.counts, opens)
