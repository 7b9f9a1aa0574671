"""Task 2 of Section 4: stride and filter size 2. Draws the bottom row of Fig. 7 and Table 2.

Without a preset this is the paper's setting (App. B.2); it takes about half an hour per seed on two
cores. Fields that are not set here are as in task1.py. Trained networks show D ~ A_k^-1 (Eq. 8) and
G ~ A_k (Eq. 9), with A_k = 2^k, up to the layer whose receptive field reaches xi.

    python -m relstab_jax.main --config=configs/task2.py:laptop
"""

from ml_collections import ConfigDict

from relstab_jax.config import sibling, with_presets

task1 = sibling(__file__, "task1.py")

PRESETS = {
    # The time in which the ridge makes filters homogeneous is inversely proportional to it: at
    # twice the paper's ridge, 1400 epochs are enough. At ridge 0.1 the outputs collapse to zero.
    "laptop": {"seeds": (0, 1, 2, 3), "width": 64, "ridge": 0.02, "max_epochs": 1400},
    "smoke": {"seeds": (0, 1), "width": 16, "max_epochs": 40, "copies": 1},
}


def get_config(words: str = "") -> ConfigDict:
    """Returns the configuration; `words` names presets: laptop or smoke."""
    config = task1.get_config()
    config.task = 2
    config.size = 128  # L
    config.xi = 32
    config.gap = 0
    config.train_points = 1024  # P

    config.depth = 7
    config.filter_size = 2  # F
    config.stride = 2

    config.seeds = tuple(range(10))
    config.copies = 2
    config.measure_batch_size = 32
    return with_presets(config, words, PRESETS)
