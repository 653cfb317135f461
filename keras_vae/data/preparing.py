"""Finds image data sets of TFDS by name, and prepares them on first use."""

from __future__ import annotations

import difflib
import os
import pathlib
import socket
import urllib.parse
import urllib.request
from typing import Any

from keras_vae.core import checks
from keras_vae.data import embedded
from keras_vae.data.prepared import image_spec


def builder(name: str, data_dir: str | os.PathLike | None) -> Any:
    """Returns the prepared TFDS builder for `name`.

    Raises:
        ValueError: If TFDS knows no such data set, or its images do not all have the same size.
        FileNotFoundError: If the data are not prepared and cannot be downloaded.
        ImportError: If TFDS is not installed.
    """
    try:
        import tensorflow_datasets as tfds
    except ImportError as error:
        raise ImportError(
            f'Data set "{name}" comes through TFDS. Run: pip install tensorflow-datasets'
        ) from error
    # TFDS reads the variable only once, when it is imported.
    directory = data_dir or os.environ.get("TFDS_DATA_DIR") or None
    directory = None if directory is None else os.path.expanduser(os.fspath(directory))
    try:
        found = tfds.builder(name, data_dir=directory)
    except tfds.core.DatasetNotFoundError as error:
        raise _unknown(name, tfds.list_builders(), directory) from error
    except (ValueError, AssertionError) as error:  # There is no such version or config.
        raise checks.invalid("name", f"must be known to TFDS: {error}", name) from error
    image_spec(found)
    if not found.is_prepared():
        _prepare(name, found, directory)
    return found


def _unknown(name: str, known: list[str], directory: str | None) -> ValueError:
    infos = pathlib.Path(directory).glob("*/*/dataset_info.json") if directory else ()
    on_disk = sorted({path.parents[1].name for path in infos})
    close = difflib.get_close_matches(name, [*embedded.names(), *known], n=5)
    rule = f"must be one of {embedded.names()} or an image data set of TFDS"
    rule += f" (prepared in {directory}: {on_disk})" if on_disk else ""
    rule += f"; similar names: {close}" if close else ""
    return checks.invalid("name", rule, name)


def _prepare(name: str, builder: Any, directory: str | None) -> None:
    """Downloads and prepares a data set, or raises an error that says what to run."""
    folder = pathlib.Path(builder.data_path)
    missing = [path for path in folder.parents if not path.exists()]
    try:
        _check_hosts(builder)
        builder.download_and_prepare()
    except Exception as error:
        raise FileNotFoundError(_advice(name, folder, directory, error)) from error
    finally:
        # TFDS removes what it left unfinished, but not the folders that it created around it.
        for path in missing:
            if path.is_dir() and not any(path.iterdir()):
                path.rmdir()


def _check_hosts(builder: Any) -> None:
    """Raises an error if a host of the files has no address, as TFDS would retry for minutes."""
    if urllib.request.getproxies():  # Behind a proxy, names are resolved elsewhere.
        return
    hosts = {urllib.parse.urlsplit(url).hostname for url in builder.url_infos or {}}
    for host in sorted(host for host in hosts if host):
        try:
            socket.getaddrinfo(host, 443)
        except OSError as error:
            raise ConnectionError(f"no network: {host} has no address ({error})") from error


def _advice(name: str, folder: pathlib.Path, directory: str | None, error: Exception) -> str:
    option, argument = "", ""
    if directory is not None:
        option, argument = f" --data_dir={directory}", f", data_dir={directory!r}"
    cause = f"{type(error).__name__}: {error}".strip().splitlines()[0]
    install = ""
    if isinstance(error, ModuleNotFoundError):
        install = f"    pip install {error.name}\nand then\n"
    return (
        f'Data set "{name}" is not prepared in {folder} and could not be downloaded ({cause}). '
        f"Run where there is a network:\n{install}"
        f"    tfds build {name}{option}\n"
        f'or\n    python -c "import tensorflow_datasets as tfds; '
        f"tfds.load('{name}'{argument})\"\n"
        "and pass that folder as `data_dir`, or set TFDS_DATA_DIR to it."
    )
