"""The folder of a training's checkpoints: the last few of them, and the process that writes."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import re
import socket
import time
import warnings
from collections.abc import Callable
from typing import NamedTuple

from keras_vae.core import checks, files, locks
from keras_vae.training.checkpoints import format

_NAME = re.compile(r"epoch_(\d+)(?:_step_(\d+))?\.checkpoint")
_OWNER = ".owner.json"


class Position(NamedTuple):
    """How far a training is: so many epochs, and so many batches of the next one."""

    epoch: int
    batch: int = 0

    def __str__(self) -> str:
        return f"epoch {self.epoch}" + (f", batch {self.batch}" if self.batch else "")


class Folder:
    """The checkpoints of one training.

    Args:
        path: The folder, which is made when it is written to.
        keep: How many checkpoints to keep.
    """

    def __init__(self, path: pathlib.Path, keep: int):
        self.path = path
        self._keep = keep
        self._lock: int | None = None

    def newest(self) -> tuple[Position, format.Checkpoint] | None:
        """Returns the last checkpoint that is as it was written, and None without any.

        Raises:
            ValueError: If there are some, and all of them are damaged.
        """
        damaged: list[str] = []
        positions = sorted(self._paths(), reverse=True)
        for position in positions:
            path = self.file(position)
            try:
                checkpoint = format.read(path)
            except format.Damaged as error:
                damaged.append(f"{path.name}: {error}")
                continue
            if damaged:
                warnings.warn(_told(damaged, positions[0], position), stacklevel=2)
            return position, checkpoint
        if damaged:
            rule = (
                f"holds no checkpoint that can be read ({'; '.join(damaged)}); restore one from a "
                "backup, or delete them to begin anew"
            )
            raise checks.invalid("directory", rule, str(self.path))
        return None

    def write(self, position: Position, checkpoint: format.Checkpoint) -> None:
        """Writes a checkpoint, then drops those that are no longer wanted."""
        self.path.mkdir(parents=True, exist_ok=True)
        format.write(self.file(position), checkpoint)
        known = sorted(self._paths())
        # A damaged one, from which nothing could go on, may lie ahead.
        kept = [one for one in known if one <= position][-self._keep :]
        for one in set(known) - set(kept):
            self.file(one).unlink(missing_ok=True)

    def file(self, position: Position) -> pathlib.Path:
        """Returns the path of a checkpoint."""
        batch = f"_step_{position.batch}" if position.batch else ""
        return self.path / f"epoch_{position.epoch}{batch}.checkpoint"

    def _paths(self) -> list[Position]:
        found = (_NAME.fullmatch(path.name) for path in self.path.glob("epoch_*.checkpoint"))
        return [Position(int(match[1]), int(match[2] or 0)) for match in found if match]

    # One process at a time.

    def lock(self) -> None:
        """Takes the folder for this process, also over from one that is dead.

        Raises:
            ValueError: If a living process has it.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        owner = self.path / _OWNER
        self.release()
        _HELD.pop(str(self.path.resolve()), lambda: None)()  # Of a training here that broke off.
        owner.touch()
        descriptor = locks.take(owner)
        if descriptor is None:
            rule = f"must be the folder of one training, but {_told_of(owner)} writes to it"
            raise checks.invalid("directory", rule, str(self.path))
        self._lock = descriptor
        _HELD[str(self.path.resolve())] = self.release
        facts = {"pid": os.getpid(), "host": socket.gethostname(), "since": time.ctime()}
        owner.write_text(json.dumps(facts))
        files.remove_stale(self.path, ".epoch_")

    def release(self) -> None:
        """Lets others have the folder."""
        locks.give_back(self._lock)
        self._lock = None


# How to release the folders that this process has.
_HELD: dict[str, Callable[[], None]] = {}


def _told_of(owner: pathlib.Path) -> str:
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        facts = json.loads(owner.read_text())
        return f"process {facts['pid']} on {facts['host']}, since {facts['since']},"
    return "another process"


def _told(damaged: list[str], newest: Position, found: Position) -> str:
    return (
        f"Resume falls back to {found}: what is newer is damaged ({'; '.join(damaged)}). What was "
        f"trained from {found} to {newest} is lost, and is trained again."
    )
