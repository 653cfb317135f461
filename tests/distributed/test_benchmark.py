"""The benchmark of workers runs, on a slice that takes seconds."""

import json
import sys

import pytest


@pytest.mark.full
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="pins processes to cores")
def test_rates_and_efficiency_are_measured(script, tmp_path):
    path = tmp_path / "workers.json"
    small = ["--steps", 2, "--repetitions", 2, "--batch-size", 4, "--results", path]
    done = script("cluster").call("-m", "benchmarks.workers", *small)
    assert done.returncode == 0, done.output[-3000:]
    results = json.loads(path.read_text())
    assert {len(rates) for rates in results["rows"].values()} == {2}
    ones, twos = results["rows"]["one worker"], results["rows"]["two workers"]
    ratios = [two / (2 * one) for one, two in zip(ones, twos, strict=True)]
    assert results["efficiency"]["two workers"] == pytest.approx(sum(ratios) / 2)
    assert f"{results['efficiency']['two workers']:.2f}" in path.with_suffix(".md").read_text()
