"""The file of a checkpoint: a text that describes it, arrays, and a checksum of both.

    magic, 24 bytes | SHA-256 of all that follows, 32 bytes | length of the text, 8 bytes |
    text, JSON | the bytes of the arrays, one after the other

Nothing is read of it before its checksum is right, and nothing in it can be executed.
"""

from __future__ import annotations

import hashlib
import json
import pathlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from keras_vae.core.files import write_whole

_MAGIC = b"keras_vae checkpoint 1\n\0"
_DIGEST, _LENGTH = 32, 8
_START = len(_MAGIC) + _DIGEST + _LENGTH


class Damaged(Exception):
    """A file that is not, or no longer, what was written; the message says how."""


class Checkpoint(NamedTuple):
    """What a file holds.

    Attributes:
        facts: Whatever JSON can hold.
        arrays: Arrays by name.
    """

    facts: Mapping[str, Any]
    arrays: Mapping[str, np.ndarray]


def write(path: pathlib.Path, checkpoint: Checkpoint) -> None:
    """Writes a checkpoint, so that it is there as a whole or not at all.

    Raises:
        OSError: If it cannot be written, as on a full disk; a file of this name stays as it was.
    """
    content = pack(checkpoint)
    try:
        write_whole(path, content)
    except OSError as error:
        told = f"{error.strerror or error}: {len(content):,} bytes could not be written"
        raise OSError(
            error.errno, f"{told}; checkpoints before it stay valid", str(path)
        ) from error


def read(path: pathlib.Path) -> Checkpoint:
    """Returns the checkpoint in a file.

    Raises:
        Damaged: If it is not what was written.
    """
    try:
        return unpack(path.read_bytes())
    except OSError as error:
        raise Damaged(f"it cannot be read ({error.strerror})") from error


def pack(checkpoint: Checkpoint) -> bytes:
    """Returns the bytes of a checkpoint."""
    arrays = {name: np.asarray(array) for name, array in checkpoint.arrays.items()}
    table = [[name, _dtype_name(array), array.shape] for name, array in arrays.items()]
    text = json.dumps({"facts": checkpoint.facts, "arrays": table}).encode()
    contents = [array.tobytes() for array in arrays.values()]
    body = b"".join([len(text).to_bytes(_LENGTH, "little"), text, *contents])
    return _MAGIC + hashlib.sha256(body).digest() + body


def unpack(content: bytes) -> Checkpoint:
    """Returns the checkpoint of bytes, or raises `Damaged`."""
    if not content.startswith(_MAGIC):
        raise Damaged("it is no checkpoint, or its beginning is lost")
    digest, body = content[len(_MAGIC) : _START - _LENGTH], content[_START - _LENGTH :]
    if hashlib.sha256(body).digest() != digest:
        raise Damaged("its checksum is wrong")
    end = _LENGTH + int.from_bytes(body[:_LENGTH], "little")
    found = json.loads(body[_LENGTH:end])
    arrays = {}
    for name, dtype, shape in found["arrays"]:
        start, kind = end, _dtype(dtype)
        end += kind.itemsize * int(np.prod(shape, dtype=np.int64))
        arrays[name] = np.frombuffer(body[start:end], kind).reshape(shape)
    return Checkpoint(found["facts"], arrays)


def _dtype_name(array: np.ndarray) -> str:
    # Of NumPy's own, with the order of bytes; of TensorFlow's (bfloat16, ...), the name.
    return array.dtype.str if array.dtype.kind in "biufSU" else array.dtype.name


def _dtype(name: str) -> np.dtype:
    return np.dtype(name if name[0] in "<>|=" else tf.as_dtype(name).as_numpy_dtype)
