"""Starts a script once for each worker of a cluster on this machine."""

import contextlib
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parents[1]
# Seconds, so that nothing can hang.
LIMIT = 900


def environment(patience=200):
    """Return the environment of processes that may become workers."""
    paths = [ROOT, HERE / "patient", os.environ.get("PYTHONPATH", "")]
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(str(path) for path in paths if path),
        "PATIENCE": str(patience),
        "KERAS_BACKEND": "tensorflow",
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }


def free_ports(count):
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def finish(process):
    """Wait for a process, whose output is kept, and for all that it started."""
    try:
        # Workers have few lines to say, which a pipe holds until it is read.
        process.output = process.communicate(timeout=LIMIT)[0]
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    return process


def start(command, env):
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen(command, env=env, cwd=ROOT, start_new_session=True, **streams)


def call(*arguments):
    """Run Python with these arguments, and return the finished process with its output."""
    return finish(start([sys.executable, *map(str, arguments)], environment()))


def run(script, *arguments, count=2, patience=200):
    """Run a script as `count` workers, and return their finished processes with their output."""
    cluster = {"worker": [f"127.0.0.1:{port}" for port in free_ports(count)]}
    command = [sys.executable, str(script), *map(str, arguments)]
    started = []
    for index in range(count):
        config = {"cluster": cluster, "task": {"type": "worker", "index": index}}
        given = {**environment(patience), "TF_CONFIG": json.dumps(config)}
        started.append(start(command, given))
    with contextlib.ExitStack() as stack:
        for process in started:
            stack.callback(process.kill)
        return [finish(process) for process in started]
