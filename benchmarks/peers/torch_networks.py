"""The networks of the benchmark in PyTorch."""

from __future__ import annotations

import dataclasses

from torch import nn

MAPS = (64, 7, 7)
FLAT = 64 * 7 * 7


@dataclasses.dataclass(frozen=True)
class Networks:
    """An encoder and a decoder.

    Attributes:
        down: Module from x `[B, 1, 28, 28]` to features.
        features: Number of features.
        latent_dim: D.
        up: Module from z to logits, `[B, 784]` or `[B, 1, 28, 28]`.
    """

    down: nn.Module
    features: int
    latent_dim: int
    up: nn.Module


def mlp(bias: bool) -> Networks:
    """Returns the networks of Burda et al., 2016; `bias` is that of the logits."""
    down = [nn.Flatten(), nn.Linear(784, 200), nn.Tanh(), nn.Linear(200, 200), nn.Tanh()]
    up = [nn.Linear(50, 200), nn.Tanh(), nn.Linear(200, 200), nn.Tanh()]
    up += [nn.Linear(200, 784, bias=bias)]
    return Networks(nn.Sequential(*down), 200, 50, nn.Sequential(*up))


def convolutional(bias: bool) -> Networks:
    """Returns the networks of `examples/mnist_5k.py`; `bias` is that of the logits."""
    down = [nn.Conv2d(1, 32, 4, 2, 1), nn.ReLU(), nn.Conv2d(32, 64, 4, 2, 1), nn.ReLU()]
    down += [nn.Flatten(), nn.Linear(FLAT, 256), nn.ReLU()]
    up = [nn.Linear(16, 256), nn.ReLU(), nn.Linear(256, FLAT), nn.ReLU()]
    up += [nn.Unflatten(1, MAPS), nn.ConvTranspose2d(64, 32, 4, 2, 1), nn.ReLU()]
    up += [nn.ConvTranspose2d(32, 1, 4, 2, 1, bias=bias)]
    return Networks(nn.Sequential(*down), 256, 16, nn.Sequential(*up))


NETWORKS = {"mlp": mlp, "conv": convolutional}
