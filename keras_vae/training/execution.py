"""How steps are run: by XLA or as a graph, on one device or on replicas, and how many per call."""

from __future__ import annotations

import contextlib
import functools
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import keras
import tensorflow as tf

from keras_vae.core import checks
from keras_vae.training import errors
from keras_vae.training.replicas import replica_id

# Enough to hide what Keras does between two executions, few enough to interrupt training soon.
STEPS_PER_CALL = 10

# XLA's convolutions on a CPU are slower than those of the graph.
_CONVOLUTIONS = (
    keras.layers.Conv1D,
    keras.layers.Conv2D,
    keras.layers.Conv3D,
    keras.layers.Conv1DTranspose,
    keras.layers.Conv2DTranspose,
    keras.layers.Conv3DTranspose,
    keras.layers.DepthwiseConv1D,
    keras.layers.DepthwiseConv2D,
    keras.layers.SeparableConv1D,
    keras.layers.SeparableConv2D,
)

# Keras callbacks that look at every batch only if they are asked to.
_MAYBE_EVERY_BATCH = {
    keras.callbacks.ModelCheckpoint: "save_freq",
    keras.callbacks.BackupAndRestore: "save_freq",
    keras.callbacks.TensorBoard: "update_freq",
}
_BATCH_METHODS = (
    "on_train_batch_begin",
    "on_train_batch_end",
    "on_batch_begin",
    "on_batch_end",
)


def xla_is_faster(layers: Iterable[keras.layers.Layer]) -> bool:
    """Returns whether XLA runs such layers faster than the graph does, as measured.

    On a CPU it does, except for convolutions; elsewhere it always does.
    """
    if any(device.device_type != "CPU" for device in tf.config.list_logical_devices()):
        return True
    return not any(isinstance(layer, _CONVOLUTIONS) for layer in layers)


def steps_per_call(callbacks: Iterable[Any], *totals: int | None) -> int:
    """Returns how many steps may run between two calls of the callbacks.

    Args:
        callbacks: The callbacks of `fit`. One that wants to see every batch will see it.
        *totals: Numbers of steps that Keras would exceed if an execution did not divide them.
    """
    if any(_wants_every_batch(callback) for callback in callbacks):
        return 1
    limit = math.gcd(*(total for total in totals if total)) or STEPS_PER_CALL
    return max(n for n in range(1, STEPS_PER_CALL + 1) if limit % n == 0)


def _wants_every_batch(callback: Any) -> bool:
    for kind, option in _MAYBE_EVERY_BATCH.items():
        if isinstance(callback, kind) and getattr(callback, option, None) == "epoch":
            # It does not, unless a subclass adds something of its own.
            return _overrides(callback, kind)
    return _overrides(callback, keras.callbacks.Callback)


def _overrides(callback: Any, kind: type) -> bool:
    own = vars(callback) if isinstance(callback, keras.callbacks.LambdaCallback) else {}
    return any(
        name in own or getattr(type(callback), name) is not getattr(kind, name)
        for name in _BATCH_METHODS
    )


class Compiled:
    """A function of a step that XLA compiles separately on each replica.

    Args:
        function: Function of tensors whose first dimension, if any, is that of the batch.
        optional: Whether it may run as a graph if XLA cannot compile it.
    """

    def __init__(self, function: Callable[..., Any], optional: bool = False):
        self._function = function
        self._optional = optional
        # A traced function knows the weights of only one replica.
        self._by_replica: dict[int, Callable[..., Any]] = {}

    def __call__(self, *args: Any) -> Any:
        """Calls the function, either in a graph that is being traced or eagerly."""
        key = int(tf.get_static_value(tf.convert_to_tensor(replica_id())))
        if key not in self._by_replica:
            self._by_replica[key] = self._compile(args)
        return self._by_replica[key](*args)

    def _compile(self, args: Any) -> Callable[..., Any]:
        # A separate function: TensorFlow would otherwise count the traces of all models together
        # and warn.
        function = functools.partial(self._function)
        compiled = tf.function(function, jit_compile=True, reduce_retracing=True, autograph=False)
        if _exchanges(compiled, args):
            if self._optional:
                return self._function
            rule = 'must be False or "auto" on several replicas, between which this model exchanges'
            raise checks.invalid("jit_compile", rule + " numbers within a step", True)
        return compiled if not self._optional or _can_compile(compiled, args) else self._function


def _exchanges(function: Any, args: Any) -> bool:
    """Traces a function; returns whether it communicates between replicas, which XLA cannot do."""
    try:
        graph = function.get_concrete_function(*args).graph
    except RuntimeError as error:
        if "merge_call" not in str(error):
            raise
        return True
    return any("Collective" in operation.type for operation in graph.get_operations())


def _can_compile(function: Any, args: Any) -> bool:
    """Returns whether XLA supports all that a traced function does, without running it."""
    if any(tensor.shape.rank is None for tensor in tf.nest.flatten(args) if tensor is not None):
        return True
    try:
        with tf.init_scope():
            function.experimental_get_compiler_ir(*tf.nest.map_structure(_example, args))("hlo")
    except (ValueError, tf.errors.OpError) as error:
        if "XLA" in str(error) or "HLO" in str(error):
            return False
        raise
    return True


def _example(tensor: tf.Tensor | None) -> tf.Tensor | None:
    """Returns a small tensor of the same shape and dtype."""
    if tensor is None:
        return None
    return tf.zeros([size or 1 for size in tensor.shape], tensor.dtype)


def run_on_replicas(
    step: Callable[[Any], Any], strategy: tf.distribute.Strategy, steps: int, run_eagerly: bool
) -> Callable[[Any], Any]:
    """Makes what Keras calls a train or test function for several replicas.

    Keras's own function can make only one step at a time there, and does not accept scalar logs
    from several workers.

    Args:
        step: Function that takes the data of one replica and returns its logs.
        strategy: The strategy that holds the replicas.
        steps: How many steps to make at a time; fewer at the end of the data.
        run_eagerly: Whether to run Python at every step.
    """

    def run_one(data: Any) -> Any:
        present = keras.tree.map_structure(
            lambda part: None if isinstance(part, tf.experimental.Optional) else part, data
        )
        logs = strategy.run(step, args=(present,))
        # Each replica has its own logs until the means over all of them are read.
        return tf.nest.map_structure(lambda v: strategy.experimental_local_results(v)[0], logs)

    def run_next_one(iterator: Any) -> Any:
        return run_one(iterator.get_next())

    run, run_next = (
        part if run_eagerly else tf.function(part, autograph=False, reduce_retracing=True)
        for part in (run_one, run_next_one)
    )

    def run_several(iterator: Any) -> Any:
        if not isinstance(iterator, tf.distribute.DistributedIterator):
            return run(next(iterator))  # From `train_on_batch` and the like.
        # Not a loop in the graph, where collective operations insist on a single batch size.
        logs = run_next(iterator)
        for _ in range(steps - 1):
            try:
                logs = run_next(iterator)
            except (tf.errors.OutOfRangeError, StopIteration):
                break
        return logs

    return run_several


@contextlib.contextmanager
def without_xla(model: Any) -> Iterator[None]:
    """Lets Keras make a function that runs as a graph, whatever the model was compiled with."""
    jit_compile, model.jit_compile = model.jit_compile, False
    try:
        yield
    finally:
        model.jit_compile = jit_compile


class StepFunctions:
    """The functions that Keras calls for one or more batches, each made once for its hooks.

    Args:
        model: The `ObjectiveModel` whose steps they make.

    Attributes:
        calls: How often each has been called, by name.
        skipped: How many batches of training are still to be left out.
    """

    def __init__(self, model: Any) -> None:
        self._model = model
        # By name and steps per call: what a function was made for, and the function. Hooks are kept
        # with their keys, since no other key can contain the same ids while a hook lives.
        self._made: dict[tuple[str, int], tuple[Any, Any, Any]] = {}
        self.calls = Counter[str]()
        self.skipped = 0

    def get(self, name: str, make: Callable[..., Any], force: bool) -> Callable[..., Any]:
        """Returns a function for the model's hooks and steps per call, and gives it to the model.

        Args:
            name: `"train_function"` or `"test_function"`.
            make: Keras's own way to make it, for one device.
            force: Whether to make it again in any case.
        """
        model, step = self._model, self._model.training_step
        if getattr(model, name) is None:  # The model has been compiled since.
            self._made = {key: value for key, value in self._made.items() if key[0] != name}
        policies = [policy.key for policy in (step.policy, step.spikes) if policy is not None]
        keys = [*policies, *sorted(hook.key for hook in step.hooks)]
        slot = (name, model.steps_per_execution)
        known, _, function = self._made.get(slot, (None, None, None))
        if force or known != keys:
            function = self._count_calls(name, self._make(name, make), model.steps_per_execution)
            self._made = {**self._made, slot: (keys, step.hooks.by_name, function)}
        setattr(model, name, function)
        return function

    def _make(self, name: str, make: Callable[..., Any]) -> Callable[..., Any]:
        """Makes what Keras calls with an iterator: without XLA, so that data can be refused."""
        model, trains = self._model, name == "train_function"
        step = model.training_step
        step.prepare_training() if trains else step.prepare_test()
        if not model.is_alone:
            one = model.train_step if trains else model.test_step
            given = model.distribute_strategy, model.steps_per_execution, model.run_eagerly
            return errors.as_python_errors(run_on_replicas(one, *given))
        with without_xla(model):
            make(force=True)
        return errors.as_python_errors(getattr(model, name))

    def _skip(self, iterator: Any, steps: int) -> Any:
        """Reads the batches of an execution without any other effect."""
        for _ in range(min(steps, self.skipped)):
            with contextlib.suppress(StopIteration, tf.errors.OutOfRangeError):
                next(iterator)
        self.skipped -= steps
        return self._model.get_metrics_result()

    def _count_calls(
        self, name: str, function: Callable[..., Any], steps: int
    ) -> Callable[..., Any]:
        def counted(iterator: Any) -> Any:
            skips = name == "train_function" and self.skipped > 0
            logs = self._skip(iterator, steps) if skips else function(iterator)
            self.calls[name] += 1  # Not if the data had ended.
            return logs

        return counted
