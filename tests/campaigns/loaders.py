"""Damages files of models and weights in every layer of their formats; none loads as another model.

The bytes of the file; of a `.keras` archive, also the members, packed again with right checksums:
numbers and names in the configuration, and arrays of HDF5.

    python -m tests.campaigns.loaders --mutations 500
"""

import argparse
import io
import json
import pathlib
import resource
import tempfile
import warnings
import zipfile
from collections.abc import Callable
from typing import Any

import h5py
import keras
import numpy as np

from tests.campaigns import damage, tables
from tests.small_models import make_vae


def members(content: bytes) -> dict[str, bytes]:
    """Return the members of an archive."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def packed(found: dict[str, bytes]) -> bytes:
    """Return an archive."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in found.items():
            archive.writestr(name, content)
    return file.getvalue()


def mutate_configuration(content: bytes, rng: np.random.Generator) -> bytes:
    """Change one leaf of the configuration, or take an entry out."""
    found = members(content)
    config = json.loads(found["config.json"])
    places: list[tuple[Any, Any]] = []

    def visit(value: Any) -> None:
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, one in items:
            places.append((value, key))
            if isinstance(one, (dict, list)):
                visit(one)

    visit(config)
    holder, key = places[int(rng.integers(len(places)))]
    values: list[Any] = [None, -1, 10**9, "x", [], {}, 0.5, True]
    if isinstance(holder, dict) and rng.random() < 0.3:
        del holder[key]
    else:
        holder[key] = values[int(rng.integers(len(values)))]
    return packed({**found, "config.json": json.dumps(config).encode()})


def mutate_arrays(content: bytes, rng: np.random.Generator) -> bytes:
    """Change one number of one array."""
    archived = content[:2] == b"PK"
    found = members(content) if archived else {"model.weights.h5": content}
    file = io.BytesIO(found["model.weights.h5"])
    with h5py.File(file, "r+") as weights:
        names: list[str] = []
        weights.visititems(lambda n, v: names.append(n) if isinstance(v, h5py.Dataset) else None)
        own = [name for name in names if "optimizer" not in name and weights[name].size]
        array = weights[own[int(rng.integers(len(own)))]]
        values = array[...]
        flat = values.reshape(-1)
        flat[int(rng.integers(flat.size))] += 1
        array[...] = values
    found["model.weights.h5"] = file.getvalue()
    return packed(found) if archived else found["model.weights.h5"]


def mutate_bytes(content: bytes, rng: np.random.Generator) -> bytes:
    """Flip a bit, cut the end off, or zero a block."""
    faults = list(damage.FAULTS.values())
    return bytes(faults[int(rng.integers(len(faults)))](bytearray(content), rng))


def load_model(path: pathlib.Path) -> Any:
    """Return a model of a file."""
    return keras.models.load_model(path)


def load_weights(path: pathlib.Path) -> Any:
    """Return a model with weights of a file."""
    model = make_vae()
    model.build((None, 8, 8, 1))
    model.load_weights(path)
    return model


CASES: dict[str, tuple[str, Callable[..., bytes], Callable[..., Any]]] = {
    "bytes of a .keras file": ("m.keras", mutate_bytes, load_model),
    "configuration in a .keras file": ("m.keras", mutate_configuration, load_model),
    "arrays in a .keras file": ("m.keras", mutate_arrays, load_model),
    "bytes of a .weights.h5 file": ("m.weights.h5", mutate_bytes, load_weights),
    "arrays in a .weights.h5 file": ("m.weights.h5", mutate_arrays, load_weights),
}


def run(case: str, count: int, folder: pathlib.Path, seed: int = 0) -> dict[str, Any]:
    """Load so many damaged files; survived is what was refused, or loads with the same weights."""
    name, mutate, load = CASES[case]
    model = make_vae()
    model.build((None, 8, 8, 1))
    rng, path = np.random.default_rng(seed), folder / name
    for weight in model.weights:
        if weight.dtype == "float32":
            weight.assign(rng.normal(size=weight.shape))
    expected = [np.asarray(weight) for weight in model.weights]
    model.save(path) if name.endswith(".keras") else model.save_weights(path)
    content, refused, same = path.read_bytes(), 0, 0
    for _ in range(count):
        path.write_bytes(mutate(content, rng))
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                found = [np.asarray(weight) for weight in load(path).weights]
        except Exception:
            refused += 1
            continue
        pairs = zip(found, expected, strict=False)
        same += len(found) == len(expected) and all(np.array_equal(*pair) for pair in pairs)
        keras.backend.clear_session()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    survived = refused + same
    return tables.row(case, count, survived, refused=refused, same=same, peak_mebibytes=peak)


def main() -> None:
    """Run the whole campaign."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mutations", type=int, default=500)
    count = -(-parser.parse_args().mutations // len(CASES))
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for case in CASES:
            rows.append(run(case, count, pathlib.Path(folder)))
            tables.write("loaders", rows)


if __name__ == "__main__":
    main()
