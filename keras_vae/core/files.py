"""Files and folders that are never left incomplete, even after a power cut."""

from __future__ import annotations

import contextlib
import ctypes
import os
import pathlib
import shutil
import tempfile
from collections.abc import Iterator

from keras_vae.core import locks

# Constants of Linux: exchange two names in one operation of the file system.
_RENAME_EXCHANGE, _THIS_FOLDER = 2, -100


@contextlib.contextmanager
def written_whole(target: str | os.PathLike) -> Iterator[pathlib.Path]:
    """Yields a path for writing a file or a folder, which becomes `target` once it is complete.

    If writing fails or the process is killed, whatever was at `target` remains unchanged.
    Everything is on the disk before it replaces the old content. Remains that killed processes have
    left for the same target are removed.

    Args:
        target: File or folder; its parent must exist. Anything already there is replaced.

    Yields:
        Path next to the target, so that renaming it is a single operation of the file system.

    Example:
        >>> target = pathlib.Path(tempfile.mkdtemp(), "numbers.txt")
        >>> with written_whole(target) as path:
        ...     _ = path.write_text("1 2 3")
        >>> target.read_text()
        '1 2 3'
    """
    target = pathlib.Path(target)
    with _temporary_folder(target) as folder:
        written = folder / f"written-{target.name}"
        yield written
        _sync_all(written)
        if target.is_dir():
            _exchange(written, target, folder / "replaced")
        else:
            os.replace(written, target)
        sync(target.parent)


def write_whole(path: str | os.PathLike, content: bytes | str) -> None:
    """Writes a file, text in UTF-8, so that it is never left incomplete; makes its folder."""
    pathlib.Path(path).parent.mkdir(parents=True, exist_ok=True)
    with written_whole(path) as written:
        written.write_bytes(content.encode() if isinstance(content, str) else content)


def sync(path: pathlib.Path) -> None:
    """Waits until a file, or the names in a folder, are on the disk."""
    # Some systems cannot open folders, and some file systems sync them by themselves.
    with contextlib.suppress(PermissionError) if path.is_dir() else contextlib.nullcontext():
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextlib.contextmanager
def _temporary_folder(target: pathlib.Path) -> Iterator[pathlib.Path]:
    """Makes a folder next to the target; it is removed at the end, or once its process is dead."""
    prefix = f".{target.name}-"
    with locks.held(target.parent):
        remove_stale(target.parent, prefix)
        folder = pathlib.Path(tempfile.mkdtemp(dir=target.parent, prefix=prefix))
        descriptor = locks.take(folder)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        locks.give_back(descriptor)


def remove_stale(parent: pathlib.Path, prefix: str) -> None:
    """Removes the temporary folders of dead processes, whose locks nobody holds any more."""
    for folder in parent.iterdir():
        if folder.name.startswith(prefix) and folder.is_dir():
            descriptor = locks.take(folder)
            if descriptor is not None and descriptor >= 0:
                shutil.rmtree(folder, ignore_errors=True)
            locks.give_back(descriptor)


def _sync_all(written: pathlib.Path) -> None:
    """Waits until a file, or a folder with all its content, is on the disk."""
    for folder, _, files in os.walk(written):
        for name in files:
            sync(pathlib.Path(folder, name))
        sync(pathlib.Path(folder))
    if written.is_file():
        sync(written)


def _exchange(written: pathlib.Path, target: pathlib.Path, replaced: pathlib.Path) -> None:
    """Swaps folders; where that takes two operations, `target` is missing in between."""
    if _exchange_at_once(written, target):
        return
    os.replace(target, replaced)
    try:
        os.replace(written, target)
    except BaseException:
        os.replace(replaced, target)
        raise


def _exchange_at_once(one: pathlib.Path, other: pathlib.Path) -> bool:
    """Swaps two names in one operation; returns False if the system has no such operation."""
    rename = getattr(ctypes.CDLL(None), "renameat2", None) if os.name == "posix" else None
    if rename is None:
        return False
    here = ctypes.c_int(_THIS_FOLDER)
    names = os.fsencode(one), os.fsencode(other)
    return rename(here, names[0], here, names[1], ctypes.c_uint(_RENAME_EXCHANGE)) == 0
