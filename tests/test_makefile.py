"""`make demo` is quiet about the start-up of TensorFlow, shows all else, and ends at an error."""

from __future__ import annotations

import os
import pathlib
import shutil
import subprocess

import pytest

MAKEFILE = pathlib.Path(__file__).parent.parent / "Makefile"
NOTES = """\
WARNING: All log messages before absl::InitializeLog() is called are written to STDERR
I0000 00:00:1795994281.300040   22508 cudart_stub.cc:31] Could not find cuda drivers
E0000 00:00:1795994281.300041   22508 cuda_fft.cc:485] Unable to register cuFFT factory: taken
W0000 00:00:1795994281.300042   22508 computation_placer.cc:177] computation placer registered
"""
SHOWN = "UserWarning: look at this\nE0000 00:00:1795994281.300043  1 file.cc:1] a real error\n"


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
@pytest.mark.parametrize(("status", "level"), [(0, "3"), (3, "3"), (0, "0")])
def test_the_demo_shows_what_matters(status, level, tmp_path):
    shutil.copy(MAKEFILE, tmp_path)
    for name in ("setup.cfg", "pyproject.toml"):
        (tmp_path / name).touch()
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    (tmp_path / "notes.txt").write_text(NOTES + SHOWN)
    python.write_text(f'#!/bin/sh\necho "ran $*"\ncat notes.txt >&2\nexit {status}\n')
    python.chmod(0o755)
    (tmp_path / ".venv" / "installed").touch()
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": level}
    command = ["make", "demo"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert (done.returncode == 0) == (status == 0)
    assert done.stdout.count("\nran ") == (2 if status == 0 else 1)
    assert SHOWN in done.stderr
    assert ("absl::InitializeLog" in done.stderr) == (level == "0")
    if level == "3":
        assert not any(line in done.stderr for line in NOTES.splitlines())
