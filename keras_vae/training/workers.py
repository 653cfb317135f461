"""Several processes that train one model, under `tf.distribute.MultiWorkerMirroredStrategy`."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Sequence

import tensorflow as tf

# What collective operations raise when a process at their other end is gone or is going away.
_GONE = (
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
)
_TASK = re.compile(r"/job:(\w+)(?:/replica:\d+)?/task:(\d+)")


def several(strategy: tf.distribute.Strategy) -> bool:
    """Returns whether a strategy spans several processes, by the same check as Keras."""
    multi_worker = isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy)
    return multi_worker and strategy.extended._in_multi_worker_mode()


def writes(strategy: tf.distribute.Strategy) -> bool:
    """Returns whether this process writes files: it is the only one, or the chief."""
    return not several(strategy) or strategy.extended.should_checkpoint


def check_agreement(strategy: tf.distribute.Strategy, number: int, message: str) -> None:
    """Raises a `ValueError` on every worker if their numbers differ; all of them must call it."""
    if several(strategy):
        numbers = strategy.gather(tf.constant([number], tf.int64), axis=0).numpy().tolist()
        if len(set(numbers)) > 1:
            raise ValueError(f"{message} Received, by worker: {numbers}")


def any_of(strategy: tf.distribute.Strategy, asked: Sequence[bool]) -> tuple[bool, ...]:
    """Returns what any worker asks for; all of them must call it."""
    row = tf.constant([asked], tf.int64)
    return tuple(bool(one) for one in strategy.gather(row, axis=0).numpy().any(axis=0))


def check_order(strategy: tf.distribute.Strategy) -> None:
    """Raises a `ValueError` if workers would shuffle an array differently and so share it badly."""
    if several(strategy):
        drawn = tf.random.uniform([], maxval=tf.int64.max, dtype=tf.int64)
        rule = (
            "Argument `x` must be shuffled the same way on every worker: call "
            "`keras.utils.set_random_seed` with one seed, or fit with shuffle=False."
        )
        check_agreement(strategy, int(drawn), rule)


@contextlib.contextmanager
def loss_told(strategy: tf.distribute.Strategy) -> Iterator[None]:
    """Raises a `RuntimeError` that says what to do where TensorFlow reports failed connections."""
    try:
        yield
    except _GONE as error:
        if not several(strategy):
            raise
        raise RuntimeError(
            f"A worker of this cluster is gone: {_gone(strategy, str(error))}. The others cannot "
            "train without it. Start the whole job again; it resumes from the last checkpoint, "
            "if keras_vae.callbacks.Resume keeps one."
        ) from None


def _gone(strategy: tf.distribute.Strategy, text: str) -> str:
    """Returns which task no longer answers, as far as it is known."""
    resolver = strategy.cluster_resolver
    me = (resolver.task_type, resolver.task_id)
    tasks = resolver.cluster_spec().as_dict()
    others = {(job, i) for job in tasks for i in range(len(tasks[job]))} - {me}
    # Names of operations contain the device that they ran on: this one.
    named = {(job, int(task)) for job, task in _TASK.findall(text)} & others
    told = named if len(named) == 1 else others
    if len(told) > 1:
        return f"no answer to {me[0]} {me[1]}"
    job, task = told.pop()
    return f"{job} {task} ({tasks[job][task]}) does not answer"
