"""What a model of codes requires of its parts and arguments, and where its codebooks start."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import tensorflow as tf

from keras_vae.core import checks
from keras_vae.core.numerics import checked_tensor
from keras_vae.distributions.codes import CodeGroups, checked_codes, rule_of_codes, which_exist
from keras_vae.terms import checked_z
from keras_vae.training import errors
from keras_vae.training.data import Data, check_not_symbolic
from keras_vae.training.replicas import sum_over_replicas

# How many vectors per code k-means is given, and the maximum in total.
_VECTORS_PER_CODE = 64
_MOST_VECTORS = 2**16


def check_objective(objective: Any) -> None:
    """Raises a `ValueError` unless an objective can train with a point mass as q(z|x)."""
    if not objective.pathwise:
        rule = "must take gradients through z: a point mass, as a quantizer is, has no score"
        raise checks.invalid("objective", rule, type(objective).__name__)
    if objective.computes_with_z:
        rule = "must not compute with z, which holds codes: names, and no numbers"
        raise checks.invalid("objective", rule, type(objective).__name__)
    if objective.num_samples > 1:
        rule = "must have num_samples=1: all samples of a quantizer are the same"
        raise checks.invalid("objective", rule, objective.num_samples)


def check_prior(posterior: Any, prior: Any) -> None:
    """Raises a `ValueError` if a prior is over other codes than the posterior or takes labels."""
    if getattr(prior, "condition_shape", None) is not None:
        rule = "must have no condition: a model of codes has no labels, only keras_vae.PriorModel"
        raise checks.invalid("prior", rule, f"one built for {prior.condition_shape}")
    layout = getattr(prior, "groups", posterior.groups)
    if layout.num_codes != posterior.groups.num_codes:
        raise ValueError(
            f"Argument `prior` must be over as many codes as the posterior has, "
            f"{posterior.groups.num_codes}. Received: a prior over {layout.num_codes}"
        )
    for theirs, mine in zip(layout.maps, posterior.groups.maps, strict=True):
        if theirs not in (mine, (math.prod(mine),)):
            rule = f"must be over maps of the same shape as the posterior, {posterior.groups.maps}"
            raise checks.invalid("prior", rule, f"one over {layout.maps}")


def checked(layout: CodeGroups, z: Any) -> tf.Tensor:
    """Returns codes as int32 `[..., N]`, or raises a `ValueError`; values are checked eagerly."""
    check_not_symbolic("z", z)
    return checked_codes("z", checked_z(checked_tensor("z", z), (layout.size,)), layout.counts)


def supported(layout: CodeGroups, z: tf.Tensor) -> tf.Tensor:
    """Returns codes `[..., N]`; using them raises a `ValueError` if one does not exist."""
    error = f"{rule_of_codes('z', layout.num_codes)}. Received: values in [{{}} .. {{}}]"
    exist = tf.reduce_all(which_exist(z, layout.counts))
    values = (tf.reduce_min(z), tf.reduce_max(z))
    return errors.require(exist, lambda: tf.strings.format(error, values), z)


def measure(layout: CodeGroups, codes: tf.Tensor, dtype: tf.DType) -> dict[str, tf.Tensor]:
    """Returns the perplexity and usage of the codes in the batches of all replicas, each `[B]`.

    Args:
        layout: The groups of codes; the results are means over them.
        codes: The codes, int32 `[B, N]`.
        dtype: The dtype of the result.
    """
    local = [
        tf.math.unsorted_segment_sum(tf.ones_like(group, dtype), group, count)
        for group, count in zip(layout.split(codes), layout.num_codes, strict=True)
    ]
    counts = sum_over_replicas(local)
    perplexity = tf.add_n([perplexity_of(one) for one in counts]) / len(counts)
    usage = tf.add_n([usage_of(one) for one in counts]) / len(counts)
    ones = tf.ones(tf.shape(codes)[:1], dtype)
    return {"perplexity": perplexity * ones, "usage": usage * ones}


def perplexity_of(counts: tf.Tensor) -> tf.Tensor:
    """Returns exp of the entropy of the frequencies given by counts `[K]`, between 1 and K.

    Example:
        >>> round(float(perplexity_of(tf.constant([5.0, 5.0, 0.0]))), 4)
        2.0
    """
    p = counts / tf.maximum(tf.reduce_sum(counts), 1.0)
    return tf.exp(-tf.reduce_sum(tf.math.xlogy(p, p)))


def usage_of(counts: tf.Tensor) -> tf.Tensor:
    """Returns the share of codes that occur at least once, given counts `[K]`."""
    return tf.reduce_mean(tf.cast(counts > 0.0, counts.dtype))


def initialize_codebook(model: Any, data: Any, seed: int) -> None:
    """Sets the codebooks of a `VQVAE` by k-means; see `VQVAE.initialize_codebook`."""
    head = model.posterior_head
    if not head.sizes_of_codebooks:
        rule = "must have a codebook that can be initialized"
        raise checks.invalid("posterior", rule, type(head).__name__)
    needed = [
        -(-min(_VECTORS_PER_CODE * num_codes, max(_MOST_VECTORS, num_codes)) // places)
        for places, num_codes in head.sizes_of_codebooks
    ]
    x = _draw_examples(model, data, max(needed), seed)
    for places, num_codes in head.sizes_of_codebooks:
        if len(x) * places < num_codes:
            rule = f"must give a vector for each of {num_codes} codes at least, {places} an example"
            raise checks.invalid("data", rule, f"{len(x)} examples")
    features = [
        model.encoder(model.likelihood_head.encoder_input(tf.convert_to_tensor(batch)))
        for batch in np.array_split(x, -(-len(x) // 128))
    ]
    head.initialize(tf.concat(features, axis=0), seed)


def _draw_examples(model: Any, data: Any, count: int, seed: int) -> np.ndarray:
    """Returns this many random examples of the data, or all if there are fewer: `[n, *E]`."""
    rng, keys = np.random.default_rng(seed), np.zeros([0])
    kept = np.zeros([0, *model.likelihood_head.event_shape], model.likelihood_head.density_dtype)
    data = Data.of("data", data)
    data.check_ends()
    for x, _ in data.checked_batches(model._checked):
        x = np.asarray(x)
        keys = np.concatenate([keys, rng.random(len(x))])
        kept = np.concatenate([kept, x])
        first = np.argsort(keys)[:count]
        keys, kept = keys[first], kept[first]
    return kept
