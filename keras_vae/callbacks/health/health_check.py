"""Watches for what goes wrong in a training."""

from __future__ import annotations

import dataclasses
import math
import warnings
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_vae.callbacks.health.evidence import (
    Evidence,
    Examination,
    Limits,
    Multiplier,
    Number,
    Skips,
)
from keras_vae.callbacks.health.examiner import Examiner
from keras_vae.callbacks.health.finding import Finding, HealthWarning
from keras_vae.callbacks.health.first_examples import FirstExamples
from keras_vae.callbacks.health.symptoms import SYMPTOMS
from keras_vae.controllers import MultiplierRule, ScheduledValue
from keras_vae.core import checks
from keras_vae.core.loss_scaling import without_loss_scaling
from keras_vae.models import VAE, LatentVariableModel
from keras_vae.optimizers import PartOptimizer
from keras_vae.training import non_finite
from keras_vae.training.data import Data, first_examples
from keras_vae.training.spikes import SkipSpikes

_SIZE = 256


class HealthCheck(keras.callbacks.Callback):
    """Reports what goes wrong in a training, once, in words, with the remedy.

    It examines the model on some examples at the end of epochs, and warns of each symptom once per
    training with a `HealthWarning`. `docs/health.md` lists the symptoms:

    - posterior collapse, a KL explosion, a dead decoder, scales at their floors;
    - steps whose loss or gradient is not finite, by the policy `non_finite`;
    - steps whose gradient is far larger than usual, which `spike_factor` skips;
    - data outside [0, 1] that the likelihood does not refuse;
    - a multiplier at its bound with its constraint violated; β still 0 at the end;
    - a part of the model that never moved, and a discriminator that has won.

    Only what a model has is judged: for a `LatentVariableModel` that is not a `VAE`, neither the
    latent variables nor the data are. The callback changes nothing in the training except through
    the policies:

    - `"raise"`: an `ArithmeticError` names the first bad quantity, as without this callback;
    - `"skip"`: the step is skipped and counted by `skipped_steps` in the logs, and the training
      continues; it stops after an epoch of several steps that were all skipped;
    - `"stop"`: the weights stay as they were before the step, and the training stops at the end of
      its batch, or of its `steps_per_execution`.

    With `spike_factor`, a step is also skipped if the norm of its gradient is above that multiple
    of the median of the last 128 norms, and `skipped_spikes` in the logs counts it. The norms of
    skipped steps are included in the median. With several replicas, this exchanges the gradients
    once more.

    Gradients that overflow under loss scaling do not count here: Keras skips those steps itself.

    Args:
        data: Up to 256 examples to look at: array, pair `(x, y)` or dataset of batches. The default
            is the first examples that the training sees.
        non_finite: `"raise"`, `"skip"` or `"stop"`.
        spike_factor: Multiple of the running median of gradient norms above which a step is
            skipped, > 1, such as 10; None to skip none.
        every: Number of epochs between examinations; the last epoch is always examined, too.
        grace: Number of optimizer steps before a collapse or the decoder is judged.
        min_active_units: How many latent dimensions must be active.
        max_kl: KL in nats above which a single latent dimension counts as exploded, and a group
            of them if its KL has grown tenfold and reconstructions are no better.
        data_range: Smallest and largest value that data should have, or None for any.

    Attributes:
        findings: What was found in the last training, a list of `Finding`.
        stopped_epoch: The epoch in which it ended the training, or None.

    Raises:
        ValueError: If an argument is not as above; at the start of `fit`, if the model is not a
            `LatentVariableModel`.

    Example:
        >>> import keras_vae as kv
        >>> model = kv.VAE(
        ...     encoder=kv.networks.MLPEncoder((32,)),
        ...     decoder=kv.networks.MLPDecoder((8, 8, 1), (32,)),
        ...     posterior=kv.posteriors.DiagonalNormal(2),
        ...     likelihood=kv.likelihoods.Bernoulli((8, 8, 1)),
        ...     objective=kv.objectives.ELBO(beta=0.0))
        >>> model.compile("adam")
        >>> check = HealthCheck(non_finite="skip")
        >>> with warnings.catch_warnings():
        ...     warnings.simplefilter("ignore", HealthWarning)
        ...     history = model.fit(tf.zeros([64, 8, 8, 1]), verbose=0, callbacks=[check])
        >>> [finding.symptom for finding in check.findings], history.history["skipped_steps"]
        (['beta still zero'], [0.0])

    References:
        Bowman et al., 2016, section 3.1, arXiv:1511.06349 (posterior collapse); Burda et al., 2016,
        section 5.2, arXiv:1509.00519 (active units); Rybkin et al., 2021, arXiv:2006.13202
        (learned scales).
    """

    def __init__(
        self,
        data: Any = None,
        *,
        non_finite: str = "raise",
        spike_factor: float | None = None,
        every: int = 1,
        grace: int = 500,
        min_active_units: int = 1,
        max_kl: float = 100.0,
        data_range: tuple[float, float] | None = (0.0, 1.0),
    ):
        super().__init__()
        self.non_finite = checks.option("non_finite", non_finite, ["raise", "skip", "stop"])
        if spike_factor is not None:
            spike_factor = checks.number("spike_factor", spike_factor, 1.0, exclusive=True)
        self.spike_factor = spike_factor
        self.every = checks.integer("every", every)
        self._limits = Limits(
            checks.integer("grace", grace, minimum=0),
            checks.integer("min_active_units", min_active_units, minimum=0),
            checks.number("max_kl", max_kl, 0.0, exclusive=True),
            None if data_range is None else checks.interval("data_range", data_range),
        )
        self._data = None if data is None else Data.of("data", data).dataset(_SIZE)
        self.findings: list[Finding] = []
        self._parts: _Parts | None = None
        self._evidence: list[Evidence] = []
        self.stopped_epoch: int | None = None
        self._begin: int | None = None
        self._epoch = 0
        self._counted = self._skipped = self._spikes = 0
        if self.non_finite == "stop":
            # Keras waits for every batch if this method is there.
            self.on_train_batch_end = self._stop_if_skipped

    def set_model(self, model: Any) -> None:
        """Attaches what watches the steps; Keras calls this before it makes the train function."""
        super().set_model(model)
        if not isinstance(model, LatentVariableModel):
            raise checks.invalid("model", "must be a LatentVariableModel for HealthCheck", model)
        if self._parts is None or self._parts.model is not model:
            self._parts = _Parts(model, self.non_finite, self.spike_factor, self._data)
        model.non_finite, model.spikes = self._parts.rule, self._parts.spikes
        model.attach(self._parts.hook, by=type(self).__name__)

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Forgets the last training."""
        self.findings, self._evidence = [], []
        self._known.reset()
        self._begin, self._counted, self._skipped, self._spikes = None, 0, 0, 0
        self.stopped_epoch = None

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Notes where the training begins; any backup has been restored by then."""
        self._epoch = epoch
        if self._begin is None:
            self._begin = self._known.step
            self._known.count_from_here()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Judges the training so far."""
        seen = self._look() if (epoch + 1) % self.every == 0 else None
        now = self._gather(epoch, seen, logs or {})
        if any(one is not None and one.are_all for one in (now.skips, now.spikes)):
            self._stop()
        self._judge(now)
        self._evidence.append(now)

    def get_state(self) -> dict[str, Any]:
        """Returns what `Resume` keeps: findings and counts, but not the evidence of past epochs."""
        counts = {"begin": self._begin, "counted": self._counted, "skipped": self._skipped}
        counts["spikes"] = self._spikes
        findings = [dataclasses.asdict(finding) for finding in self.findings]
        return {**counts, **self._known.get_state(), "findings": findings}

    def set_state(self, state: dict[str, Any]) -> None:
        """Restores what `get_state` returned; what was reported is not reported again."""
        self._begin, self._counted = state["begin"], state["counted"]
        self._skipped, self._spikes = state["skipped"], state.get("spikes", 0)
        self.findings = [Finding(**finding) for finding in state["findings"]]
        self._known.set_state(state)

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Judges the whole training, and detaches what watched the steps."""
        if self._evidence:
            # This uses the numbers as they were before other callbacks detached their rules.
            now = self._evidence.pop()
            seen = self._look() if now.seen is None else now.seen
            self._judge(dataclasses.replace(now, last=True, seen=seen))
        self.model.detach(self._known.hook)

    def _stop_if_skipped(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        if self._known.skipped:
            self._stop()

    def _stop(self) -> None:
        self.model.stop_training, self.stopped_epoch = True, self._epoch

    @property
    def _known(self) -> _Parts:
        assert self._parts is not None  # set_model comes first.
        return self._parts

    def _look(self) -> Examination | None:
        return self._known.look()

    def _gather(self, epoch: int, seen: Examination | None, logs: dict[str, Any]) -> Evidence:
        parts = self._known
        batches, skipped = parts.hook.batches, parts.skipped
        skips = spikes = None
        if parts.spikes is not None:
            count = parts.num_spikes
            made = (count - self._spikes, batches - self._counted)
            spikes = Skips(*made, "the norm of the gradient", stops=False)
            self._spikes = count
        if self.non_finite != "raise":
            counts = (skipped - self._skipped, batches - self._counted)
            skips = Skips(*counts, parts.skipped_name, self.non_finite == "stop")
        self._counted, self._skipped = batches, skipped
        return Evidence(
            epoch=epoch,
            step=parts.step,
            begin=self._begin or 0,
            last=False,
            numbers=_numbers(self.model, parts.hook.largest),
            multipliers=_multipliers(self.model),
            skips=skips,
            data=parts.data_range(),
            seen=seen,
            spikes=spikes,
            part_steps=parts.part_steps,
            accuracy=logs.get("discriminator_accuracy"),
            prior_is_matched=self.model.objective.matches_prior,
            kl_weight=self.model.objective.kl_weight,
        )

    def _judge(self, now: Evidence) -> None:
        """Warns of the symptoms that have not been reported yet."""
        told = {finding.symptom for finding in self.findings}
        for name, symptom in SYMPTOMS.items():
            text = None if name in told else symptom(now, self._evidence, self._limits)
            if text is not None:
                self.findings.append(Finding(name, now.epoch, now.step, text))
                where = f"{name} (epoch {now.epoch + 1}, step {now.step})"
                # A separate registry, or Python would show it in the first training only.
                text, line = f"{where}: {text}.", now.epoch + 1
                warnings.warn_explicit(text, HealthWarning, "HealthCheck", line, registry={})


class _Parts:
    """What belongs to one model; made once, so that a second training traces nothing again."""

    def __init__(
        self, model: Any, policy: str, spike_factor: float | None, data: tf.data.Dataset | None
    ):
        self.model = model
        self.hook = FirstExamples(model, _SIZE if data is None else 0)
        self._examiner = Examiner(model) if isinstance(model, VAE) else None
        self._held = None if data is None or self._examiner is None else _examples(model, data)
        self._range: Any = None
        self._steps_before: dict[str, int] = {}
        with model.distribute_strategy.scope():
            self._skipped, self._first = (_count(value) for value in (0, -1))
            self.spikes = None if spike_factor is None else SkipSpikes(spike_factor)
        rules = {"skip": non_finite.Skip, "stop": non_finite.Stop}
        known = policy in rules
        self.rule = rules[policy](self._skipped, self._first) if known else non_finite.Raise()

    def reset(self) -> None:
        self.hook.reset()
        self._range = None
        self._skipped.assign(0)
        self._first.assign(-1)
        if self.spikes is not None:
            self.spikes.skipped.assign(0)

    def get_state(self) -> dict[str, Any]:
        batches, first = self.hook.batches, int(np.asarray(self._first))
        state = {"batches": batches, "all_skipped": self.skipped, "first_bad": first}
        return state if self.spikes is None else {**state, **self.spikes.get_state()}

    def set_state(self, state: dict[str, Any]) -> None:
        self.hook.count_from(state["batches"])
        self._skipped.assign(state["all_skipped"])
        self._first.assign(state["first_bad"])
        if self.spikes is not None:
            self.spikes.set_state(state)

    @property
    def step(self) -> int:
        return int(np.asarray(self.model.optimizer.iterations))

    def count_from_here(self) -> None:
        """Notes how many steps the parts had made before this training."""
        self._steps_before = self._steps_of_parts()

    @property
    def part_steps(self) -> dict[str, int]:
        """Steps in this training of parts with an optimizer of their own, or without a gradient."""
        steps = self._steps_of_parts().items()
        found = {part: count - self._steps_before.get(part, 0) for part, count in steps}
        # An encoder or decoder without a gradient has symptoms of its own.
        idle = [part for part in self.hook.idle_parts if part not in ("encoder", "decoder")]
        return found | dict.fromkeys(idle, 0)

    def _steps_of_parts(self) -> dict[str, int]:
        optimizer = without_loss_scaling(self.model.optimizer)
        if not isinstance(optimizer, PartOptimizer):
            return {}
        return {
            part: int(np.asarray(optimizer[part].iterations)) for part in sorted({*optimizer.parts})
        }

    @property
    def skipped(self) -> int:
        return int(np.asarray(self._skipped))

    @property
    def num_spikes(self) -> int:
        return 0 if self.spikes is None else int(np.asarray(self.spikes.skipped))

    @property
    def skipped_name(self) -> str:
        return self.model.names_of_quantities[int(np.asarray(self._first))]

    def _examples(self) -> tuple[tf.Tensor, Any] | None:
        """Returns two or more examples, or None."""
        if self._examiner is None:
            return None
        x, y = self.hook.read() if self._held is None else self._held
        return (x, y) if len(x) > 1 else None

    def look(self) -> Examination | None:
        found = self._examples()
        if found is None or self._examiner is None:
            return None
        return self._examiner(*found, posterior_learns="encoder" not in self.hook.idle_parts)

    def data_range(self) -> Any:
        """Returns the range of the examples, which stay the same throughout a training."""
        if self._range is None:
            found = self._examples()
            if found is not None and self._examiner is not None:
                self._range = self._examiner.range_of(found[0])
        return self._range


def _count(value: int) -> keras.Variable:
    return keras.Variable(value, dtype="int32", trainable=False, aggregation="only_first_replica")


def _examples(model: VAE, data: tf.data.Dataset) -> tuple[tf.Tensor, Any]:
    """Returns the first examples of the data, in the form that `fit` takes, standardized."""
    parts = zip(*first_examples(data, _SIZE), strict=True)
    x, y = (*(tf.concat(list(part), axis=0) for part in parts), None)[:2]
    return model.check_support(*model.standardize(x, y))


def _numbers(model: Any, largest: Mapping[str, float]) -> dict[str, Number]:
    rules = {id(getattr(hook, "variable", None)): hook for hook in model.hooks.values()}
    found = {}
    for name, variable in model.hyperparameters.items():
        hook = rules.get(id(variable))
        kind = "schedule" if isinstance(hook, ScheduledValue) else "feedback"
        rule = kind if hook is not None else None
        found[name] = Number(float(np.asarray(variable)), rule, largest.get(name, -math.inf))
    return found


def _multipliers(model: Any) -> list[Multiplier]:
    return [
        Multiplier(
            hook.name,
            float(np.asarray(hook.variable)),
            hook.bounds[1],
            float(np.asarray(hook.average.variable)),
        )
        for hook in model.hooks.values()
        if isinstance(hook, MultiplierRule)
    ]
