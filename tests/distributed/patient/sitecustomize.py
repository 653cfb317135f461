"""Lets workers wait longer for each other than TensorFlow's ten seconds.

A machine that runs tests may stand still for a while. Python imports this first where the folder is
on its path; PATIENCE is in seconds.
"""

import functools
import os

if "TF_CONFIG" in os.environ:
    from tensorflow.python.eager import context

    now = context.context()
    now.configure_coordination_service = functools.partial(
        now.configure_coordination_service,
        heartbeat_timeout_in_ms=1000 * int(os.environ.get("PATIENCE", "200")),
    )
