"""The example of several workers runs, goes on where it was, and its Kubernetes job fits it."""

import json
import os
import pathlib
import re
import subprocess

import pytest
import tensorflow as tf

EXAMPLE = pathlib.Path(__file__).parents[2] / "examples" / "multi_worker"


@pytest.mark.full
def test_example_trains_exports_and_goes_on(script, tmp_path):
    def run(epochs):
        options = ["--workers", 2, "--network", "mlp", "--epochs", epochs, "--runs", tmp_path]
        options += ["--batch-size", 500]
        done = script("cluster").call(EXAMPLE / "train.py", *options)
        assert done.returncode == 0, done.output[-3000:]
        assert done.output.count("Held out: ELBO") == 1  # of the chief alone
        return re.findall(r"Epoch (\d)/", done.output)

    assert run(2) == ["1", "2"]
    assert run(3) == ["3"]
    kept = [path.name for path in (tmp_path / "checkpoints").glob("*.checkpoint")]
    assert sorted(kept) == ["epoch_2.checkpoint", "epoch_3.checkpoint"]
    served = tf.saved_model.load(str(tmp_path / "saved_model" / "1")).signatures["sample"]
    assert served(count=tf.constant(2), seed=tf.constant(0))["mean"].shape == (2, 28, 28, 1)


def test_job_tells_each_worker_of_all():
    job = (EXAMPLE / "job.yaml").read_text(encoding="utf-8")
    numbers = re.findall(r'(?:completions|parallelism): (\d+)|value: "(\d+)"', job)
    assert {one or other for one, other in numbers} == {"2"}
    shell = re.search(r"args:\n +- \|\n(.*?)\n {10}\w", job, re.S)[1]
    *lines, start = [line.strip() for line in shell.splitlines()]
    assert (EXAMPLE.parents[1] / re.search(r"exec python (\S+)", start)[1]).is_file()
    environment = {**os.environ, "WORKERS": "3", "JOB_COMPLETION_INDEX": "1"}
    script = "\n".join([*lines, 'printf %s "$TF_CONFIG"'])
    told = subprocess.check_output(["sh", "-ec", script], env=environment, text=True)
    addresses = [f"vae-{index}.vae:2222" for index in range(3)]
    task = {"type": "worker", "index": 1}
    assert json.loads(told) == {"cluster": {"worker": addresses}, "task": task}
