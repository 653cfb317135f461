"""One clear error for each argument that breaks its rule."""

import pytest

from keras_vae import data


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"name": ""}, "`name` must be a non-empty string. Received: name=''"),
        ({"name": 5}, "`name` must be a non-empty string"),
        ({"split": None}, "`split` must be a non-empty string"),
        ({"split": "dev"}, r"`split` must be one of \['train', 'test'\], or a slice such as"),
        ({"split": "train[:10"}, "`split` must be one of .*Unrecognized.*Received: split='train"),
        ({"split": "train[:1443]"}, r"slice \[:1443\] incompatible with 1442 examples"),
        ({"split": "train[5:5]"}, r"`split` must hold examples. Received: split='train\[5:5\]'"),
        ({"split": "train[:9]", "validation_split": 0.1}, "`split` must be one of"),
        ({"batch_size": 0}, "`batch_size` must be an integer >= 1. Received: batch_size=0"),
        ({"batch_size": 1.5}, "`batch_size` must be an integer >= 1"),
        ({"batch_size": True}, "`batch_size` must be an integer >= 1"),
        ({"batch_size": 1443, "drop_remainder": True}, "`batch_size` must be <= 1442"),
        ({"binarize": "stochastic"}, r"must be one of \[None, 'dynamic', 'static', 'threshold'\]"),
        ({"binarize": True}, "`binarize` must be one of"),
        ({"shuffle": "yes"}, "`shuffle` must be one of"),
        ({"seed": -1}, "`seed` must be an integer >= 0. Received: seed=-1"),
        ({"seed": 2**64}, r"`seed` must be < 2\*\*64"),
        ({"initial_epoch": -1}, "`initial_epoch` must be an integer >= 0"),
        ({"dtype": "float16"}, r"`dtype` must be one of \['float32', 'uint8'\]"),
        ({"dtype": "uint8"}, '`dtype` must be "float32" for "digits"'),
        ({"name": "mnist_5k", "dtype": "uint8", "binarize": "static"}, "`binarize` must be None"),
        ({"labels": "colour"}, r"`labels` of \"digits\" must name one or more of \['label'\]"),
        ({"labels": []}, "`labels` of"),
        ({"labels": 1}, "`labels` must be a boolean, a name or names"),
        ({"drop_remainder": None}, "`drop_remainder` must be one of"),
    ],
)
def test_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        data.load(**{"name": "digits", **arguments})
