"""Peers, each in a virtual environment and a process of its own."""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import subprocess
import sys
import venv
from typing import Any

ROOT = pathlib.Path(__file__).parents[2]
PACKAGE = "benchmarks.peers"
# Holds one environment a peer, named after it. Relative to the folder where a benchmark is started.
FOLDER = pathlib.Path(os.environ.get("KERAS_VAE_PEERS", "runs/throughput"))


@dataclasses.dataclass(frozen=True)
class Peer:
    """A worker and what its environment holds.

    Attributes:
        module: Module of this package that the process runs.
        installs: Arguments of `pip install`, one tuple a call.
        versions: Packages whose versions are recorded. The first gives the peer its name.
    """

    module: str
    installs: tuple[tuple[str, ...], ...]
    versions: tuple[str, ...]


# What pythae needs of its requirements to train, without its pins of old versions.
_NEEDED_BY_PYTHAE = (
    "torch==2.13.0",
    "numpy==2.4.6",
    "pydantic==2.14.4",
    "scikit-learn==1.9.1",
    "imageio==2.38.1",
    "tqdm==4.70.1",
    "scipy==1.17.1",
    "cloudpickle==3.1.3",
)
PEERS = {
    "pythae": Peer(
        "pythae_trainer",
        (_NEEDED_BY_PYTHAE, ("--no-deps", "pythae==0.1.2")),
        ("pythae", "torch"),
    ),
    "jax": Peer(
        "jax_step",
        (("jax==0.10.2", "jaxlib==0.10.2", "optax==0.2.8", "numpy==2.4.6"),),
        ("jax", "jaxlib", "optax"),
    ),
    "vector_quantize": Peer(
        "torch_codes",
        (("torch==2.13.0", "numpy==2.4.6", "vector-quantize-pytorch==1.32.0"),),
        ("vector-quantize-pytorch", "torch"),
    ),
    # `torch.compile` also needs a C++ compiler, such as gcc.
    "torch": Peer("torch_step", (("torch==2.13.0", "numpy==2.4.6"),), ("torch",)),
}
# Importing the worker imports everything that it needs.
_VERSIONS = """
import importlib, importlib.metadata, json, sys
importlib.import_module(sys.argv[1])
print(json.dumps({name: importlib.metadata.version(name) for name in sys.argv[2:]}))
"""


def versions(name: str, folder: pathlib.Path) -> dict[str, str] | None:
    """Returns the versions of a peer's packages, or None if its environment cannot be used."""
    peer = PEERS[name]
    command = [str(_python(folder)), "-c", _VERSIONS, f"{PACKAGE}.{peer.module}", *peer.versions]
    try:
        done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT)
    except (OSError, subprocess.CalledProcessError):
        return None
    return json.loads(done.stdout.splitlines()[-1])


def install(name: str, folder: pathlib.Path) -> dict[str, str] | None:
    """Makes the environment of a peer, unless it is there, and returns what `versions` does.

    If that fails, for example without a network, it says so and returns None.
    """
    found = versions(name, folder)
    if found is not None:
        return found
    print(f"Installing {name} (once; some minutes)", flush=True)
    pip = [str(_python(folder)), "-m", "pip", "install", "--quiet"]
    try:
        venv.create(folder, with_pip=True)
        for packages in PEERS[name].installs:
            subprocess.run([*pip, *packages], check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError) as error:
        reason = (getattr(error, "stderr", None) or str(error)).strip().splitlines()[-1]
        print(f"Without {name}, which cannot be installed: {reason}", flush=True)
        return None
    found = versions(name, folder)
    if found is None:
        print(f"Without {name}, which cannot be imported once installed", flush=True)
    return found


class Worker:
    """The process that trains the models of a peer. `serving.py` describes what it can be asked.

    Args:
        module: Module of this package that the process runs.
        folder: The environment.
        images: File of an array `[N, 784]` of zeros and ones. What the process prints to standard
            error goes into a file beside it.
        threads: Number of threads, where the peer lets it be set.
    """

    def __init__(self, module: str, folder: pathlib.Path, images: pathlib.Path, threads: int):
        options = ["--images", str(images.absolute()), "--threads", str(threads)]
        self._module = module
        self._log = images.with_name(f"{module}.log")
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                [str(_python(folder)), "-m", f"{PACKAGE}.{module}", *options],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                cwd=ROOT,
            )

    def ask(self, **request: Any) -> dict[str, Any]:
        """Returns the answer to a request.

        Raises:
            RuntimeError: If the process has ended.
        """
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            print(json.dumps(request), file=self._process.stdin, flush=True)
            return json.loads(self._process.stdout.readline())
        except (BrokenPipeError, json.JSONDecodeError) as error:
            reason = " ".join(self._log.read_text().strip().splitlines()[-1:])
            message = f"{self._module} ended at the request {request}: {reason}"
            raise RuntimeError(message) from error

    def close(self) -> None:
        """Ends the process."""
        try:
            self._process.communicate()
        except BrokenPipeError:  # It has ended before it read the last request.
            self._process.wait()


def _python(folder: pathlib.Path) -> pathlib.Path:
    # Not resolved: it is the link that tells Python of its environment.
    return folder.absolute() / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
