"""pythae in a virtual environment and a process of its own."""

from __future__ import annotations

import json
import pathlib
import subprocess
import sys
import venv
from typing import Any

WORKER = pathlib.Path(__file__).with_name("pythae_worker.py")
TORCH, PYTHAE = "torch==2.13.0", "pythae==0.1.2"
# What pythae needs of its requirements to train, without its pins of old versions.
NEEDED = ("numpy", "pydantic", "scikit-learn", "imageio", "tqdm", "scipy", "cloudpickle")
_VERSIONS = """
import importlib.metadata, json, pythae.trainers, torch
print(json.dumps({name: importlib.metadata.version(name) for name in ("pythae", "torch")}))
"""


def versions(folder: pathlib.Path) -> dict[str, str] | None:
    """Returns the versions of pythae and PyTorch in an environment, None if it cannot be used."""
    command = [str(_python(folder)), "-c", _VERSIONS]
    try:
        done = subprocess.run(command, check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return json.loads(done.stdout.splitlines()[-1])


def install(folder: pathlib.Path) -> dict[str, str] | None:
    """Makes an environment with pythae, unless it is there, and returns what `versions` does.

    Where that fails, as without a network, it says so and returns None.
    """
    found = versions(folder)
    if found is not None:
        return found
    print(f"Installing {PYTHAE} and {TORCH} (once; some minutes)", flush=True)
    pip = [str(_python(folder)), "-m", "pip", "install", "--quiet"]
    try:
        venv.create(folder, with_pip=True)
        for packages in ([TORCH, *NEEDED], ["--no-deps", PYTHAE]):
            subprocess.run([*pip, *packages], check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError) as error:
        reason = (getattr(error, "stderr", None) or str(error)).strip().splitlines()[-1]
        print(f"Without pythae, which cannot be installed: {reason}", flush=True)
        return None
    found = versions(folder)
    if found is None:
        print("Without pythae, which cannot be imported once installed", flush=True)
    return found


class Worker:
    """The process that trains models of pythae.

    Args:
        folder: The environment.
        images: File of an array `[N, 784]` of zeros and ones.
        threads: Number of threads of PyTorch.
    """

    def __init__(self, folder: pathlib.Path, images: pathlib.Path, threads: int):
        options = ["--images", str(images), "--threads", str(threads)]
        self._process = subprocess.Popen(
            [str(_python(folder)), str(WORKER), *options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def ask(self, **request: Any) -> dict[str, float]:
        """Returns the answer to a request.

        Raises:
            RuntimeError: If the process has ended.
        """
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            print(json.dumps(request), file=self._process.stdin, flush=True)
            return json.loads(self._process.stdout.readline())
        except (BrokenPipeError, json.JSONDecodeError) as error:
            raise RuntimeError(f"{WORKER.name} ended at the request {request}") from error

    def close(self) -> None:
        """Ends the process."""
        self._process.communicate()


def _python(folder: pathlib.Path) -> pathlib.Path:
    # Not resolved: it is the link that tells Python of its environment.
    return folder.absolute() / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
