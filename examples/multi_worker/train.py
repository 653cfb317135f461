"""Trains a VAE of digits on several workers, and goes on where it was interrupted.

Two processes on this machine:

    python examples/multi_worker/train.py --workers 2

On several machines the same script runs on each of them, with the environment variable TF_CONFIG;
`job.yaml` does that on Kubernetes. All workers must see the folder of `--runs`.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import socket
import subprocess
import sys

import keras
import tensorflow as tf

import keras_vae as kv

IMAGE, LATENT_DIM = (28, 28, 1), 16
NETWORKS = {
    "conv": (kv.networks.ConvEncoder, kv.networks.ConvDecoder),
    "mlp": (kv.networks.MLPEncoder, kv.networks.MLPDecoder),
}


def start(count: int, arguments: list[str]) -> int:
    """Runs this script as `count` workers of this machine, and returns 0 if all succeed."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    cluster = {"worker": [f"127.0.0.1:{one.getsockname()[1]}" for one in sockets]}
    for one in sockets:
        one.close()
    processes = []
    for index in range(count):
        config = json.dumps({"cluster": cluster, "task": {"type": "worker", "index": index}})
        command = [sys.executable, __file__, *arguments]
        processes.append(subprocess.Popen(command, env={**os.environ, "TF_CONFIG": config}))
    # If one fails, the others notice, and end as well.
    return max(abs(process.wait()) for process in processes)


def build(network: str, seed: int) -> kv.VAE:
    """Makes a VAE of binary 28x28 images with the networks of that name."""
    keras.utils.set_random_seed(seed)
    encoder, decoder = NETWORKS[network]
    return kv.VAE(
        encoder=encoder(),
        decoder=decoder(IMAGE),
        posterior=kv.posteriors.DiagonalNormal(LATENT_DIM),
        likelihood=kv.likelihoods.Bernoulli(IMAGE),
        seed=seed,
    )


def train(args: argparse.Namespace) -> None:
    """Does the work of one worker; all do the same."""
    strategy = tf.distribute.MultiWorkerMirroredStrategy()  # reads TF_CONFIG
    chief = not strategy.cluster_resolver.task_id
    resume = kv.callbacks.Resume(args.runs / "checkpoints")
    batch_size = args.batch_size * strategy.num_replicas_in_sync
    options = {"binarize": "dynamic", "batch_size": batch_size, "seed": args.seed}
    data = kv.data.load("mnist_5k", "train", initial_epoch=resume.epoch, **options)
    held_out = kv.data.load("mnist_5k", "test", **options)

    with strategy.scope():
        model = build(args.network, args.seed)
        model.initialize_output_bias(kv.data.load("mnist_5k", "train", shuffle=False))
        # Not of the epochs: a training that goes on for more of them keeps its schedules.
        steps = args.decay_epochs * len(data)
        model.compile(keras.optimizers.AdamW(keras.optimizers.schedules.CosineDecay(2e-3, steps)))
    warm_up = kv.callbacks.KLAnnealing(kv.schedules.Linear(0.0, 1.0, steps=max(1, steps // 4)))
    model.fit(
        data,
        validation_data=held_out,
        epochs=args.epochs,
        initial_epoch=resume.epoch,
        callbacks=[warm_up, resume],
        verbose=2 if chief else 0,
    )
    results = model.evaluate(held_out, return_dict=True, verbose=0)
    path = kv.export_saved_model(model, args.runs / "saved_model" / "1", overwrite=True)
    if chief:
        print(f"Held out: ELBO {results['elbo']:.2f} nats. SavedModel in {path}.")


def main(arguments: list[str] | None = None) -> int:
    """Starts workers, or is one of them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workers", type=int, help="processes to start on this machine")
    parser.add_argument("--network", choices=NETWORKS, default="conv")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--decay-epochs", type=int, default=20, help="of the learning rate")
    parser.add_argument("--batch-size", type=int, default=100, help="for each replica")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--runs", type=pathlib.Path, default="runs/multi_worker")
    args = parser.parse_args(arguments)
    if args.workers and "TF_CONFIG" not in os.environ:
        return start(args.workers, sys.argv[1:] if arguments is None else arguments)
    train(args)
    return 0


if __name__ == "__main__":
    sys.exit(main())
