"""A VAE and its training step written by hand in PyTorch, as `hand_written.py` is in TensorFlow.

With "compiled", `torch.compile` makes one graph of the forward pass and one of the backward pass,
for the shapes of a batch. Adam is the fused one, and batches are gathered from a tensor in memory.
The projection to mu and raw sigma, the bias of the logits, the bound and the sums for the logs are
those of `hand_written.py`.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import nn

from benchmarks.peers import serving
from benchmarks.peers.torch_networks import FLAT, MAPS, NETWORKS


class TorchStep(nn.Module):
    """A model, its optimizer and its data.

    Args:
        images: `[N, 784]`.
        row: What is trained.
        compiled: Whether `torch.compile` compiles loss and gradients.
    """

    def __init__(self, images: np.ndarray, row: serving.Row, compiled: bool):
        super().__init__()
        self.images, self.row = torch.from_numpy(images), row
        self.num_samples = row.num_samples
        made = NETWORKS[row.network](bias=False)
        self.latent_dim = made.latent_dim
        self.down, self.up = made.down, made.up
        self.projection = nn.Linear(made.features, 2 * made.latent_dim)
        self.bias = nn.Parameter(torch.zeros(784))
        options = {"lr": serving.LEARNING_RATE, "eps": serving.EPSILON}
        self.optimizer = torch.optim.Adam(self.parameters(), fused=True, **options)
        self.measures = self._measures
        if compiled:
            torch.compiler.reset()  # Graphs of other rows, of which it keeps only a few.
            self.measures = torch.compile(self._measures, fullgraph=True, dynamic=False)

    def epoch(self) -> float:
        """Trains on all examples, and returns the mean loss."""
        sums = torch.zeros(4)
        noise_shape = (self.num_samples, self.row.batch_size, self.latent_dim)
        batches = torch.from_numpy(serving.shuffled(self.row))
        for index in batches:
            sums += self.advance(self.images[index], torch.randn(noise_shape))
        return sums[0].item() / len(batches)

    def losses(
        self, weights: list[np.ndarray], batches: np.ndarray, noise: np.ndarray
    ) -> list[float]:
        """Returns the loss before each of some given steps."""
        layers = (self.down, self.projection, self.up)
        parameters = [p for layer in layers for p in layer.parameters()] + [self.bias]
        with torch.no_grad():
            for parameter, value in zip(parameters, weights, strict=True):
                parameter.copy_(torch.from_numpy(_layout_of_torch(value)).view_as(parameter))
        steps = zip(torch.from_numpy(batches), torch.from_numpy(noise), strict=True)
        return [self.advance(*step)[0].item() for step in steps]

    def advance(self, x: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        """Makes a step, and returns the means of the measures before it."""
        measures = self.measures(x, noise)
        self.optimizer.zero_grad()
        measures[0].backward()
        self.optimizer.step()
        return measures.detach()

    def _measures(self, x: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        """Returns the means of loss, ELBO, reconstruction and KL."""
        features = self.down(x.reshape(-1, 1, 28, 28))
        loc, raw_scale = self.projection(features).chunk(2, dim=-1)  # [B, D]
        scale = nn.functional.softplus(raw_scale) + serving.SCALE_FLOOR
        scale = scale.clamp(max=serving.SCALE_CEILING)
        z = loc + scale * noise  # [K, B, D]
        logits = self.up(z.reshape(-1, self.latent_dim)).reshape(-1, 784) + self.bias
        logits = logits.reshape(self.num_samples, -1, 784)
        log_p_x = (x * logits - nn.functional.softplus(logits)).sum(dim=-1)  # [K, B]
        log_scale = scale.log()
        kl = (0.5 * (scale.square() + loc.square() - 1.0) - log_scale).sum(dim=-1)  # [B]
        reconstruction = -log_p_x.mean(dim=0)
        elbo = -reconstruction - kl
        loss = -elbo
        if self.num_samples > 1:
            ratio = 0.5 * (noise.square() - z.square()) + log_scale
            log_w = log_p_x + ratio.sum(dim=-1)
            loss = math.log(self.num_samples) - torch.logsumexp(log_w, dim=0)
        return torch.stack([loss, elbo, reconstruction, kl]).mean(dim=-1)


def _layout_of_torch(weight: np.ndarray) -> np.ndarray:
    """Returns a weight of Keras as PyTorch has it: outputs, inputs, rows, columns."""
    weight = _channels_first(weight)
    axes = {1: (0,), 2: (1, 0), 3: (0, 1, 2), 4: (3, 2, 0, 1)}[weight.ndim]
    return np.ascontiguousarray(weight.transpose(axes))


def _channels_first(weight: np.ndarray) -> np.ndarray:
    """Reorders an axis of flattened maps, rows before columns before channels in Keras."""
    if FLAT not in weight.shape:
        return weight
    axis = weight.shape.index(FLAT)
    channels, *size = MAPS
    maps = weight.reshape(*weight.shape[:axis], *size, channels, *weight.shape[axis + 1 :])
    return np.moveaxis(maps, axis + 2, axis).reshape(weight.shape)


if __name__ == "__main__":
    serving.main(__doc__, TorchStep, torch.set_num_threads)
