"""Trains VAEs of pythae when it is told to, and tells how long it took.

It runs in an environment of its own, with pythae 0.1.2 and PyTorch and without this package.
Of pythae it runs: `VAE` for K = 1 and `IWAE` for K > 1, with `reconstruction_loss="bce"`, and
`BaseTrainer.train_step`, which is the whole epoch of its trainer: forward, `zero_grad`, `backward`,
`torch.optim.Adam.step`, the loss summed up on the host, and its check for NaN. Encoders and
decoders are the same networks as in `hand_written.py`, as `BaseEncoder` and `BaseDecoder`.

In favour of pythae, two things are left out: its progress bar, and the copy of the best model after
each epoch. Batches come from the `DataLoader` that its trainer makes, or, if "gathered" is true,
from a tensor in memory, which collates nothing example by example.

A line of JSON on standard input asks for epochs (here wrapped), a line on standard output answers:

    {"network": "mlp", "num_samples": 5, "batch_size": 100, "examples": 6000, "gathered": false,
     "epochs": 2}
    {"seconds": 1.23, "loss": 103.4}
"""

from __future__ import annotations

import argparse
import functools
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import TextIO

import numpy as np
import torch
from pythae.data.datasets import BaseDataset, DatasetOutput
from pythae.models import IWAE, VAE, IWAEConfig, VAEConfig
from pythae.models.base.base_utils import ModelOutput
from pythae.models.nn import BaseDecoder, BaseEncoder
from pythae.trainers import BaseTrainer, BaseTrainerConfig
from pythae.trainers.training_callbacks import CallbackHandler, TrainingCallback
from torch import nn

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


def mlp() -> tuple[Encoder, Decoder]:
    """Returns the networks of Burda et al., 2016."""
    down = [nn.Flatten(), nn.Linear(784, 200), nn.Tanh(), nn.Linear(200, 200), nn.Tanh()]
    up = [nn.Linear(50, 200), nn.Tanh(), nn.Linear(200, 200), nn.Tanh(), nn.Linear(200, 784)]
    return Encoder(nn.Sequential(*down), 200, 50), Decoder(nn.Sequential(*up))


def convolutional() -> tuple[Encoder, Decoder]:
    """Returns the networks of `examples/mnist_5k.py`."""
    down = [nn.Conv2d(1, 32, 4, 2, 1), nn.ReLU(), nn.Conv2d(32, 64, 4, 2, 1), nn.ReLU()]
    down += [nn.Flatten(), nn.Linear(7 * 7 * 64, 256), nn.ReLU()]
    up = [nn.Linear(16, 256), nn.ReLU(), nn.Linear(256, 7 * 7 * 64), nn.ReLU()]
    up += [nn.Unflatten(1, (64, 7, 7)), nn.ConvTranspose2d(64, 32, 4, 2, 1), nn.ReLU()]
    up += [nn.ConvTranspose2d(32, 1, 4, 2, 1)]
    return Encoder(nn.Sequential(*down), 256, 16), Decoder(nn.Sequential(*up))


NETWORKS = {"mlp": (mlp, 50), "conv": (convolutional, 16)}


def model(network: str, num_samples: int) -> VAE:
    """Returns a model of pythae."""
    make, latent_dim = NETWORKS[network]
    encoder, decoder = make()
    options = {"input_dim": IMAGE, "latent_dim": latent_dim, "reconstruction_loss": "bce"}
    if num_samples == 1:
        return VAE(VAEConfig(**options), encoder, decoder)
    return IWAE(IWAEConfig(**options, number_samples=num_samples), encoder, decoder)


def trainer(
    images: torch.Tensor,
    folder: str,
    network: str,
    num_samples: int,
    batch_size: int,
    examples: int,
    gathered: bool,
) -> BaseTrainer:
    """Returns a trainer of pythae, ready for `train_step`."""
    images = images[:examples]
    config = BaseTrainerConfig(
        output_dir=folder,
        per_device_train_batch_size=batch_size,
        learning_rate=1e-3,
        optimizer_cls="Adam",
        no_cuda=True,
    )
    made = BaseTrainer(
        model(network, num_samples), BaseDataset(images, images), training_config=config
    )
    made.prepare_training()
    if gathered:
        made.train_loader = Batches(images, batch_size)
    made.callback_handler = CallbackHandler([TrainingCallback()], made.model)
    return made


def answer(images: torch.Tensor, folder: str, answers: TextIO) -> None:
    """Answers until the input ends."""
    made = functools.cache(functools.partial(trainer, images, folder))
    for line in sys.stdin:
        asked = json.loads(line)
        epochs = asked.pop("epochs")
        training = made(**asked)
        start = time.perf_counter()
        losses = [training.train_step(epoch) for epoch in range(1, epochs + 1)]
        seconds = time.perf_counter() - start
        print(json.dumps({"seconds": seconds, "loss": losses[-1]}), file=answers, flush=True)


def main() -> None:
    """Loads the images and answers."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", required=True, help="file of an array [N, 784] of 0 and 1")
    parser.add_argument("--threads", type=int, required=True)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    answers, sys.stdout = sys.stdout, sys.stderr  # What pythae prints is no answer.
    images = torch.from_numpy(np.load(args.images).astype("float32")).reshape(-1, *IMAGE)
    with tempfile.TemporaryDirectory() as folder:
        answer(images, folder, answers)


if __name__ == "__main__":
    main()
