"""What a row of a table is: parts of a model, callbacks, data and a recipe."""

from __future__ import annotations

import dataclasses
import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

import keras_vae as kv


def _muon(rate: float, weight_decay: float, **options: Any) -> keras.optimizers.Optimizer:
    # The oldest Keras that the package runs with has no Muon: it is looked up when it is used.
    return keras.optimizers.Muon(rate, weight_decay=weight_decay, adam_weight_decay=0.0, **options)


def _adam(rate: float, weight_decay: float, **options: Any) -> keras.optimizers.Optimizer:
    return keras.optimizers.Adam(rate, weight_decay=weight_decay or None, **options)


def _adamax(rate: float, weight_decay: float, **options: Any) -> keras.optimizers.Optimizer:
    return keras.optimizers.Adamax(rate, weight_decay=weight_decay or None, **options)


OPTIMIZERS = {"adam": _adam, "adamax": _adamax, "muon": _muon}


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How a row is trained, in numbers that its results record.

    How the defaults were chosen is told in docs/published.md.

    Attributes:
        passes: Over the training data.
        batch_size: Integer.
        optimizer: Name of one of `OPTIMIZERS`.
        learning_rate: The highest, where it goes through a cycle.
        encoder_optimizer: Name of that of the encoder and the posterior, if not that of all.
        encoder_learning_rate: The highest of it.
        cycle: Whether the learning rate rises and falls by a half cosine; else it is constant.
        warmup: Fraction of the steps in which it rises.
        initial_division: The learning rate at the start is the highest divided by it.
        final_division: The learning rate at the end is that at the start divided by it.
        endpoint: Whether the last update has the learning rate of the end. The results are of
            cycles that end one step later.
        epsilon: Of Adam, which Muon leaves all but matrices to.
        weight_decay: Of matrices, whose step is weight_decay times the learning rate times them; of
            Adam, of biases, too.
        kl_warmup: Fraction of the steps in which beta rises from 0 to 1.
        ema_momentum: Of the moving average of the weights, which takes their place at the end;
            0 for none.
    """

    passes: int
    batch_size: int = 500
    optimizer: str = "muon"
    learning_rate: float = 8e-3
    encoder_optimizer: str = ""
    encoder_learning_rate: float = 0.0
    cycle: bool = True
    warmup: float = 0.05
    initial_division: float = 25.0
    final_division: float = 1e3
    endpoint: bool = False
    epsilon: float = 1e-4
    weight_decay: float = 0.0
    kl_warmup: float = 0.1
    ema_momentum: float = 0.0

    def __post_init__(self) -> None:
        if bool(self.encoder_optimizer) != bool(self.encoder_learning_rate):
            raise ValueError(
                "encoder_optimizer and encoder_learning_rate must be given both or neither, not "
                f"{self.encoder_optimizer!r} and {self.encoder_learning_rate}"
            )

    def compile(self, model: kv.VAE) -> None:
        """Gives a model its optimizer, or one for each part."""
        options: dict[str, Any] = {"epsilon": self.epsilon, "weight_decay": self.weight_decay}
        if self.ema_momentum:
            options |= {"use_ema": True, "ema_momentum": self.ema_momentum}
        made = {
            part: OPTIMIZERS[name](rate, **options)
            for part, (name, rate) in self._optimizers().items()
        }
        model.compile(made[""] if "" in made else kv.optimizers.by_part(model, **made))

    def callbacks(self, steps: int) -> list[keras.callbacks.Callback]:
        """Returns what drives learning rates and beta in a training of so many steps."""
        made = []
        if self.cycle:
            names = ("warmup", "initial_division", "final_division", "endpoint")
            numbers = {name: getattr(self, name) for name in names}
            for part, (_, rate) in self._optimizers().items():
                name = f"{part}.learning_rate" if part else "learning_rate"
                cycle = kv.schedules.OneCycle(rate, steps, **numbers)
                made.append(kv.callbacks.HyperparameterSchedule(name, cycle))
        if self.kl_warmup:
            rising = kv.schedules.Linear(0.0, 1.0, max(1, round(self.kl_warmup * steps)))
            made.append(kv.callbacks.KLAnnealing(rising))
        return made

    def _optimizers(self) -> dict[str, tuple[str, float]]:
        """Returns names and highest rates by part of the model; of one for all by ""."""
        of_all = (self.optimizer, self.learning_rate)
        if not self.encoder_optimizer:
            return {"": of_all}
        of_encoder = (self.encoder_optimizer, self.encoder_learning_rate)
        return {"encoder": of_encoder, "default": of_all}

    def changed(self, texts: Sequence[str]) -> Recipe:
        """Returns the recipe with some numbers changed, each given as `name=value`."""
        kinds = {field.name: type(getattr(self, field.name)) for field in dataclasses.fields(self)}
        given = {name: text for name, _, text in (text.partition("=") for text in texts)}
        for name in given:
            if name not in kinds:
                raise SystemExit(f"--recipe: no {name}, but {', '.join(kinds)}")
        numbers = {name: _number(name, kinds[name], text) for name, text in given.items()}
        try:
            return dataclasses.replace(self, **numbers)
        except ValueError as error:
            raise SystemExit(f"--recipe: {error}") from None


@dataclasses.dataclass(frozen=True)
class Data:
    """Which images, and what becomes of them.

    Attributes:
        name: As of `kv.data.load`.
        binarize: As of `kv.data.load`.
        options: What else of `kv.data.load`.
    """

    name: str = "mnist"
    binarize: str | None = "dynamic"
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def load(self, split: str, batch_size: int, **options: Any) -> tf.data.Dataset:
        """Returns batches."""
        options = {"binarize": self.binarize, **self.options, **options}
        return kv.data.load(self.name, split, batch_size, **options)


@dataclasses.dataclass(frozen=True)
class Row:
    """A row of a table.

    Attributes:
        label: What it is called.
        parts: Makes the arguments of the model.
        recipe: How it is trained.
        published: Numbers of the literature, by the name of the column.
        data: On what.
        callbacks: Options of callbacks beside those of the recipe, by their names in
            `kv.callbacks`.
        bias_of_data: Whether the bias of the output starts at the mean of the data.
        comparable: Whether what is published is of such a network on such data.
        model: Its class.
        num_samples: Of the NLL, where the command does not say.
    """

    label: str
    parts: Callable[[], dict[str, Any]]
    recipe: Recipe
    published: Mapping[str, Any]
    data: Data = Data()
    callbacks: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)
    bias_of_data: bool = True
    comparable: bool = True
    model: Callable[..., kv.VAE] = kv.VAE
    num_samples: int = 5000

    def setting(self) -> dict[str, Any]:
        """Returns all that a training depends on beside recipe, seed and split, as of JSON."""
        config = self.model(**self.parts()).get_config()
        del config["seed"]  # That of the row; those that a prior draws its first values by stay.
        found = {
            "model": described(config),
            "callbacks": {
                name: _all_options(name, given) for name, given in self.callbacks.items()
            },
            "data": dataclasses.asdict(self.data),
            "bias_of_data": self.bias_of_data,
        }
        return json.loads(json.dumps(found))


def _all_options(callback: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the options of a callback with those that it has by default."""
    bound = inspect.signature(getattr(kv.callbacks, callback)).bind(**given)
    bound.apply_defaults()
    return dict(bound.arguments)


# What Keras notes of every layer, and no number depends on; trainable, dtype and options that came
# later where they are as all rows have them.
_LEFT_OUT = ("name", "build_config", "build_input_shape")
_USUAL = {"trainable": True, "dtype": "float32", "kl_balancing": None}


def described(config: Any) -> Any:
    """Returns the configuration of a model in short: classes, and their own arguments."""
    if isinstance(config, list):
        return [described(item) for item in config]
    if not isinstance(config, dict):
        return config
    if "class_name" in config:
        return {config["class_name"]: described(config["config"])}
    kept = {key: value for key, value in config.items() if key not in _LEFT_OUT}
    for key, usual in _USUAL.items():
        value = _name(kept.pop(key, usual))
        if value != usual:
            kept[key] = value
    if "layers" in kept:
        kept["layers"] = [one for one in kept["layers"] if one["class_name"] != "InputLayer"]
    return {key: described(value) for key, value in kept.items()}


def _name(value: Any) -> Any:
    """Returns the name of a policy of data types, and any other value as it is."""
    return value["config"]["name"] if isinstance(value, dict) and "config" in value else value


def _number(name: str, kind: type, text: str) -> Any:
    """Returns a number of a recipe from its text, or ends the command."""
    if name.endswith("optimizer") and text not in OPTIMIZERS:
        raise SystemExit(f"--recipe: {name} must be one of {', '.join(OPTIMIZERS)}, not {text}")
    known = {"true": True, "false": False}
    try:
        return known[text.lower()] if kind is bool else kind(text)
    except (KeyError, ValueError):
        raise SystemExit(f"--recipe: {name} must be of type {kind.__name__}, not {text}") from None
