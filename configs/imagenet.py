"""ImageNet, streamed from its files: trains torchvision's networks.

The paper measures torchvision's published weights (App. B.1); configs/measure.py does so. Without a
preset this is torchvision's recipe, with a cosine schedule instead of steps. Fields that are not
set here are as in cifar10.py. The words after the colon name a network and presets, in any order.

    python -m relstab_jax.main --config=configs/imagenet.py:resnet18 --config.data_dir=FOLDER
"""

from ml_collections import ConfigDict

from relstab_jax.config import sibling, with_presets

cifar10 = sibling(__file__, "cifar10.py")

# Networks without batch normalisation need a lower learning rate.
PLAIN = ("vgg11", "vgg13", "vgg16", "vgg19", "alexnet")
NORMALISED = ("vgg11_bn", "vgg13_bn", "vgg16_bn", "vgg19_bn", "resnet18", "resnet34", "resnet50")
NETWORKS = {name: {"network": name, "learning_rate": 0.01} for name in PLAIN}
NETWORKS |= {name: {"network": name} for name in NORMALISED}

PRESETS = {
    "laptop": {
        "epochs": 2,
        "batch_size": 32,
        "train_points": 8192,
        "validation_points": 512,
        "test_points": 512,
        "measure_points": 32,
        "measure_batch_size": 8,
        "evaluation_batch_size": 64,
        "checkpoint_minutes": 2.0,
    },
    "smoke": {
        "epochs": 2,
        "batch_size": 8,
        "train_points": 24,
        "validation_points": 6,
        "test_points": 12,
        "measure_points": 4,
        "shuffles": 2,
        "measure_batch_size": 2,
        "evaluation_batch_size": 8,
    },
}


def get_config(words: str = "") -> ConfigDict:
    """Returns the configuration; `words` names a network and presets: laptop or smoke."""
    config = cifar10.get_config()
    config.data = "imagenet2012"
    config.validation_points = 50_000

    config.network = "resnet18"
    config.seeds = (0,)
    config.epochs = 90
    config.batch_size = 256
    config.weight_decay = 1e-4
    config.annealing = 1.0
    config.evaluation_batch_size = 256
    return with_presets(config, words, NETWORKS | PRESETS)
