"""The hierarchy of `benchmarks.hierarchies` on digits, and its training step, in PyTorch.

The design is that of github.com/addtt/ladder-vae-pytorch and of NVAE: a residual pass upwards,
and one downwards that merges it with its state for q. Layers, groups and parameters are
as many as in `kv.HierarchicalVAE`, which the number of parameters is held against. Maps lie in
memory with their channels last, which is the faster way on a CPU.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from benchmarks.peers import hierarchy_shape as shape
from benchmarks.peers import serving


class Cell(nn.Module):
    """A residual bottleneck cell."""

    def __init__(self, channels: int, side: int, count: int):
        super().__init__()
        inner = channels // 2
        self.first = nn.Conv2d(channels, inner, 1)
        self.middle = _convolution(inner, side)
        self.last = nn.Conv2d(inner, channels, 1)
        with torch.no_grad():
            self.last.weight.mul_(1.0 / math.sqrt(count))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Returns maps of the same shape."""
        hidden = functional.elu(self.first(functional.elu(x)))
        return x + self.last(functional.elu(self.middle(hidden)))


class Group(nn.Module):
    """A group of latent maps."""

    def __init__(self, channels: int, latent: int, side: int, count: int):
        super().__init__()
        inner = channels // 2
        self.of_prior = nn.Conv2d(channels, 2 * latent, 1)
        self.of_state = nn.Conv2d(channels, inner, 1)
        self.of_maps = nn.Conv2d(channels, inner, 1, bias=False)
        self.middle = _convolution(inner, side)
        self.of_posterior = nn.Conv2d(inner, 2 * latent, 1)
        self.of_latent = nn.Conv2d(latent, channels, 1)
        self.cells = nn.Sequential(*(Cell(channels, side, count) for _ in _down()))

    def forward(self, state: torch.Tensor, maps: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns the next state, and the KL `[B]`."""
        hidden = functional.elu(state)
        loc, scale = self.of_prior(hidden).chunk(2, dim=1)
        scale = _bounded(scale)
        hidden = functional.elu(self.of_state(hidden) + self.of_maps(functional.elu(maps)))
        shift, ratio = self.of_posterior(functional.elu(self.middle(hidden))).chunk(2, dim=1)
        ratio = _bounded(ratio)
        z = loc + shift + scale * ratio * torch.randn_like(shift)
        kl = 0.5 * ((shift / scale).square() + ratio.square() - 1.0) - ratio.log()
        return self.cells(state + self.of_latent(z)), kl.sum(dim=(1, 2, 3))


def _down() -> range:
    return range(shape.BLOCKS_DOWN)


def _convolution(channels: int, side: int) -> nn.Conv2d:
    return nn.Conv2d(channels, channels, 1) if side == 1 else nn.Conv2d(channels, channels, 3, 1, 1)


def _bounded(raw: torch.Tensor) -> torch.Tensor:
    one = math.log(math.expm1(1.0 - shape.SCALE_FLOOR))
    return (functional.softplus(raw + one) + shape.SCALE_FLOOR).clamp(max=shape.SCALE_CEILING)


class TorchHierarchy(nn.Module):
    """A model, its optimizer and its data.

    Args:
        images: `[N, 784]`.
        row: What is trained.
        compiled: Whether `torch.compile` compiles loss and gradients.
        parameters: Number of parameters that there must be.
    """

    def __init__(self, images: np.ndarray, row: serving.Row, compiled: bool, parameters: int):
        super().__init__()
        self.images, self.row = torch.from_numpy(images), row
        self._make_up()
        self._make_down()
        found = sum(one.numel() for one in self.parameters())
        if found != parameters:
            raise ValueError(f"{found} parameters, not {parameters}")
        self.to(memory_format=torch.channels_last)
        self.optimizer = torch.optim.Adamax(self.parameters(), lr=shape.LEARNING_RATE, eps=1e-7)
        self.measures = self._measures
        if compiled:
            torch.compiler.reset()
            self.measures = torch.compile(self._measures, fullgraph=True, dynamic=False)

    def _make_up(self) -> None:
        scales = sorted(shape.CHANNELS, reverse=True)
        count, side, before = len(scales) * shape.BLOCKS_UP, 28, 1
        self.reductions, self.up = nn.ModuleList(), nn.ModuleList()
        for scale in scales:
            channels, factor = shape.CHANNELS[scale], side // scale
            self.reductions.append(nn.Conv2d(before, channels, factor, factor))
            cells = (Cell(channels, scale, count) for _ in range(shape.BLOCKS_UP))
            self.up.append(nn.Sequential(*cells))
            side, before = scale, channels

    def _make_down(self) -> None:
        scales = sorted(shape.CHANNELS)
        count = shape.BLOCKS_DOWN * sum(number for number, _ in shape.GROUPS.values())
        channels = [shape.CHANNELS[scale] for scale in scales]
        self.start = nn.Parameter(torch.zeros(1, channels[0], scales[0], scales[0]))
        factors = [after // before for before, after in zip(scales, [*scales[1:], 28], strict=True)]
        self.factors = factors
        widths = zip(channels[:-1], channels[1:], factors, strict=False)
        self.enlargements = nn.ModuleList(
            nn.Conv2d(before, after * factor**2, 1) for before, after, factor in widths
        )
        self.groups = nn.ModuleList(
            nn.ModuleList(
                Group(width, shape.GROUPS[scale][1], scale, count)
                for _ in range(shape.GROUPS[scale][0])
            )
            for width, scale in zip(channels, scales, strict=True)
        )
        self.output = nn.Conv2d(channels[-1], factors[-1] ** 2, 1, bias=False)
        self.bias = nn.Parameter(torch.zeros(1, 1, 28, 28))

    def epoch(self) -> float:
        """Trains on all examples, and returns the mean loss."""
        sums = torch.zeros(4)
        batches = torch.from_numpy(serving.shuffled(self.row))
        for index in batches:
            x = self.images[index].reshape(-1, 1, 28, 28)
            measures = self.measures(x.contiguous(memory_format=torch.channels_last))
            self.optimizer.zero_grad()
            measures[0].backward()
            self.optimizer.step()
            sums += measures.detach()
        return sums[0].item() / len(batches)

    def losses(
        self, weights: list[np.ndarray], batches: np.ndarray, noise: np.ndarray
    ) -> list[float]:
        """Not offered: maps become patches in another order of channels than in TensorFlow."""
        raise NotImplementedError("the hierarchy takes no given weights")

    def _measures(self, x: torch.Tensor) -> torch.Tensor:
        """Returns the means of loss, ELBO, reconstruction and KL."""
        maps, hidden = [], x
        for reduce, cells in zip(self.reductions, self.up, strict=True):
            hidden = cells(reduce(hidden))
            maps.append(hidden)
        state, kl = self.start.expand(len(x), -1, -1, -1), torch.zeros(len(x))
        for number, groups in enumerate(self.groups):
            if number:
                enlarged = self.enlargements[number - 1](state)
                state = functional.pixel_shuffle(enlarged, self.factors[number - 1])
            for group in groups:
                state, of_group = group(state, maps[-1 - number])
                kl = kl + of_group
        logits = functional.pixel_shuffle(self.output(functional.elu(state)), self.factors[-1])
        logits = logits + self.bias
        log_p_x = (x * logits - functional.softplus(logits)).sum(dim=(1, 2, 3))
        elbo = log_p_x - kl
        return torch.stack([-elbo, elbo, -log_p_x, kl]).mean(dim=-1)


if __name__ == "__main__":
    serving.main(__doc__, TorchHierarchy, torch.set_num_threads)
