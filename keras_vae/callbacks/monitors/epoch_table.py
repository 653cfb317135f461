"""A CSV file of rows that belong to epochs, which a resumed training continues."""

from __future__ import annotations

import collections
import csv
import io
import pathlib
from collections.abc import Iterable, Sequence
from typing import Any

from keras_vae.callbacks.monitors.base import make_folder
from keras_vae.core import checks
from keras_vae.core.files import write_whole


class EpochTable:
    """A CSV file with the same number of rows for every epoch; its first column is the epoch.

    Args:
        argument: Name of the argument by which the user gave the path.
        path: Path of the file.
        columns: Names of the columns after the first.
        rows_per_epoch: Number of rows for each epoch.

    Raises:
        ValueError: If the file cannot be written, or holds a different table.

    Example:
        >>> import tempfile
        >>> path = pathlib.Path(tempfile.mkdtemp(), "table.csv")
        >>> table = EpochTable("csv", path, ["unit", "kl"], rows_per_epoch=2)
        >>> table.start(0)
        >>> table.append(0, [[0, 1.5], [1, 0.0]])
        >>> print(path.read_text().strip())
        epoch,unit,kl
        0,0,1.5
        0,1,0.0
    """

    def __init__(
        self, argument: str, path: pathlib.Path, columns: Sequence[str], rows_per_epoch: int
    ):
        self._path = path
        self._header = ["epoch", *columns]
        self._rows_per_epoch = rows_per_epoch
        make_folder(argument, path.parent)
        try:
            path.open("a", encoding="utf-8").close()
        except OSError as error:
            rule = f"must name a file that can be written ({error.strerror})"
            raise checks.invalid(argument, rule, str(path)) from error
        # An unfinished table may end in the middle of a line, even the first one.
        header = _text([self._header])
        if not header.startswith(path.read_text(encoding="utf-8")[: len(header)]):
            rule = f"must be a new file, or one with the columns {','.join(self._header)}"
            raise checks.invalid(argument, rule, str(path))

    def start(self, epoch: int) -> None:
        """Keeps the rows of complete epochs before this one, and drops all others."""
        rows = self._whole_rows()
        counts = collections.Counter(row[0] for row in rows)
        whole = [row for row in rows if counts[row[0]] == self._rows_per_epoch]
        kept = [row for row in whole if int(row[0]) < epoch]
        write_whole(self._path, _text([self._header, *kept]).encode())

    def append(self, epoch: int, rows: Iterable[Sequence[Any]]) -> None:
        """Adds the rows of an epoch."""
        with self._path.open("a", encoding="utf-8", newline="") as file:
            file.write(_text([epoch, *row] for row in rows))

    def _whole_rows(self) -> list[list[str]]:
        """Returns the rows below the header, without an unfinished last one."""
        text = self._path.read_text(encoding="utf-8")
        ended = text[: text.rfind("\n") + 1]
        return [row for row in csv.reader(io.StringIO(ended)) if row][1:]


def _text(rows: Iterable[Sequence[Any]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()
