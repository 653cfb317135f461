"""Continues a training from where it was interrupted."""

from __future__ import annotations

import datetime
import os
import pathlib
import time
import warnings
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_vae.callbacks.snapshot import Snapshots
from keras_vae.callbacks.termination import Termination
from keras_vae.core import checks
from keras_vae.training import keeping, workers
from keras_vae.training.checkpoints import configuration, legacy
from keras_vae.training.checkpoints.folder import Folder, Position
from keras_vae.training.checkpoints.format import Checkpoint
from keras_vae.training.data import Data

# How many executions pass between two exchanges among the workers, which all of them must join.
_BETWEEN_QUESTIONS = 10


class Resume(keeping.Keeper):
    """Keeps a training in a folder, and continues it when the script starts again.

    The model, its optimizer, all driven hyperparameters, the noise of all layers, the callbacks and
    the history continue as if there had been no interruption, bit for bit. A checkpoint is written
    after every epoch, and also within epochs if `every` is given. Each is written completely or not
    at all, and has a checksum that is verified before use. The last few are kept, so a damaged
    checkpoint costs only the training since the one before it, and a warning says so. On SIGTERM,
    which announces that the machine is about to be taken away, the current step is finished, a
    checkpoint is written, and the process ends with exit code 143. Among several workers, only the
    chief writes, but all read, so they must see the same folder.

    This callback may stand anywhere in the list of callbacks; `fit` calls it last. The callbacks of
    this package and of Keras continue from where they were, as do others that have
    `get_state() -> dict` and `set_state(state)`. A warning names those that remember something and
    have neither.

    A training can continue in the middle of an epoch if its data come from `keras_vae.data.load` or
    are arrays, which are then shuffled by the model's seed and the epoch number, not by Keras. The
    batches already done are read once more and skipped. The order of other data is not known in
    another process, so a training on them continues from the start of the epoch.

    Args:
        directory: Folder of the checkpoints, used by this training alone.
        every: How often to write within an epoch: an integer for a number of steps, a float or a
            `datetime.timedelta` for a number of seconds; None to write only at the end of epochs.
        keep: How many checkpoints to keep.

    Attributes:
        epoch: How many epochs are done: the `initial_epoch` for `fit` and `keras_vae.data.load`.
        batch: How many batches of the next epoch are done.

    Raises:
        ValueError: If all checkpoints in the folder are damaged. At the start of `fit`, if its
            `initial_epoch` is not `epoch`, workers see different checkpoints, another process
            writes to the folder, or the folder holds a training with another model, optimizer or
            data. The model is left unchanged.
        OSError: If a checkpoint cannot be written. The checkpoints before it stay valid.

    Example:
        >>> import tempfile, keras_vae as kv
        >>> folder = tempfile.mkdtemp()
        >>> def train(epochs):
        ...     model = kv.VAE(
        ...         encoder=kv.networks.MLPEncoder((8,)),
        ...         decoder=kv.networks.MLPDecoder((8, 8, 1), (8,)),
        ...         posterior=kv.posteriors.DiagonalNormal(2),
        ...         likelihood=kv.likelihoods.Bernoulli((8, 8, 1)))
        ...     model.compile("adam")
        ...     resume = Resume(folder, every=1000)
        ...     options = {"initial_epoch": resume.epoch, "callbacks": [resume], "verbose": 0}
        ...     return model.fit(np.zeros([16, 8, 8, 1]), epochs=epochs, **options)
        >>> train(epochs=2).epoch, train(epochs=5).epoch
        ([0, 1], [0, 1, 2, 3, 4])
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        *,
        every: int | float | datetime.timedelta | None = None,
        keep: int = 2,
    ):
        super().__init__()
        self.directory = checks.path("directory", directory)
        self.every = every
        self.keep = checks.integer("keep", keep)
        self._steps, self._seconds = _interval(every)
        self._folder = Folder(self.directory, self.keep)
        self.epoch, self.batch, _ = self._find()
        self._others: Sequence[Any] = ()
        self._data: dict[str, Any] = {}
        self._snapshots: Snapshots | None = None
        self._termination = Termination()
        self._within = False  # Whether checkpoints within epochs can be used.
        self._begin: Checkpoint | None = None  # The checkpoint to continue from within an epoch.
        self._skipping, self._is_cut = False, False
        self._held: list[tuple[Any, Any]] = []  # Callbacks that save files, and how often.
        self._written_at, self._written_batch, self._calls = 0.0, 0, 0
        # Not a method of the class, which would make every step an execution of its own.
        self.on_train_batch_end = self._after_batch

    # Before the training.

    @property
    def boundaries(self) -> list[int]:
        """Numbers of batches that the number of steps per execution must divide."""
        return [number for number in (self.batch, self._steps) if number and self._within]

    def prepare(
        self, model: Any, data: Data, options: dict[str, Any], others: Sequence[Any]
    ) -> dict[str, Any]:
        """Returns the options of `fit`, with the data in an order that can be repeated."""
        self._others = others
        self._data = configuration.of_data(data, options)
        self._within = keeping.can_be_repeated(data, options)
        if self.every is not None and not self._within:
            text = (
                "Resume(every=...) keeps the ends of epochs alone: within one, a training goes on "
                "with arrays and with keras_vae.data.load, without steps_per_epoch."
            )
            warnings.warn(text, stacklevel=3)
        self.epoch, self.batch, checkpoint = self._find()
        if isinstance(checkpoint, Checkpoint) and checkpoint.facts["stopped"]:
            text = (
                f"The training in {str(self.directory)!r} was ended by a callback after "
                f"{self.epoch} epochs, so it does not go on."
            )
            warnings.warn(text, stacklevel=3)
            options = {**options, "epochs": options.get("initial_epoch", 0)}
        return keeping.with_order_of_its_own(data, options, model.seed)

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Restores what the last checkpoint holds."""
        strategy = self.model.distribute_strategy
        if workers.writes(strategy):
            self._folder.lock()
        self.epoch, self.batch, checkpoint = self._find()
        rule = "Argument `directory` must be one folder that all workers see."
        for number in (self.epoch, self.batch):
            workers.check_agreement(strategy, number, rule)
        if self.model.initial_epoch != self.epoch:
            rule = f"must be the number of epochs that are done, `Resume.epoch`, here {self.epoch}"
            raise checks.invalid("initial_epoch", rule, self.model.initial_epoch)
        self._snapshots = Snapshots(self.model, self._others, self._data)
        self._take_up(checkpoint)
        self._written_at = time.monotonic()
        self._termination.install()

    def _find(self) -> tuple[int, int, Checkpoint | pathlib.Path | None]:
        """Returns how far the training has come, and the checkpoint that holds it."""
        found = self._folder.newest()
        if found is not None:
            return *found[0], found[1]
        old = legacy.newest(self.directory)
        return (0, 0, None) if old is None else (old[0], 0, old[1])

    def _take_up(self, checkpoint: Checkpoint | pathlib.Path | None) -> None:
        assert self._snapshots is not None
        self._begin = None
        if isinstance(checkpoint, pathlib.Path):
            self._refuse(legacy.restore(self.model, checkpoint), checkpoint.name)
        elif checkpoint is not None:
            name = self._folder.file(Position(self.epoch, self.batch)).name
            self._refuse(self._snapshots.misfit(checkpoint), name)
            self._warn_of_unknown(self._snapshots.unknown())
            self._snapshots.put_back(checkpoint)
            self._begin = checkpoint if self.batch else None
        self._skipping = self.batch > 0
        if self._skipping:
            self._check_steps_per_execution()
            self.model.skip_batches(self.batch)
            self._held = [
                (one, one.save_freq)
                for one in self._others
                if isinstance(one, keras.callbacks.ModelCheckpoint)
            ]
            for saver, _ in self._held:  # These batches were trained on before.
                saver.save_freq = "epoch"

    def _refuse(self, misfit: str, name: str) -> None:
        if misfit:
            rule = (
                f"of Resume must be the folder of this training alone, but {name} in it is of "
                f"another: {misfit}. Give this training a folder of its own, or delete that file "
                "to begin anew"
            )
            raise checks.invalid("directory", rule, str(self.directory))

    def _warn_of_unknown(self, names: Sequence[str]) -> None:
        if names:
            text = (
                f"Resume cannot restore what these callbacks remember: {', '.join(names)}. Give "
                "them get_state() and set_state(state)."
            )
            warnings.warn(text, stacklevel=2)

    def _check_steps_per_execution(self) -> None:
        steps = self.model.steps_per_execution
        if self.batch % steps:
            rule = f"must divide {self.batch}, the batches of the epoch that are done"
            raise checks.invalid("steps_per_execution", rule, steps)

    # During the training.

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Restores the means over part of an epoch, which Keras resets at the start of an epoch."""
        self.epoch, self._calls, self._is_cut = epoch, 0, False
        self._written_batch = self.batch if self._skipping else 0
        if self._skipping:
            self._put_back()

    def _after_batch(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        if self._skipping:
            if batch + 1 >= self.batch:
                self._put_back()  # This also undoes what callbacks have counted meanwhile.
                self._begin, self._skipping = None, False
                self._let_savers_go()
            return
        self._calls += 1
        due, terminate = self._agree(self._is_due(batch + 1), self._termination.asked)
        self._is_cut = self._is_cut_after(batch + 1)
        if self._within and (due or terminate or self._is_cut):
            self._write(Position(self.epoch, batch + 1))
        if terminate:
            self._leave()

    def _is_cut_after(self, batch: int) -> bool:
        """Returns whether a callback ends the training after so many batches of an epoch."""
        if workers.several(self.model.distribute_strategy):
            return False  # Workers write together, and a callback of one may stop it alone.
        return bool(self.model.stop_training) and batch != self.params.get("steps")

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Writes a checkpoint, unless a callback has cut the epoch short."""
        if self._is_cut and (self._within or not self._ended_in(epoch)):
            return
        self.epoch, self.batch = epoch + 1, 0
        self._write(Position(self.epoch))
        self._calls = 0
        if self._agree(False, self._termination.asked)[1]:
            self._leave()

    def _ended_in(self, epoch: int) -> bool:
        assert self._snapshots is not None
        return self._snapshots.has_ended(epoch)

    def _put_back(self) -> None:
        assert self._snapshots is not None
        if self._begin is not None:
            self._snapshots.put_back(self._begin)

    def _is_due(self, batch: int) -> bool:
        late = self._seconds and time.monotonic() - self._written_at >= self._seconds
        return bool(late or (self._steps and batch - self._written_batch >= self._steps))

    def _agree(self, *asked: bool) -> tuple[bool, ...]:
        """Returns what any worker asks for, checking now and then; all workers must call it."""
        strategy = self.model.distribute_strategy
        if not workers.several(strategy):
            return asked
        if self._calls % _BETWEEN_QUESTIONS:
            return (False,) * len(asked)
        return workers.any_of(strategy, asked)

    def _write(self, position: Position) -> None:
        assert self._snapshots is not None
        checkpoint = self._snapshots.take(position)
        if workers.writes(self.model.distribute_strategy):
            self._folder.write(position, checkpoint)
        self._written_at, self._written_batch = time.monotonic(), position.batch
        self.batch = position.batch

    def _leave(self) -> None:
        where = str(Position(self.epoch, self.batch))
        start = "" if self._within or not self._calls else ", from the start of this epoch"
        self._termination.leave(
            f"Resume: SIGTERM. The training is kept in {str(self.directory)!r} up to {where}, and "
            f"goes on{start} when the script starts again."
        )

    # After the training.

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Releases the folder."""
        self.close()

    def close(self) -> None:
        """Releases the folder, however the training ended."""
        self._termination.remove()
        self._folder.release()
        self._let_savers_go()
        self._begin = None

    def _let_savers_go(self) -> None:
        for saver, frequency in self._held:
            saver.save_freq = frequency
        self._held = []


def _interval(every: Any) -> tuple[int, float]:
    """Returns after how many steps and after how many seconds to write; 0 means never."""
    if every is None:
        return 0, 0.0
    if isinstance(every, datetime.timedelta):
        return 0, checks.number("every", every.total_seconds(), 0.0, exclusive=True)
    if isinstance(every, (float, np.floating)):
        return 0, checks.number("every", every, 0.0, exclusive=True)
    return checks.integer("every", every), 0.0
