"""The two-dimensional scale-detection task (Section 3, Fig. 8): are two pixels close or far apart?

Without a preset this is the paper's setting, which needs an accelerator. Fields that are not set
here are as in cifar10.py. The words after the colon name a network and presets, in any order.

    python -m relstab_jax.main --config=configs/scale_detection_2d.py:LeNet,laptop
"""

from ml_collections import ConfigDict

from relstab_jax.config import sibling, with_presets

cifar10 = sibling(__file__, "cifar10.py")

PRESETS = {
    "laptop": {"seeds": (0, 1), "epochs": 100, "test_points": 4096},
    "smoke": {
        "seeds": (0, 1),
        "epochs": 2,
        "train_points": 256,
        "validation_points": 64,
        "test_points": 64,
        "measure_points": 32,
        "shuffles": 2,
    },
}
DENSE = {
    name: {"network": name, "optimizer": "adam", "annealing": 0.0, "seeds_at_once": 16}
    for name in cifar10.DENSE
}


def get_config(words: str = "") -> ConfigDict:
    """Returns the configuration; `words` names a network and presets: laptop or smoke."""
    config = cifar10.get_config()
    config.data = "scale_detection_2d"
    config.size = 28  # d
    config.xi = 14
    config.gap = 2
    config.rule = "L2"  # the label depends on the distance, "L2" or "Linf", or on the "quadrant"
    config.periodic = False
    config.train_points = 1024  # P
    config.validation_points = 1024
    config.test_points = 8192
    config.augment = False

    config.seeds = tuple(range(10))
    config.epochs = 300
    config.learning_rate = 0.05

    config.moves = "unit_vector"  # of active pixels in a deformation; or "neighbours"
    config.copies = 4
    config.measure_batch_size = 25
    return with_presets(config, words, cifar10.NETWORKS | DENSE | PRESETS)
