"""Shapes, building, saving and dtypes of encoders and decoders."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_vae.networks import (
    ConvDecoder,
    ConvEncoder,
    MapDecoder,
    MapEncoder,
    MLPDecoder,
    MLPEncoder,
    OutputBias,
    ResidualBlock,
    ResidualDecoder,
    ResidualEncoder,
)
from keras_vae.networks.image import stage_sizes
from tests.small_models import randomize

IMAGE_SHAPES = [(28, 28, 1), (9, 9, 2), (105, 28, 1), (7, 12, 3, 5), (1, 1, 1)]
SMALL = {
    MLPEncoder: {"hidden_units": (8, 6), "activation": "relu"},
    MLPDecoder: {"shape": (9, 9, 2), "hidden_units": (8,), "activation": "elu"},
    ConvEncoder: {"filters": (3, 4, 5), "kernel_size": 3, "dense_units": 6, "activation": "elu"},
    ConvDecoder: {
        "shape": (9, 9, 2, 2),
        "filters": (4, 3, 2),
        "kernel_size": 3,
        "dense_units": 6,
        "activation": "elu",
    },
    ResidualEncoder: {"filters": (3, 4), "blocks_per_stage": 1, "dense_units": 6},
    ResidualDecoder: {"shape": (9, 9, 2), "filters": (4, 3), "blocks_per_stage": 1},
}
ENCODERS = [MLPEncoder, ConvEncoder, ResidualEncoder]
DECODERS = [MLPDecoder, ConvDecoder, ResidualDecoder]


def make(network, **kwargs):
    return network(**SMALL[network], **kwargs)


def input_of(network, batch=3):
    shape = (9, 9, 2) if network in ENCODERS else (4,)
    return np.random.default_rng(0).normal(size=(batch, *shape)).astype("float32")


@pytest.mark.parametrize("shape", IMAGE_SHAPES, ids=str)
@pytest.mark.parametrize("network", DECODERS)
def test_decoders_reach_the_shape_asked_for(network, shape):
    decoder = network(shape, **{k: v for k, v in SMALL[network].items() if k != "shape"})
    symbolic = decoder(keras.KerasTensor((None, 4)))
    assert decoder.built and symbolic.shape == (None, *shape)
    assert decoder(tf.zeros([2, 4])).shape == (2, *shape)
    assert decoder.compute_output_shape((None, 4)) == (None, *shape)


@pytest.mark.parametrize("shape", [s for s in IMAGE_SHAPES if len(s) == 3], ids=str)
@pytest.mark.parametrize("network", ENCODERS)
def test_encoders_give_features(network, shape):
    encoder = make(network)
    assert encoder(keras.KerasTensor((None, *shape))).shape == (None, 6)
    assert encoder(tf.zeros([2, *shape])).shape == (2, 6)


@pytest.mark.parametrize("shape", [(28, 28, 1), (32, 32, 3)], ids=str)
@pytest.mark.parametrize("network", DECODERS)
def test_defaults_fit_the_usual_images(network, shape):
    assert network(shape).compute_output_shape((None, 16)) == (None, *shape)


def test_mlp_takes_data_of_any_rank():
    assert MLPEncoder((5,))(tf.zeros([2, 7])).shape == (2, 5)
    assert MLPDecoder((7,), (5,))(tf.zeros([2, 3])).shape == (2, 7)


def test_sizes_on_the_way_up_are_those_on_the_way_down():
    down, shape = [(105, 9)], (None, 105, 9, 1)
    for layer in make(ConvEncoder).chain:
        shape = layer.compute_output_shape(shape)
        if isinstance(layer, keras.layers.Conv2D):
            down.append(shape[1:3])
    assert stage_sizes((105, 9), 3) == down[::-1] == [(14, 2), (27, 3), (53, 5), (105, 9)]


def test_an_activation_may_be_a_function_or_a_layer_name():
    encoder = MLPEncoder((4,), activation=keras.activations.gelu)
    copy = MLPEncoder.from_config(encoder.get_config())
    assert copy.activation is keras.activations.gelu


@pytest.mark.parametrize("network", DECODERS)
def test_the_output_bias_is_the_only_one_of_the_last_layer(network):
    decoder = make(network)
    decoder(input_of(network))
    bias = decoder.chain[-1]
    assert isinstance(bias, OutputBias) and bias.bias.shape == SMALL[network]["shape"]
    np.testing.assert_array_equal(bias.bias, 0.0)
    before = decoder(input_of(network))
    offset = np.random.default_rng(1).normal(size=bias.bias.shape)
    bias.bias.assign(offset)
    np.testing.assert_allclose(decoder(input_of(network)) - before, [offset] * 3, atol=1e-5)
    last = [layer for layer in decoder.chain if hasattr(layer, "kernel")][-1]
    assert last.use_bias is False


def test_output_bias_ends_a_sequential_of_the_user(tmp_path):
    model = keras.Sequential(
        [keras.Input([3]), keras.layers.Dense(4, use_bias=False), OutputBias()]
    )
    model.layers[-1].bias.assign([1.0, 2.0, 3.0, 4.0])
    model.save(tmp_path / "model.keras")
    copy = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(copy(np.zeros([1, 3])), [[1.0, 2.0, 3.0, 4.0]])


@pytest.mark.parametrize("channels", [1, 3])
def test_a_residual_block_refuses_maps_of_other_channels(channels):
    with pytest.raises(ValueError, match="`input_shape` must have 8 channels"):
        ResidualBlock(8)(tf.zeros([2, 5, 5, channels]))


def test_a_residual_block_starts_as_the_identity_and_is_what_its_formula_says():
    block = ResidualBlock(2, "elu", dtype="float64")
    x = np.random.default_rng(0).normal(size=(2, 5, 5, 2))
    np.testing.assert_array_equal(block(x), x)
    randomize(block)
    elu, (k1, b1, k2, b2) = tf.nn.elu, block.get_weights()
    hidden = elu(tf.nn.conv2d(elu(x), k1, 1, "SAME") + b1)
    np.testing.assert_allclose(block(x), x + tf.nn.conv2d(hidden, k2, 1, "SAME") + b2, rtol=1e-9)


def test_a_conv_decoder_is_what_its_formula_says():
    decoder = ConvDecoder((5, 5, 1), (3, 2), 3, 4, "tanh", dtype="float64")
    z = np.random.default_rng(0).normal(size=(2, 3))
    decoder(z)
    randomize(decoder)
    w1, b1, w2, b2, k1, c1, k2, bias = decoder.get_weights()
    h = np.tanh(np.tanh(z @ w1 + b1) @ w2 + b2).reshape(2, 2, 2, 3)
    h = tf.nn.conv2d_transpose(h, k1, (2, 4, 4, 2), 2, "SAME") + c1
    h = tf.nn.conv2d_transpose(np.tanh(h[:, :3, :3]), k2, (2, 6, 6, 1), 2, "SAME")
    np.testing.assert_allclose(decoder(z), h[:, :5, :5] + bias, rtol=1e-9)


@pytest.mark.parametrize("shape", [(28, 28, 1), (9, 30, 2), (7, 12, 3, 5)])
def test_maps_are_as_small_as_they_were_halved(shape):
    encoder, decoder = MapEncoder((3, 4, 5), 1, 2), MapDecoder(shape, (5, 4, 3), 1, 2)
    maps = encoder(tf.zeros([2, *shape[:3]]))
    assert maps.shape == (2, *stage_sizes(shape[:2], 3)[0], 5)
    assert decoder(maps).shape == (2, *shape)


def test_bottlenecks_against_formula():
    block, x = ResidualBlock(4, "tanh", bottleneck=3, dtype="float64"), tf.ones([2, 5, 5, 4])
    block.build(x.shape)
    randomize(block)
    (k1, b1, k2, b2), x = block.get_weights(), np.random.default_rng(0).normal(size=(2, 5, 5, 4))
    h = np.tanh(tf.nn.conv2d(np.tanh(x), k1, 1, "SAME") + b1)
    assert k2.shape == (1, 1, 3, 4)
    np.testing.assert_allclose(block(x), x + h @ k2[0, 0] + b2, rtol=1e-9)


def test_decoders_of_vectors_take_maps():
    decoder = MLPDecoder((3, 3, 1), (5,))
    z = np.random.default_rng(0).normal(size=(4, 2, 3)).astype("float32")
    np.testing.assert_array_equal(decoder(z), decoder(z.reshape(4, 6)))
    assert decoder.compute_output_shape((None, 2, 3)) == (None, 3, 3, 1)


@pytest.mark.parametrize(
    "make_network, name",
    [
        (lambda: MLPEncoder(()), "hidden_units"),
        (lambda: MLPDecoder((3,), (0,)), "hidden_units"),
        (lambda: MLPDecoder(()), "shape"),
        (lambda: ConvEncoder((8, -1)), "filters"),
        (lambda: ConvEncoder(kernel_size=1), "kernel_size"),
        (lambda: ConvEncoder(dense_units=0), "dense_units"),
        (lambda: ConvDecoder((28, 28)), "shape"),
        (lambda: ResidualDecoder((784,)), "shape"),
        (lambda: MapDecoder((784,)), "shape"),
        (lambda: MapEncoder(blocks=-1), "blocks"),
        (lambda: ResidualEncoder(blocks_per_stage=0), "blocks_per_stage"),
        (lambda: ConvEncoder().build((None, None, 28, 1)), "input_shape"),
        (lambda: OutputBias().build((None, None)), "input_shape"),
    ],
)
def test_bad_arguments_are_named(make_network, name):
    with pytest.raises(ValueError, match=f"Argument `{name}`"):
        make_network()
