"""A training that goes on where it was interrupted."""

from __future__ import annotations

import collections
import os
import pathlib
import re
from typing import Any

import keras
import numpy as np

from keras_vae.core import checks
from keras_vae.training import workers

_NAME = re.compile(r"epoch_(\d+)\.weights\.h5")


class Resume(keras.callbacks.Callback):
    """Keeps the weights after every epoch, and goes on from them when the script starts again.

    The model, its optimizer and whatever is driven continue as if there had been no interruption.
    Each file is written whole or not at all, and takes the place of the one before, so that a kill
    at any moment costs the epoch that ran. Of several workers the chief writes, and all read: they
    must see the same folder.

    Args:
        directory: Folder of the checkpoint, of this training alone.

    Attributes:
        epoch: How many epochs are done: the `initial_epoch` for `fit` and `keras_vae.data.load`.

    Raises:
        ValueError: At the start of `fit`, if its `initial_epoch` is not `epoch`, workers see
            different checkpoints, or the folder holds one of another model. The model is as it was.

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
        ...     resume = Resume(folder)
        ...     options = {"initial_epoch": resume.epoch, "callbacks": [resume], "verbose": 0}
        ...     return model.fit(np.zeros([16, 8, 8, 1]), epochs=epochs, **options).epoch
        >>> import numpy as np
        >>> train(epochs=2), train(epochs=5)
        ([0, 1], [2, 3, 4])
    """

    def __init__(self, directory: str | os.PathLike[str]):
        super().__init__()
        self.directory = pathlib.Path(directory)
        self.epoch = max(self._files(), default=0)

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Takes the weights of the last epoch that is done."""
        strategy = self.model.distribute_strategy
        rule = "Argument `directory` must be one folder that all workers see."
        workers.check_agreement(strategy, self.epoch, rule)
        if self.model.initial_epoch != self.epoch:
            rule = f"must be the number of epochs that are done, `Resume.epoch`, here {self.epoch}"
            raise checks.invalid("initial_epoch", rule, self.model.initial_epoch)
        if self.epoch:
            self._load(self._path(self.epoch))

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Writes the weights, then drops those of epochs before."""
        self.epoch = epoch + 1
        if workers.writes(self.model.distribute_strategy):
            self.directory.mkdir(parents=True, exist_ok=True)
            self.model.save_weights(self._path(self.epoch))
            for done, path in self._files().items():
                if done < self.epoch:
                    path.unlink()

    def _load(self, path: pathlib.Path) -> None:
        variables = _variables(self.model)
        before = [np.asarray(variable) for variable in variables]
        try:
            self.model.load_weights(path)
        except (ValueError, KeyError) as error:
            for variable, value in zip(variables, before, strict=True):
                variable.assign(value)
            rule = (
                f"of Resume must be the folder of this training alone, but {path.name} in it is of "
                f"another model: {_difference(path, variables)}. Give this training a folder of "
                "its own, or delete that file to begin anew"
            )
            raise checks.invalid("directory", rule, str(self.directory)) from error

    def _path(self, epoch: int) -> pathlib.Path:
        return self.directory / f"epoch_{epoch}.weights.h5"

    def _files(self) -> dict[int, pathlib.Path]:
        """Returns the checkpoints that there are, by the number of epochs."""
        found = ((_NAME.fullmatch(path.name), path) for path in self.directory.glob("*.h5"))
        return {int(match[1]): path for match, path in found if match}


def _variables(model: Any) -> list[keras.Variable]:
    return [*model.weights, *model.optimizer.variables]


def _difference(path: pathlib.Path, variables: list[keras.Variable]) -> str:
    """Returns in which arrays a file of weights differs from a model."""
    import h5py  # As Keras does, only when it is needed.

    theirs: collections.Counter[tuple[int, ...]] = collections.Counter()

    def count(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            theirs[item.shape] += 1

    with h5py.File(path) as file:
        file.visititems(count)
    ours = collections.Counter(tuple(variable.shape) for variable in variables)
    sides = {"the file": theirs - ours, "the model": ours - theirs}
    told = [f"{side} has more arrays of {_shapes(more)}" for side, more in sides.items() if more]
    return " and ".join(told) or "its layers have other names"


def _shapes(found: collections.Counter[tuple[int, ...]]) -> str:
    first = ", ".join(map(str, sorted(found)[:4]))
    return f"shape {first}" if len(found) <= 4 else f"shape {first}, ..."
