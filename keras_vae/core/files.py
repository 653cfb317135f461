"""Files and folders that are never there in part."""

from __future__ import annotations

import contextlib
import os
import pathlib
import tempfile
from collections.abc import Iterator


@contextlib.contextmanager
def written_whole(target: str | os.PathLike) -> Iterator[pathlib.Path]:
    """Yields a path to write a file or a folder at, which becomes `target` once it is complete.

    If the writing fails, or the process is killed, what was at `target` stays as it was.

    Args:
        target: File or folder; its parent must exist. What is there is replaced.

    Yields:
        Path beside the target, so that renaming it is a single operation of the file system.

    Example:
        >>> target = pathlib.Path(tempfile.mkdtemp(), "numbers.txt")
        >>> with written_whole(target) as path:
        ...     _ = path.write_text("1 2 3")
        >>> target.read_text()
        '1 2 3'
    """
    target = pathlib.Path(target)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}-") as folder:
        written = pathlib.Path(folder, f"written-{target.name}")
        yield written
        if target.is_dir():
            _replace_folder(written, target, pathlib.Path(folder, "replaced"))
        else:
            os.replace(written, target)


def write_whole(path: str | os.PathLike, content: bytes | str) -> None:
    """Writes a file, text in UTF-8, so that it is never there in part; makes its folder."""
    pathlib.Path(path).parent.mkdir(parents=True, exist_ok=True)
    with written_whole(path) as written:
        written.write_bytes(content.encode() if isinstance(content, str) else content)


def _replace_folder(written: pathlib.Path, target: pathlib.Path, replaced: pathlib.Path) -> None:
    """Renames `written` to `target`; what is there goes aside, and comes back if that fails."""
    os.replace(target, replaced)
    try:
        os.replace(written, target)
    except BaseException:
        os.replace(replaced, target)
        raise
