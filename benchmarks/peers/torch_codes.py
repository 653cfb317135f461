"""A VQ-VAE and its training step in PyTorch, quantized by vector-quantize-pytorch.

The networks are those of Sonnet's notebook, as `kv.networks.MapEncoder` and `MapDecoder` have them,
for images of 32x32x3. The quantizer has the options of the package's own: moving averages of decay
0.99, codes that are hardly used begin anew. Adam is the fused one, and batches are gathered from a
tensor in memory. With "compiled", `torch.compile` makes graphs of the two networks; the quantizer,
which changes its own state, runs as it is.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn
from vector_quantize_pytorch import VectorQuantize

from benchmarks.peers import serving

SHAPE, CODES, DIM = (3, 32, 32), 512, 64
WIDTH, BLOCK = 128, 32


class Block(nn.Module):
    """A residual block with a bottleneck."""

    def __init__(self) -> None:
        super().__init__()
        inner = [nn.ReLU(), nn.Conv2d(WIDTH, BLOCK, 3, padding=1), nn.ReLU()]
        self.inner = nn.Sequential(*inner, nn.Conv2d(BLOCK, WIDTH, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Returns the input plus what the convolutions make of it."""
        return x + self.inner(x)


def _body(channels: int) -> list[nn.Module]:
    return [nn.Conv2d(channels, WIDTH, 3, padding=1), Block(), Block(), nn.ReLU()]


class TorchCodes(nn.Module):
    """A model, its optimizer and its data.

    Args:
        images: `[N, 3072]`, in rows, columns and colours.
        row: What is trained.
        compiled: Whether `torch.compile` compiles the networks.
    """

    def __init__(self, images: np.ndarray, row: serving.Row, compiled: bool):
        super().__init__()
        images = images.reshape(-1, 32, 32, 3).transpose(0, 3, 1, 2)
        self.images, self.row = torch.from_numpy(np.ascontiguousarray(images)), row
        half = WIDTH // 2
        down = [nn.Conv2d(3, half, 4, 2, 1), nn.ReLU(), nn.Conv2d(half, WIDTH, 4, 2, 1), nn.ReLU()]
        up = [nn.ConvTranspose2d(WIDTH, half, 4, 2, 1), nn.ReLU()]
        self.down = nn.Sequential(*down, *_body(WIDTH), nn.Conv2d(WIDTH, DIM, 1))
        self.up = nn.Sequential(*_body(DIM), *up, nn.ConvTranspose2d(half, 3, 4, 2, 1))
        self.quantizer = VectorQuantize(
            dim=DIM,
            codebook_size=CODES,
            decay=0.99,
            commitment_weight=0.25,
            threshold_ema_dead_code=0.2,
            accept_image_fmap=True,
        )
        self.optimizer = torch.optim.Adam(self.parameters(), lr=3e-4, fused=True)
        if compiled:
            torch.compiler.reset()
            self.down, self.up = (
                torch.compile(one, fullgraph=True, dynamic=False) for one in (self.down, self.up)
            )

    def epoch(self) -> float:
        """Trains on all examples, and returns the mean loss."""
        total = torch.zeros(())
        batches = torch.from_numpy(serving.shuffled(self.row))
        for index in batches:
            total += self.advance(self.images[index])
        return total.item() / len(batches)

    def advance(self, x: torch.Tensor) -> torch.Tensor:
        """Makes a step, and returns the loss before it."""
        embedded, _, commitment = self.quantizer(self.down(x))
        loss = nn.functional.mse_loss(self.up(embedded), x) / 0.06327 + commitment.sum()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss.detach()


if __name__ == "__main__":
    serving.main(__doc__, TorchCodes, torch.set_num_threads)
