"""Watches how a training uses its codes."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_vae import plotting
from keras_vae.callbacks.monitors.base import Monitor, path_of
from keras_vae.callbacks.monitors.epoch_table import EpochTable
from keras_vae.callbacks.monitors.frames import Frames, pixels, png
from keras_vae.evaluation.code_usage import CodeReader, CodeUsage
from keras_vae.evaluation.reading import checked_model, is_image
from keras_vae.models import VQVAE

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# For the pictures of single codes.
_COLUMNS, _MOST_PICTURES = 10, 80


class CodebookMonitor(Monitor):
    """Counts how often each code is used while a `VQVAE` is trained, and draws what it stands for.

    perplexity = exp(-sum_k p_k log p_k),  p_k the frequency of code k in held-out data

    It counts after the first epoch of a training, after every n-th and after the last, without
    changing the training. The logs hold `code_perplexity` and `codes_in_use`, the share of codes
    that occur, both averaged over the groups of codes; for a model with several groups they also
    hold `code_perplexity_z1`, `codes_in_use_z1` and so on. In the epochs between, they keep their
    last values. A share that stays small is a collapse; see `docs/codes.md` for remedies.

    The picture of a code shows what the decoder makes of a map that holds this code everywhere; any
    other groups hold their most frequent code. The codes of the last group are drawn, at most 80,
    starting with the most frequent.

    Args:
        data: Held-out data: array `[N, *E]`, or dataset of batches as `fit` takes it.
        every: Number n of epochs.
        num_examples: How many of the first examples to count; None for all.
        csv: Path of a table with a row for each epoch and code: group, code, count; or None.
        directory: Folder for PNG files `codes/epoch_0001.png`, ... of models of images, and
            `histograms/epoch_0001.png`, ...; or None.
        log_dir: TensorBoard folder for histograms of the counts, or None. It needs the extra
            `keras_vae[tensorboard]`.
        batch_size: Number of examples to process at once, if `data` is an array.

    Attributes:
        history: The `evaluation.CodeUsage` of each epoch looked at, by epoch, counted from 0.

    Raises:
        ValueError: If an argument is not as above; at the start of `fit`, if a file cannot be
            written, or the model is not a `VQVAE`.
        ImportError: If `log_dir` is given, but TensorBoard is not installed.

    Example:
        >>> import tensorflow as tf, keras_vae as kv
        >>> model = kv.VQVAE(
        ...     encoder=kv.networks.MLPEncoder((32,)),
        ...     decoder=kv.networks.MLPDecoder((8, 8, 1), (32,)),
        ...     posterior=kv.posteriors.VectorQuantizer((3,), codebook_size=16, code_dim=4),
        ...     likelihood=kv.likelihoods.Bernoulli((8, 8, 1)))
        >>> model.compile("adam")
        >>> monitor = CodebookMonitor(tf.zeros([64, 8, 8, 1]))
        >>> history = model.fit(tf.zeros([64, 8, 8, 1]), epochs=1, verbose=0, callbacks=[monitor])
        >>> int(monitor.history[0].counts["z"].sum())
        192
    """

    def __init__(
        self,
        data: Any,
        every: int = 1,
        *,
        num_examples: int | None = 1000,
        csv: str | os.PathLike[str] | None = None,
        directory: str | os.PathLike[str] | None = None,
        log_dir: str | os.PathLike[str] | None = None,
        batch_size: int = 128,
    ):
        super().__init__(data, every, log_dir, batch_size)
        self.num_examples = self._checked_count(num_examples)
        self.csv, self.directory = path_of("csv", csv), path_of("directory", directory)
        self.history: dict[int, CodeUsage] = {}
        self._reader: CodeReader | None = None
        self._table: EpochTable | None = None
        self._frames: Frames | None = None

    def set_model(self, model: Any) -> None:
        """Checks that the model has codes, and prepares counting, once for all its trainings."""
        checked_model(model, VQVAE)
        known = self._reader is not None and self.model is model
        super().set_model(model)
        if not known:
            self._reader = CodeReader(model, self._data)

    def open(self) -> None:
        """Opens the table and the folder."""
        if self.csv is not None:
            rows = sum(self.model.posterior_head.num_codes)
            self._table = EpochTable("csv", self.csv, ["group", "code", "count"], rows)
        if self.directory is not None:
            self._frames = Frames("directory", self.directory, ("codes", "histograms"))

    def start(self, epoch: int) -> None:
        """Keeps what was counted after the epochs before this one."""
        self.history = {n: found for n, found in self.history.items() if n < epoch}
        for kept in (self._table, self._frames):
            if kept is not None:
                kept.start(epoch)

    def look(self, epoch: int) -> None:
        """Counts the codes after an epoch."""
        assert self._reader is not None  # set_model comes first.
        found = self._reader(self.num_examples)
        self.history[epoch] = found
        if self._table is not None:
            groups = found.counts.items()
            rows = ((name, code, int(n)) for name, of in groups for code, n in enumerate(of))
            self._table.append(epoch, rows)
        self._last = _summary(found)
        self._writer.scalars({f"codes/{name}": v for name, v in self._last.items()}, epoch)
        for name, counts in found.counts.items():
            self._writer.histogram(f"codes/counts_{name}", counts, epoch)
        if self._frames is not None or self.log_dir is not None:
            self._draw(found, epoch)

    def _draw(self, found: CodeUsage, epoch: int) -> None:
        figures = {"histograms": plotting.code_histogram(found.counts)}
        if is_image(self.model):
            figures["codes"] = self._picture(found)
        for name, figure in figures.items():
            picture = png(figure)
            if self._frames is not None:
                self._frames.add(name, epoch, picture)
            self._writer.image(f"codes/{name}", pixels(picture), epoch)

    def _picture(self, found: CodeUsage) -> Figure:
        """Returns the pictures of the codes of the last group, the most frequent first."""
        *others, last = found.counts.values()
        codes = np.argsort(-last, kind="stable")[:_MOST_PICTURES]
        sizes = self.model.posterior_head.groups.sizes
        fixed = [
            np.full((len(codes), size), np.argmax(counts))
            for size, counts in zip(sizes, others, strict=False)
        ]
        own = np.repeat(codes[:, np.newaxis], sizes[-1], axis=1)
        images = self.model.decode_codes(np.concatenate([*fixed, own], axis=1).astype(np.int32))
        high = self.model.likelihood_head.support.high
        white = high if np.isfinite(high) else 1.0
        return plotting.image_grid(images, _COLUMNS, "codes, by frequency", white=white)


def _summary(found: CodeUsage) -> dict[str, float]:
    """Returns what the logs hold."""
    columns = {"code_perplexity": found.perplexity, "codes_in_use": found.share_in_use}
    summary = {name: float(np.mean(list(of.values()))) for name, of in columns.items()}
    if len(found.counts) > 1:
        for name, of in columns.items():
            summary |= {f"{name}_{group}": value for group, value in of.items()}
    return summary
