"""Models, trainers and data loader of pythae 0.1.2.

Of pythae it runs: `VAE` for K = 1 and `IWAE` for K > 1, with `reconstruction_loss="bce"`, and
`BaseTrainer.train_step`, which is the whole epoch of its trainer: forward, `zero_grad`, `backward`,
`torch.optim.Adam.step`, the loss summed up on the host, and its check for NaN. Encoders and
decoders are the same networks as in `hand_written.py`, as `BaseEncoder` and `BaseDecoder`. If
"adversarial" is true, it runs `VAEGAN` and the `train_step` of its trainer with three optimizers,
with a discriminator of the layers of `networks.ConvDiscriminator`.

In favour of pythae, two things are left out: its progress bar, and the copy of the best model after
each epoch. Batches come from the `DataLoader` that its trainer makes, or, if "gathered" is true,
from a tensor in memory, which collates nothing example by example.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator

import numpy as np
import torch
from pythae.data.datasets import BaseDataset, DatasetOutput
from pythae.models import IWAE, VAE, VAEGAN, IWAEConfig, VAEConfig, VAEGANConfig
from pythae.models.base.base_utils import ModelOutput
from pythae.models.nn import BaseDecoder, BaseDiscriminator, BaseEncoder
from pythae.trainers import (
    BaseTrainer,
    BaseTrainerConfig,
    CoupledOptimizerAdversarialTrainer,
    CoupledOptimizerAdversarialTrainerConfig,
)
from pythae.trainers.training_callbacks import CallbackHandler, TrainingCallback
from torch import nn

from benchmarks.peers import serving
from benchmarks.peers.torch_networks import FLAT, NETWORKS

IMAGE = (1, 28, 28)


class Encoder(BaseEncoder):
    """Features of x, and the two parameters of q(z|x).

    Args:
        body: Module from x to features.
        features: Number of features.
        latent_dim: D.
    """

    def __init__(self, body: nn.Module, features: int, latent_dim: int):
        super().__init__()
        self.body = body
        self.loc = nn.Linear(features, latent_dim)
        self.log_variance = nn.Linear(features, latent_dim)

    def forward(self, x: torch.Tensor) -> ModelOutput:
        """Returns mu and log sigma^2, `[B, D]`."""
        features = self.body(x)
        return ModelOutput(embedding=self.loc(features), log_covariance=self.log_variance(features))


class Decoder(BaseDecoder):
    """Probabilities of the pixels.

    Args:
        body: Module from z to logits.
    """

    def __init__(self, body: nn.Module):
        super().__init__()
        self.body = body

    def forward(self, z: torch.Tensor) -> ModelOutput:
        """Returns the mean of p(x|z), `[B, *IMAGE]`."""
        return ModelOutput(reconstruction=torch.sigmoid(self.body(z)).reshape(-1, *IMAGE))


class Discriminator(BaseDiscriminator):
    """The probability that an image is one of the data, and outputs of its layers."""

    def __init__(self) -> None:
        super().__init__()
        act = nn.LeakyReLU(0.2)
        convolutions = nn.Sequential(
            nn.Conv2d(1, 32, 4, 2, 1), act, nn.Conv2d(32, 64, 4, 2, 1), act, nn.Flatten()
        )
        dense = nn.Sequential(nn.Linear(FLAT, 256), act, nn.Linear(256, 1), nn.Sigmoid())
        self.layers = nn.ModuleList([convolutions, dense])
        self.depth = 2

    def forward(self, x: torch.Tensor, output_layer_levels: list[int] | None = None) -> ModelOutput:
        """Returns what was asked for: the outputs of layers, or the last one as `embedding`."""
        wanted, output = output_layer_levels or [self.depth], ModelOutput()
        for level in range(1, max(wanted) + 1):
            x = self.layers[level - 1](x)
            if output_layer_levels is not None and level in wanted:
                output[f"embedding_layer_{level}"] = x
            if level == self.depth:
                output["embedding"] = x
        return output


class Batches:
    """Shuffled batches of images in memory, in place of a `DataLoader`.

    Args:
        images: Tensor `[N, *IMAGE]`.
        batch_size: Integer.
    """

    def __init__(self, images: torch.Tensor, batch_size: int):
        self.dataset = images
        self.batch_size = batch_size

    def __len__(self) -> int:
        return len(self.dataset) // self.batch_size

    def __iter__(self) -> Iterator[DatasetOutput]:
        order = torch.randperm(len(self.dataset))
        for index in order.split(self.batch_size)[: len(self)]:
            yield DatasetOutput(data=self.dataset[index])


def model(network: str, num_samples: int, adversarial: bool = False) -> VAE:
    """Returns a model of pythae."""
    made = NETWORKS[network](bias=True)
    encoder, decoder = Encoder(made.down, made.features, made.latent_dim), Decoder(made.up)
    options = {"input_dim": IMAGE, "latent_dim": made.latent_dim, "reconstruction_loss": "bce"}
    if adversarial:
        # Features are those after the convolutions.
        config = VAEGANConfig(**options, reconstruction_layer=1)
        return VAEGAN(config, encoder, decoder, Discriminator())
    if num_samples == 1:
        return VAE(VAEConfig(**options), encoder, decoder)
    return IWAE(IWAEConfig(**options, number_samples=num_samples), encoder, decoder)


class PythaeTraining:
    """A trainer of pythae, ready for `train_step`.

    Args:
        images: `[N, 784]`.
        row: What is trained.
        gathered: Whether batches are gathered from a tensor in memory.
        adversarial: Whether it is `VAEGAN`.
    """

    def __init__(
        self, images: np.ndarray, row: serving.Row, gathered: bool, adversarial: bool = False
    ):
        data = torch.from_numpy(images).reshape(-1, *IMAGE)
        self._folder = tempfile.TemporaryDirectory()
        made = model(row.network, row.num_samples, adversarial)
        self.trainer = self._trainer(made, BaseDataset(data, data), row, adversarial)
        self.trainer.prepare_training()
        if gathered:
            self.trainer.train_loader = Batches(data, row.batch_size)
        self.trainer.callback_handler = CallbackHandler([TrainingCallback()], made)
        self.epochs = 0

    def _trainer(
        self, made: VAE, data: BaseDataset, row: serving.Row, adversarial: bool
    ) -> BaseTrainer:
        options = {
            "output_dir": self._folder.name,
            "per_device_train_batch_size": row.batch_size,
            "no_cuda": True,
        }
        if adversarial:
            parts = ("encoder", "decoder", "discriminator")
            rates = {f"{part}_learning_rate": serving.LEARNING_RATE for part in parts}
            coupled = CoupledOptimizerAdversarialTrainerConfig(**options, **rates)
            return CoupledOptimizerAdversarialTrainer(made, data, training_config=coupled)
        config = BaseTrainerConfig(
            **options, learning_rate=serving.LEARNING_RATE, optimizer_cls="Adam"
        )
        return BaseTrainer(made, data, training_config=config)

    def epoch(self) -> float:
        """Trains on all examples, and returns the mean loss."""
        self.epochs += 1
        loss = self.trainer.train_step(self.epochs)
        return loss[0] if isinstance(loss, (tuple, list)) else loss

    def losses(
        self, weights: list[np.ndarray], batches: np.ndarray, noise: np.ndarray
    ) -> list[float]:
        """Raises an error: a model of pythae draws its noise itself."""
        raise NotImplementedError("pythae takes no noise.")


if __name__ == "__main__":
    serving.main(__doc__, PythaeTraining, torch.set_num_threads)
