"""Noisy CIFAR-10 (Figs. 1 right, 10): cifar10.py with noise of norm η added to every image.

A run has one η; the paper's are 0, 0.01, 0.1, 1, 10, 30 and 100.

    python -m relstab_jax.main --config=configs/cifar10_noisy.py:LeNet,laptop --config.noise=10
"""

from ml_collections import ConfigDict

from relstab_jax.config import sibling

cifar10 = sibling(__file__, "cifar10.py")


def get_config(words: str = "") -> ConfigDict:
    """Returns the configuration; `words` names a network and presets: laptop or smoke."""
    config = cifar10.get_config(words)
    config.noise = 10.0  # η, the norm of the noise added to an image whenever it is used
    return config
