"""Every head and every network does what all of its kind must."""

import keras
import pytest

from tests import contracts, registry


def names(room):
    layers = {n for n, kind in registry.saved_classes().items() if issubclass(kind, keras.Layer)}
    return [name for name in sorted(registry.ARGUMENTS) if name.startswith(room) and name in layers]


@pytest.mark.first_is_quick
@pytest.mark.parametrize("name", names("posteriors."))
def test_posterior(name):
    contracts.check_posterior(name)


@pytest.mark.first_is_quick
@pytest.mark.parametrize("name", names("priors."))
def test_prior(name):
    contracts.check_prior(name)


@pytest.mark.first_is_quick
@pytest.mark.parametrize("name", [n for n in names("networks.") if not n.endswith("Bias")])
def test_network(name, tmp_path):
    contracts.check_network(name, tmp_path)


LAYERS = [n for room in ("posteriors.", "priors.", "networks.") for n in names(room)]


@pytest.mark.full
@pytest.mark.parametrize("policy", ["float64", "mixed_bfloat16"])
@pytest.mark.parametrize("name", [n for n in LAYERS if not n.endswith("Bias")])
def test_every_mode_in_other_precisions(name, policy):
    contracts.check_layer_in_every_mode(name, policy)
