"""Exports a SavedModel for serving, which needs only TensorFlow to run."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

import tensorflow as tf

from keras_vae.core import checks
from keras_vae.core.files import written_whole
from keras_vae.core.seeds import fold
from keras_vae.models import VAE
from keras_vae.models.importance import importance_estimate
from keras_vae.training import errors, workers

__all__ = ["export_saved_model"]


def export_saved_model(
    model: VAE,
    path: str | os.PathLike,
    overwrite: bool = False,
    temperature: float | Mapping[str, float] = 1.0,
) -> str:
    """Writes a model as a SavedModel with signatures for serving.

    | signature        | inputs              | outputs                            |
    |------------------|---------------------|------------------------------------|
    | `encode`         | `x`                 | `mean`, `scale` of q(z|x) `[B, D]` |
    | `decode`         | `z`                 | `mean` of p(x|z)                   |
    | `reconstruct`    | `x`                 | `mean` of p(x|z) at the mean of q  |
    | `sample`         | `count`, `seed`     | `mean` of p(x|z) at z ~ p(z)       |
    | `log_likelihood` | `x`, `count`, `seed`| `log_likelihood`, L_count, nats    |

    For a model with several groups of latent variables, `encode` also returns each group in its own
    shape, such as `mean_z1` and `scale_z1`. A model of codes has `codes` `[B, N]` in place of mean
    and scale, and z are codes `[B, N]`. For a conditional model, each signature has an additional
    input `y`. The batch may have any size. The folder is written completely or not at all: it is
    first written under another name, and then renamed to `path`. Among several workers, only the
    chief writes.

    Args:
        model: The model.
        path: Folder to write; TensorFlow Serving expects its last part to be a version number.
        overwrite: Whether to replace an existing folder.
        temperature: At which `sample` draws z, as in `model.sample`. All other signatures are those
            of temperature 1.

    Returns:
        `path`, as a string.

    Raises:
        FileExistsError: If `path` exists and `overwrite` is False.
        ValueError: If the model is not a `VAE`, or `model.sample` refuses the temperature.

    Example:
        >>> import tempfile, keras_vae as kv
        >>> model = kv.VAE(
        ...     encoder=kv.networks.MLPEncoder((32,)),
        ...     decoder=kv.networks.MLPDecoder((8, 8, 1), (32,)),
        ...     posterior=kv.posteriors.DiagonalNormal(2),
        ...     likelihood=kv.likelihoods.Bernoulli((8, 8, 1)))
        >>> path = export_saved_model(model, tempfile.mkdtemp() + "/1")
        >>> served = tf.saved_model.load(path)
        >>> served.signatures["sample"](count=tf.constant(3), seed=tf.constant(1))["mean"].shape
        TensorShape([3, 8, 8, 1])
    """
    if not isinstance(model, VAE):
        raise checks.invalid("model", "must be a keras_vae.VAE", model)
    target = checks.path("path", path)
    checks.flag("overwrite", overwrite)
    if not workers.writes(model.distribute_strategy):
        return str(path)
    if target.exists() and not overwrite:
        raise FileExistsError(
            f"Argument `path` must not exist, unless overwrite=True. Received: path={str(path)!r}"
        )
    signatures = _signatures(model, temperature)
    target.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(target) as written:
        module = tf.Module()
        # Leave out metrics, as reading those of several workers takes all of them, and also what
        # only training needs: the objective, and its discriminator if it has one.
        unserved = [v for part in (*model.metrics, model.objective) for v in part.variables]
        left_out = {id(variable) for variable in unserved}
        module.weights = [v.value for v in model.variables if id(v) not in left_out]
        tf.saved_model.save(module, str(written), signatures=signatures)
    return str(path)


def _signatures(
    model: VAE, temperature: float | Mapping[str, float] = 1.0
) -> dict[str, Callable[..., Any]]:
    def checked(x: tf.Tensor, y: Any) -> tuple[tf.Tensor, Any]:
        return model.check_support(*model.standardize(x, y))

    def encode(x: tf.Tensor, y: Any = None) -> dict[str, tf.Tensor]:
        summary = model.posterior_head.summary(model.encode(*checked(x, y)))
        return {**summary, **_groups_of(model, summary)}

    def decode(z: tf.Tensor, y: Any = None) -> dict[str, tf.Tensor]:
        return {"mean": model.decode(model.check_z(z), model.labels.checked(y)).mean()}

    def reconstruct(x: tf.Tensor, y: Any = None) -> dict[str, tf.Tensor]:
        x, y = checked(x, y)
        return {"mean": model(x, y=y)}

    def sample(count: tf.Tensor, seed: tf.Tensor, y: Any = None) -> dict[str, tf.Tensor]:
        y, drawn = model.labels.checked(y), (_positive(count), _stateless(seed))
        return {"mean": model.sample(*drawn, y=y, temperature=temperature)}

    def log_likelihood(
        x: tf.Tensor, count: tf.Tensor, seed: tf.Tensor, y: Any = None
    ) -> dict[str, tf.Tensor]:
        x, y = checked(x, y)
        # This is the seed of the first batch in `evaluation.log_likelihood`, so that both agree.
        batch_seed = fold(_stateless(seed), 0)
        estimate = importance_estimate(model, x, _positive(count), batch_seed, y)
        return {"log_likelihood": estimate.log_likelihood}

    dtype, labels = model.likelihood_head.density_dtype, model.labels.spec
    x = {"x": tf.TensorSpec((None, *model.likelihood_head.event_shape), dtype, name="x")}
    head = model.posterior_head
    z = {"z": tf.TensorSpec((None, *head.event_shape), head.z_dtype, name="z")}
    numbers = {name: tf.TensorSpec((), tf.int32, name=name) for name in ("count", "seed")}
    inputs: dict[Callable[..., Any], dict[str, tf.TensorSpec]] = {
        encode: x,
        decode: z,
        reconstruct: x,
        sample: numbers,
        log_likelihood: {**x, **numbers},
    }
    return {
        function.__name__: _traced(function, {**specs, **labels})
        for function, specs in inputs.items()
    }


def _groups_of(model: VAE, summary: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """Returns the part of `summary` for each group, `[B, *shape]`, unless z is the only one."""
    if list(model.latents) == ["z"]:
        return {}
    return {
        f"{key}_{name}": group
        for key, value in summary.items()
        for name, group in model.split(value).items()
    }


def _traced(function: Callable[..., Any], specs: dict[str, tf.TensorSpec]) -> Any:
    return tf.function(function, autograph=False).get_concrete_function(**specs)


def _positive(count: tf.Tensor) -> tf.Tensor:
    rule = "Argument `count` must be an integer >= 1. Received: count={}"
    return errors.require(count >= 1, lambda: tf.strings.format(rule, count), count)


def _stateless(seed: tf.Tensor) -> tf.Tensor:
    """Returns the stateless seed that `seed_tensor` gives for a Python integer below 2^31."""
    return tf.stack([seed, 0])
