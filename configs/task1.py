"""Task 1 of Section 4: stride 1, filter size 3. Draws the top row of Fig. 7 and Table 1.

Without a preset this is the paper's setting (App. B.2); it takes about half an hour per seed on two
cores. Trained networks show D ~ A_k^-2 (Eq. 5) and G ~ A_k (Eq. 7), with A_k = sqrt(k).

    python -m relstab_jax.main --config=configs/task1.py:laptop
"""

from ml_collections import ConfigDict, config_dict

from relstab_jax.config import with_presets

PRESETS = {
    # The time in which the ridge makes filters homogeneous is inversely proportional to it: at 20
    # times the paper's ridge, 40 interpolation epochs (1600 to 2400 epochs) are enough. At this
    # ridge the hinge loss is not zero at every look; training stops at one at which it is.
    # Narrower networks follow the scaling laws over fewer layers.
    "laptop": {"width": 96, "ridge": 0.2, "patience": 40, "max_epochs": 4000},
    "smoke": {"seeds": (0, 1), "width": 16, "max_epochs": 200, "copies": 4},
}


def get_config(words: str = "") -> ConfigDict:
    """Returns the configuration; `words` names presets: laptop or smoke."""
    config = ConfigDict()
    config.experiment = "scale_detection"

    config.task = 1
    config.size = 32  # L
    config.xi = 11
    config.gap = 4
    config.train_points = 48  # P
    config.validation_points = 128

    config.width = 1000  # H
    config.depth = 12
    config.filter_size = 3  # F
    config.stride = 1
    # Only so many of the first layers have the stride, the others stride 1. None: all have it.
    config.strided_layers = config_dict.placeholder(int)
    config.alpha = 1.0

    config.seed = 0  # root of all random numbers, from which those of `seeds` are derived
    config.seeds = tuple(range(4))
    config.learning_rate = 0.01  # times H
    config.batch_size = 8
    config.ridge = 0.01
    # Compute only the steps that may learn; the result is the same as with all steps (False).
    config.look_ahead = True
    config.look_every = 10  # epochs between evaluations ("looks")
    config.patience = 500  # training stops at this multiple of the interpolation epoch
    config.max_epochs = 600_000
    # Of matrix products in training. Look ahead computes more steps at a lower precision.
    config.precision = "float32"

    config.copies = 32  # deformations and noises per test point
    config.rectified_noise = True
    # Pixels that a deformation moves over the border reappear on the other side ("wrap") or stay
    # at the border ("clamp", as in the authors' program).
    config.boundary = "wrap"
    config.measure_batch_size = 16
    config.checkpoint_minutes = 5.0
    config.measure_at = ()  # epochs whose networks are kept and measured too, such as 0,10,100
    return with_presets(config, words, PRESETS)
