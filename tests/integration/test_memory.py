"""A training that goes on takes no more memory."""

import json
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


@pytest.mark.full
def test_steps_leave_nothing_behind():
    command = [sys.executable, "-m", "tests.integration.memory"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert run.returncode == 0, run.stderr
    growth = json.loads(run.stdout.splitlines()[-1])
    # A batch has 98 KiB, so that one kept at each of 1,500 steps makes 147 MiB. The bound, 24 MiB,
    # is 16 KiB a step, and far above the growth measured, 1 MiB.
    assert growth["plain"] < 24.0
    assert growth["leaking"] > 120.0, "the measure does not see a leak"
