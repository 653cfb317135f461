"""Watches how the latent dimensions develop in a training."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import numpy as np

from keras_vae.callbacks.monitors.base import Monitor, path_of
from keras_vae.callbacks.monitors.epoch_table import EpochTable
from keras_vae.core import checks
from keras_vae.evaluation.latent_statistics import LatentReader, LatentStatistics


class LatentMonitor(Monitor):
    """Measures active units, the KL and the aggregate posterior of each latent dimension.

    active units = #{d: Var_x(E_q[z_d]) > threshold},  KL_d = E_x KL(q(z_d|x) || p(z_d))
    aggregate mean_d = E_x E_q[z_d],  aggregate variance_d = E_x Var_q[z_d] + Var_x E_q[z_d]

    It measures on held-out data after the first epoch of a training, after every n-th and after the
    last, without changing the training. If the posterior or prior does not factorize over the
    dimensions, there is one KL for each group of latent variables, as for free bits. A KL that has
    no closed form is estimated, with the same noise every time.

    The logs hold `active_units`, `latent_kl` (over all dimensions) and `latent_kl_max` (that of the
    dimension or group with the largest KL), in nats; in the epochs between measurements, they hold
    the last values. For a model with several groups they also hold `active_units_z1`,
    `latent_kl_z1` and so on. Callbacks receive the logs in order, so put this one before those that
    read them, such as `CSVLogger` or `ModelCheckpoint(monitor="active_units")`. `History` always
    has them.

    A training that begins at epoch n, by `initial_epoch` or `BackupAndRestore`, keeps the rows of
    `csv` for the epochs before n and replaces the others; one that begins at 0 replaces them all.

    Args:
        data: Held-out data: array `[N, *E]`, pair of arrays `(x, y)`, or dataset of batches as
            `fit` takes it. A dataset is read once per measurement.
        every: Number n of epochs.
        num_examples: How many of the first examples to measure; None for all.
        threshold: A unit is active if the variance of its posterior mean exceeds this.
        csv: Path of a table with a row for each epoch and dimension, or None.
        log_dir: TensorBoard folder for histograms over the dimensions, or None. It needs the extra
            `keras_vae[tensorboard]`.
        batch_size: Number of examples to process at once, if `data` holds arrays.

    Attributes:
        history: The measurements by epoch, counted from 0, each with the fields `active_units`,
            `kl`, `mean`, `variance` and `groups`.

    Raises:
        ValueError: If an argument is not as above; at the start of `fit`, if a file cannot be
            written, or the model and the data do not fit together.
        ImportError: If `log_dir` is given, but TensorBoard is not installed.

    Example:
        >>> import tensorflow as tf, keras_vae as kv
        >>> model = kv.VAE(
        ...     encoder=kv.networks.MLPEncoder((32,)),
        ...     decoder=kv.networks.MLPDecoder((8, 8, 1), (32,)),
        ...     posterior=kv.posteriors.DiagonalNormal(2),
        ...     likelihood=kv.likelihoods.Bernoulli((8, 8, 1)))
        >>> model.compile("adam")
        >>> monitor = LatentMonitor(tf.zeros([64, 8, 8, 1]))
        >>> history = model.fit(tf.zeros([64, 8, 8, 1]), epochs=1, verbose=0, callbacks=[monitor])
        >>> history.history["active_units"], monitor.history[0].kl.shape
        ([0], (2,))

    References:
        Burda et al., 2016, section 5.2, arXiv:1509.00519 (active units); Kingma et al., 2016,
        appendix C.8, arXiv:1606.04934 (KL by group); Makhzani et al., 2016, arXiv:1511.05644
        (aggregate posterior).
    """

    def __init__(
        self,
        data: Any,
        every: int = 1,
        *,
        num_examples: int | None = 1000,
        threshold: float = 0.01,
        csv: str | os.PathLike[str] | None = None,
        log_dir: str | os.PathLike[str] | None = None,
        batch_size: int = 128,
    ):
        super().__init__(data, every, log_dir, batch_size)
        self.threshold = checks.number("threshold", threshold, minimum=0.0)
        self.num_examples = self._checked_count(num_examples)
        self.csv = path_of("csv", csv)
        self.history: dict[int, LatentStatistics] = {}
        self._reader: LatentReader | None = None
        self._table: EpochTable | None = None

    def set_model(self, model: Any) -> None:
        """Prepares the measurement, once for all trainings of this model."""
        known = self._reader is not None and self.model is model
        super().set_model(model)
        if not known:
            self._reader = LatentReader(model, self._data)

    def open(self) -> None:
        """Opens the table."""
        if self.csv is None:
            return
        shape = self.model.posterior_head.event_shape  # [D], or [D, K] for categorical variables
        columns = ["dimension", "class"][: len(shape)]
        columns += ["active", "kl", "kl_total", "mean", "variance", "variance_of_means"]
        columns += ["group", "group_kl"] if len(self.model.latents) > 1 else []
        self._table = EpochTable("csv", self.csv, columns, int(np.prod(shape)))

    def start(self, epoch: int) -> None:
        """Keeps what was measured after the epochs before this one."""
        self.history = {n: found for n, found in self.history.items() if n < epoch}
        if self._table is not None:
            self._table.start(epoch)

    def look(self, epoch: int) -> None:
        """Measures the model after an epoch."""
        assert self._reader is not None  # set_model comes first.
        found = self._reader(self.threshold, self.num_examples)
        self.history[epoch] = found
        if self._table is not None:
            self._table.append(epoch, _rows(found))
        summary = self._last = _summary(found)
        self._writer.scalars({f"latent/{name}": value for name, value in summary.items()}, epoch)
        for name, values in _arrays(found).items():
            self._writer.histogram(f"latent/{name}", values, epoch)


def _summary(found: LatentStatistics) -> dict[str, float]:
    summary = {
        "active_units": found.active_units.count,
        "latent_kl": float(np.sum(found.kl)),
        "latent_kl_max": float(np.max(found.kl)),
    }
    for group in found.groups if len(found.groups) > 1 else ():
        summary[f"active_units_{group.name}"] = group.active_units
        if group.kl is not None:
            summary[f"latent_kl_{group.name}"] = group.kl
    return summary


def _arrays(found: LatentStatistics) -> dict[str, np.ndarray]:
    return {
        "kl": found.kl,
        "mean": found.mean,
        "variance": found.variance,
        "variance_of_means": found.active_units.variances,
    }


def _rows(found: LatentStatistics) -> Iterator[list[Any]]:
    """Yields a row for each dimension, or for each class of each categorical variable."""
    arrays, total = _arrays(found), float(np.sum(found.kl))
    kl, moments = arrays.pop("kl"), list(arrays.values())
    joint = len(kl) != len(found.mean)
    several = len(found.groups) > 1
    owners = [group for group in found.groups for _ in range(group.dimensions)]
    for index in np.ndindex(found.mean.shape):
        first = index[0]
        own_kl = "" if joint else float(kl[first])
        group = [owners[first].name, "" if owners[first].kl is None else owners[first].kl]
        row = [*index, int(found.active_units.active[first]), own_kl, total]
        yield [*row, *(float(m[index]) for m in moments), *(group if several else [])]
