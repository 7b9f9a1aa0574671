"""Prints how fast photographs stream from their files, and whether training waits for them.

    python -m tests.benchmarks.stream [--tfds FOLDER] [--network resnet18] [--batch 64]

In turns: the stream alone, training on a batch that is there already, and training on the stream.
The training waits where the last is slower than the second. Without a folder of ImageNet, the few
photographs of the tests are read over and over.
"""

import argparse
import itertools
import pathlib
import statistics
import time

import jax
import numpy as np

from configs import imagenet
from relstab_jax import models, problems
from relstab_jax.data.stream import Stream
from relstab_jax.experiments import train_images
from relstab_jax.training import data_parallel
from relstab_jax.training.learner import Sizes

FEW = pathlib.Path(__file__).parents[1] / "data" / "tfds"
P = 10**6  # images of an epoch, of which a few steps are timed


class Prepared:
    """Gives out one batch over and over."""

    def __init__(self, stream):
        self._stream = stream

    def batches(self, numbers, keys=None):
        batch = next(iter(self._stream.batches(numbers[:1], keys)))
        return itertools.repeat(batch, len(numbers))


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tfds", default=str(FEW), help="folder of a prepared ImageNet")
    parser.add_argument("--network", default="resnet18")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    B, devices = arguments.batch, jax.devices()

    config = imagenet.get_config(arguments.network)
    stream = Stream("imagenet2012", "train", arguments.tfds, 224, augment=True)
    training = data_parallel.compile_training(
        models.create(arguments.network, num_classes=1000, image_size=224, channels=3),
        train_images.optimizer(config, P // B),
        problems.classification(config),
        Sizes(P, 10**6, B, B),
        devices,
    )
    keys = jax.random.split(jax.random.key(0), 1)
    examples = np.arange(P)[None] % len(stream)
    state = training.start(keys)
    epochs = itertools.count()

    def train(source):
        nonlocal state
        data = data_parallel.Data(source, examples, examples[:, :B], keys)
        first = next(epochs) * training.steps_per_epoch
        timed = first + 1, first + 1 + arguments.steps
        # The first step starts to read ahead.
        state = jax.block_until_ready(training.advance(state, data, first, first + 1))
        began = time.perf_counter()
        state = jax.block_until_ready(training.advance(state, data, *timed))
        return arguments.steps * B / (time.perf_counter() - began)

    def read():
        numbers = examples[0, : (arguments.steps + 1) * B].reshape(-1, B)
        batches = stream.batches(numbers, keys[0])
        next(batches)
        began = time.perf_counter()
        images = sum(len(labels) for _, labels in batches)
        return images / (time.perf_counter() - began)

    rates = {
        "stream alone": read,
        "training alone": lambda: train(Prepared(stream)),
        "training on the stream": lambda: train(stream),
    }
    found = {name: [] for name in rates}
    train(Prepared(stream))  # compiles
    for _ in range(arguments.repeats):
        for name, rate in rates.items():
            found[name].append(rate())
    alone = statistics.median(found["training alone"])
    print(f"{arguments.network}, batch {B}, {len(devices)} × {devices[0].device_kind}")
    for name, values in found.items():
        median = statistics.median(values)
        print(f"{name:24s}{median:8.1f} images/s   {median / alone:5.2f} × training alone")


if __name__ == "__main__":
    main()
