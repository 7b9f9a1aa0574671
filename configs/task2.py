"""Task 2 of Section 4: stride and filter size 2. Draws the bottom row of Fig. 7 and Table 2.

Without a preset: the paper's setting (App. B.2), for an accelerator. Trained networks show
D ~ A_k^-1 (Eq. 8) and G ~ A_k (Eq. 9), with A_k = 2^k, up to the layer whose patch reaches xi.

    python -m relstab_jax.main --config=configs/task2.py:laptop
"""

from ml_collections import ConfigDict, config_dict

from relstab_jax.config import with_presets

PRESETS = {
    # The ridge drives the filters to homogeneity in a time inversely proportional to it: twice
    # the paper's does it in 1400 epochs. Much more of it, 0.1, lets outputs collapse to zero.
    "laptop": {"seeds": (0, 1, 2, 3), "width": 64, "ridge": 0.02, "max_epochs": 1400},
    "smoke": {"seeds": (0, 1), "width": 16, "max_epochs": 40, "copies": 1},
}


def get_config(words: str = "") -> ConfigDict:
    """Returns the configuration; `words` names presets: laptop or smoke."""
    config = ConfigDict()
    config.experiment = "scale_detection"
    config.figure = "fig07"

    config.task = 2
    config.size = 128  # L
    config.xi = 32
    config.gap = 0
    config.train_points = 1024  # P
    config.validation_points = 128

    config.width = 1000  # H
    config.depth = 7
    config.filter_size = 2  # F
    config.stride = 2
    config.strided_layers = config_dict.placeholder(int)  # of the first layers; all if not given
    config.alpha = 1.0

    config.seed = 0  # root of all randomness; `seeds` are counted within it
    config.seeds = tuple(range(10))
    config.learning_rate = 0.01  # times H
    config.batch_size = 8
    config.ridge = 0.01
    config.look_every = 10  # epochs
    config.patience = 500  # training goes on to this multiple of the interpolation epoch
    config.max_epochs = 600_000
    config.precision = "tensorfloat32"  # of training; a CPU computes in float32 anyway

    config.copies = 2  # deformations and noises of each test point
    config.rectified_noise = True
    config.boundary = "wrap"  # of Task 1 deformations; "clamp" as in the authors' program
    config.measure_batch_size = 32
    config.checkpoint_minutes = 5.0
    return with_presets(config, words, PRESETS)
