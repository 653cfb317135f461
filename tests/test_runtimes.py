"""What is exported runs in ONNX Runtime, LiteRT and OpenVINO: `encode`, `decode`, `reconstruct`."""

import functools
import sys

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import keras_vae as kv
from keras_vae import export

tfd = tfp.distributions
SIGNATURES = ("encode", "decode", "reconstruct")
CLASSES = 3

# Operations of TensorFlow that all three take: tf2onnx 1.17 maps them to operators of opset 17 that
# ONNX Runtime has, LiteRT has them as builtins, and OpenVINO reads them. Each was converted, run
# and compared by `test_numbers_are_those_of_the_model` below; so must be one that is added.
KNOWN = {"Const", "Identity", "Placeholder", "ReadVariableOp", "EnsureShape", "Cast"}
KNOWN |= {"Reshape", "Shape", "Squeeze", "StridedSlice", "Pack", "ConcatV2", "SplitV", "ReverseV2"}
KNOWN |= {"OnesLike", "ZerosLike", "OneHot", "SelectV2", "Less"}
KNOWN |= {"AddV2", "Sub", "Mul", "RealDiv", "Minimum", "Maximum", "Abs", "Square", "Sqrt", "Exp"}
KNOWN |= {"MatMul", "BiasAdd", "Conv2D", "Conv2DBackpropInput", "Sum"}
KNOWN |= {"Relu", "Sigmoid", "Softplus", "Tanh", "LogSoftmax"}

GRAY, COLOR = (9, 8, 1), (8, 8, 3)
LIKELIHOODS = {
    "Bernoulli": lambda: kv.likelihoods.Bernoulli(GRAY),
    "ContinuousBernoulli": lambda: kv.likelihoods.ContinuousBernoulli(GRAY),
    "Normal": lambda: kv.likelihoods.Normal(GRAY, scale="per_dimension"),
    "Categorical": lambda: kv.likelihoods.Categorical(GRAY[:2], CLASSES),
    "DiscretizedLogisticMixture": lambda: kv.likelihoods.DiscretizedLogisticMixture(COLOR, 2),
}
NETWORKS = {
    "dense": lambda shape: (kv.networks.MLPEncoder((8,)), kv.networks.MLPDecoder(shape, (8,))),
    "convolutional": lambda shape: (
        kv.networks.ConvEncoder((4, 4), dense_units=8),
        kv.networks.ConvDecoder(shape, (4, 4), dense_units=8),
    ),
    "residual": lambda shape: (
        kv.networks.ResidualEncoder((4, 4), 1, dense_units=8),
        kv.networks.ResidualDecoder(shape, (4, 4), 1, dense_units=8),
    ),
}
# Networks, posterior, likelihood, and whether the model is conditional: each at least once.
CASES = [
    ("dense", "DiagonalNormal", "Bernoulli", False),
    ("dense", "FullCovarianceNormal", "ContinuousBernoulli", True),
    ("convolutional", "FullCovarianceNormal", "Normal", False),
    ("convolutional", "DiagonalNormal", "DiscretizedLogisticMixture", True),
    ("residual", "DiagonalNormal", "Categorical", False),
]


def make(networks, posterior, likelihood, conditional):
    head = LIKELIHOODS[likelihood]()
    encoder, decoder = NETWORKS[networks](head.params_shape)
    q = posterior if isinstance(posterior, kv.posteriors.Posterior) else None
    parts = {
        "encoder": encoder,
        "decoder": decoder,
        "posterior": q or getattr(kv.posteriors, posterior)(3),
        "likelihood": head,
    }
    return kv.ConditionalVAE(condition=CLASSES, **parts) if conditional else kv.VAE(**parts)


def inputs_of(model, signature):
    """Return two examples, or two z, within the support, and labels where there are any."""
    rng, head = np.random.default_rng(0), model.likelihood_head
    if signature == "decode":
        given = {"z": rng.normal(size=(2, 3)).astype("float32")}
    elif isinstance(head, kv.likelihoods.Categorical):
        given = {"x": np.eye(CLASSES, dtype="float32")[rng.integers(CLASSES, size=(2, *GRAY[:2]))]}
    elif isinstance(head, kv.likelihoods.DiscretizedLogisticMixture):
        given = {"x": rng.integers(256, size=(2, *COLOR)).astype("float32")}
    else:
        given = {"x": rng.random((2, *GRAY), "float32")}
    return {**given, "y": np.array([2, 0], "int32")} if model.labels.spec else given


def operations(function):
    """Return the types of the operations that the outputs are computed by.

    Checks of values hang on them by control edges alone, which converters drop.
    """
    waiting, seen = [tensor.op for tensor in function.outputs], set()
    while waiting:
        operation = waiting.pop()
        if operation not in seen:
            seen.add(operation)
            waiting += [tensor.op for tensor in operation.inputs]
    return {operation.type for operation in seen}


def unknown(model):
    """Return the operations of each signature that are not known to all runtimes."""
    functions = export._signatures(model)
    return {name: operations(functions[name]) - KNOWN for name in SIGNATURES}


@pytest.mark.first_is_quick
@pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join(map(str, case)))
def test_signatures_hold_only_operations_that_all_runtimes_have(case):
    assert unknown(make(*case)) == dict.fromkeys(SIGNATURES, set())


class OfTFP(kv.posteriors.DiagonalNormal):
    """A posterior whose moments are those of TFP, which compute shapes in the graph."""

    def distribution(self, parameters, training=False):
        return tfd.MultivariateNormalDiag(parameters[0], tf.exp(parameters[1]))


@pytest.mark.full
def test_an_operation_that_a_runtime_lacks_is_found():
    found = unknown(make("dense", OfTFP(3), "Bernoulli", False))
    assert "BroadcastArgs" in found["encode"] and "BroadcastArgs" in found["reconstruct"]
    assert found["decode"] == set()


# Conversion itself, where the extra `convert` is installed.


def by_onnx(path, signature, given, folder, monkeypatch):
    """Run a signature by ONNX Runtime, converted on the command line of tf2onnx."""
    import onnxruntime
    import tf2onnx.convert

    file = str(folder / f"{signature}.onnx")
    options = {"--saved-model": path, "--signature_def": signature, "--opset": "17"}
    words = [word for pair in {**options, "--output": file}.items() for word in pair]
    monkeypatch.setattr(sys, "argv", ["tf2onnx", *words])
    tf2onnx.convert.main()
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, given), strict=True))


def by_litert(path, signature, given, folder, monkeypatch):
    """Run a signature by LiteRT, with its builtins alone."""
    from ai_edge_litert import interpreter as litert

    converter = tf.lite.TFLiteConverter.from_saved_model(path, signature_keys=[signature])
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    interpreter = litert.Interpreter(model_content=converter.convert())
    return interpreter.get_signature_runner(signature)(**given)


def by_openvino(path, signature, given, folder, monkeypatch):
    """Run a signature by OpenVINO, which reads the function that was loaded."""
    import openvino

    loaded = tf.saved_model.load(path)
    model = openvino.convert_model(loaded.signatures[signature])
    found = openvino.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})(given)
    return {name: value for output, value in found.items() for name in output.get_names()}


RUNTIMES = {
    by_onnx: ("tf2onnx", "onnxruntime"),
    by_litert: ("ai_edge_litert",),
    by_openvino: ("openvino",),
}


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """Return a function from a case to its model, and the folder of what was exported."""

    @functools.cache
    def export_once(case):
        model = make(*case)
        return model, kv.export_saved_model(model, tmp_path_factory.mktemp("exported") / "1")

    return export_once


@pytest.mark.full
@pytest.mark.parametrize("run", RUNTIMES, ids=lambda run: run.__name__)
@pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join(map(str, case)))
def test_numbers_are_those_of_the_model(case, run, exported, tmp_path, monkeypatch):
    for package in RUNTIMES[run]:
        pytest.importorskip(package, reason="needs the extra `convert`")
    model, path = exported(case)
    loaded = tf.saved_model.load(path)
    largest = 255.0 if "Logistic" in case[2] else 1.0
    for signature in SIGNATURES:
        given = inputs_of(model, signature)
        tensors = {name: tf.constant(value) for name, value in given.items()}
        expected = loaded.signatures[signature](**tensors)
        found = run(path, signature, given, tmp_path, monkeypatch)
        assert found.keys() >= expected.keys()
        for name, value in expected.items():
            np.testing.assert_allclose(found[name], value, rtol=1e-5, atol=1e-5 * largest)
