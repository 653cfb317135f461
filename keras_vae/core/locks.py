"""Locks on files and folders between processes, which end with the process that holds them.

They are advisory (`flock`), so that a killed process leaves none behind. On a system without locks,
every lock counts as free.
"""

from __future__ import annotations

import contextlib
import errno
import os
import pathlib
from collections.abc import Iterator

try:
    import fcntl
except ImportError:  # No POSIX.
    fcntl = None  # type: ignore[assignment]


def take(path: pathlib.Path) -> int | None:
    """Returns the descriptor that holds the lock of a file or folder.

    It is None if the lock is taken or there is no such file, and -1 on systems without locks.
    """
    if fcntl is None:
        return -1
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        return None if error.errno in (errno.EWOULDBLOCK, errno.EACCES) else -1
    return descriptor


def give_back(descriptor: int | None) -> None:
    """Releases the lock that `take` returned."""
    if descriptor is not None and descriptor >= 0:
        os.close(descriptor)


@contextlib.contextmanager
def held(path: pathlib.Path) -> Iterator[None]:
    """Waits for the lock of a file or folder and holds it."""
    if fcntl is None:
        yield
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # Some file systems have no locks.
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
