"""How often each code of a codebook is used."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from keras_vae.evaluation.reading import checked_model, map_batches
from keras_vae.models import VQVAE
from keras_vae.training import errors
from keras_vae.training.data import any_number_of, first_examples, inputs_of


@dataclasses.dataclass(frozen=True)
class CodeUsage:
    """How often the codes of each group occur in some data.

    Attributes:
        counts: How often each code of a group occurs, `[K]`, keyed by the names in `model.latents`.

    Example:
        >>> usage = CodeUsage({"z": np.array([5, 0, 5, 0])})
        >>> round(usage.perplexity["z"], 4), usage.share_in_use["z"], usage.dead["z"].tolist()
        (2.0, 0.5, [1, 3])
    """

    counts: Mapping[str, np.ndarray] = dataclasses.field(repr=False)

    @property
    def perplexity(self) -> dict[str, float]:
        """Exponential of the entropy of each group's frequencies: its effective number of codes."""
        return {name: _perplexity(counts) for name, counts in self.counts.items()}

    @property
    def share_in_use(self) -> dict[str, float]:
        """The share of each group's codes that occur."""
        return {name: float(np.mean(counts > 0)) for name, counts in self.counts.items()}

    @property
    def dead(self) -> dict[str, np.ndarray]:
        """The codes of each group that do not occur."""
        return {name: np.flatnonzero(counts == 0) for name, counts in self.counts.items()}


def code_usage(model: Any, data: Any, *, batch_size: int = 128, verbose: bool = True) -> CodeUsage:
    """Counts how often each code is used for some data.

    perplexity = exp(-sum_k p_k log p_k),  p_k the frequency of code k

    Args:
        model: A `VQVAE`.
        data: Array `[N, *E]`, or dataset of batches as `fit` takes it.
        batch_size: Number of examples to process at once, if `data` is an array.
        verbose: Whether to show progress if it takes long.

    Returns:
        A `CodeUsage`.

    Raises:
        ValueError: If the model has no codes, or the data are empty or have no density.

    Example:
        >>> import keras_vae as kv
        >>> model = kv.VQVAE(
        ...     encoder=kv.networks.MLPEncoder((32,)),
        ...     decoder=kv.networks.MLPDecoder((8, 8, 1), (32,)),
        ...     posterior=kv.posteriors.VectorQuantizer((3,), codebook_size=16, code_dim=4),
        ...     likelihood=kv.likelihoods.Bernoulli((8, 8, 1)))
        >>> usage = code_usage(model, tf.zeros([64, 8, 8, 1]))
        >>> int(usage.counts["z"].sum()), len(usage.dead["z"]) >= 13
        (192, True)

    References:
        van den Oord et al., 2017, arXiv:1711.00937.
    """
    checked_model(model, VQVAE)

    def count(x: tf.Tensor, y: Any, seed: tf.Tensor) -> dict[str, tf.Tensor]:
        return count_codes(model, model.encode(x).codes)

    return _total(model, list(map_batches(count, model, data, batch_size, verbose=verbose)))


class CodeReader:
    """Computes a `CodeUsage` repeatedly while the model is being trained, in a single graph.

    Args:
        model: A `VQVAE`.
        data: A dataset of batches as `fit` takes it.
    """

    def __init__(self, model: VQVAE, data: tf.data.Dataset):
        self._model, self._data = model, data
        spec = tf.nest.map_structure(any_number_of, inputs_of(data.element_spec))
        function = tf.function(self._count, autograph=False).get_concrete_function(spec)
        self._function = errors.as_python_errors(function)

    def __call__(self, num_examples: int | None) -> CodeUsage:
        """Returns the usage in the first examples of the data, or in all of them."""
        batches = first_examples(self._data, num_examples)
        return _total(self._model, [self._function(batch) for batch in batches])

    def _count(self, batch: list[tf.Tensor]) -> dict[str, tf.Tensor]:
        x, _ = self._model.standardize(batch[0])
        return count_codes(self._model, self._model.encode(x).codes)


def _total(model: VQVAE, parts: Sequence[Mapping[str, Any]]) -> CodeUsage:
    if not parts:
        raise ValueError("Argument `data` must hold at least one example. Received: none")
    return CodeUsage(
        {name: np.sum([np.asarray(part[name]) for part in parts], axis=0) for name in model.latents}
    )


def count_codes(model: VQVAE, codes: tf.Tensor) -> dict[str, tf.Tensor]:
    """Returns how often each code occurs in codes `[B, N]`, as int32 `[K]` by group name."""
    layout = model.posterior_head.groups
    groups = zip(model.latents, layout.split(codes), layout.num_codes, strict=True)
    return {
        name: tf.math.unsorted_segment_sum(tf.ones_like(group), group, count)
        for name, group, count in groups
    }


def _perplexity(counts: np.ndarray) -> float:
    p = counts[counts > 0] / counts.sum()
    return float(np.exp(-np.sum(p * np.log(p))))
