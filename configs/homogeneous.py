"""Exact theory of Section 4: sensitivities, receptive fields and Proposition A.1, in seconds.

Prints D, G and R of every layer of the homogeneous networks of both tasks, compares them with the
scaling laws of Eqs. 5, 7, 8 and 9, and draws Fig. 6. Nothing is trained.

    python -m relstab_jax.main --config=configs/homogeneous.py
"""

from ml_collections import ConfigDict

from relstab_jax.config import with_presets


def get_config(words: str = "") -> ConfigDict:
    """Returns the configuration; there are no presets."""
    config = ConfigDict()
    config.experiment = "homogeneous"

    config.task1 = ConfigDict()  # as in configs/task1.py
    config.task1.size = 32  # L
    config.task1.xi = 11
    config.task1.gap = 4
    config.task1.filter_size = 3  # F
    config.task1.stride = 1
    config.task1.depth = 12
    # Pixels that a deformation moves over the border reappear on the other side ("wrap") or stay
    # at the border ("clamp", as in the authors' program).
    config.task1.boundary = "wrap"

    config.task2 = ConfigDict()  # as in configs/task2.py
    config.task2.size = 128
    config.task2.xi = 32
    config.task2.gap = 0
    config.task2.filter_size = 2
    config.task2.stride = 2
    config.task2.depth = 7

    # G for noise that only the network rectifies, by standard deviation and by the first layer's
    # bias. Active pixels are √(L/2): 4 in Task 1 and 8 in Task 2. Noise as large as a deformation
    # has a standard deviation of about √2.
    config.sigmas = (0.1, 0.5, 1.4, 4.0)
    config.biases = (-1.0, -0.5, 0.0, 0.5, 1.0, 2.0, 4.0)

    config.walk = ConfigDict()  # Proposition A.1
    config.walk.filter_sizes = (2, 3, 4, 5, 6, 7, 8, 9)
    config.walk.depth = 64

    config.stride_1 = ConfigDict()  # Fig. 6, left
    config.stride_1.size = 64
    config.stride_1.filter_size = 5
    config.stride_1.stride = 1
    config.stride_1.depth = 6
    config.stride_1.active = (24, 40)

    config.stride_F = ConfigDict()  # Fig. 6, right
    config.stride_F.size = 16
    config.stride_F.filter_size = 2
    config.stride_F.stride = 2
    config.stride_F.depth = 3
    config.stride_F.active = (2, 5)
    return with_presets(config, words, {})
