"""CIFAR-10 (App. B.1): trains a network to classify photographs. Fig. 1 centre.

Without a preset this is the paper's setting, which needs an accelerator. The words after the colon
name a network and presets, in any order.

    python -m relstab_jax.main --config=configs/cifar10.py:LeNet,laptop --config.data_dir=FOLDER
"""

from ml_collections import ConfigDict, config_dict

from relstab_jax.config import with_presets

CONVOLUTIONAL = (
    *("VGG11", "VGG11bn", "VGG13", "VGG13bn", "VGG16", "VGG16bn", "VGG19", "VGG19bn"),
    *("AlexNet", "LeNet", "ResNet18", "ResNet34", "ResNet50", "EfficientNetB0"),
)
DENSE = ("DenseNetL2", "DenseNetL4", "DenseNetL6")
SMALL = ("LeNet", *DENSE)  # small enough to train several seeds side by side

NETWORKS = {name: {"network": name} for name in CONVOLUTIONAL}
NETWORKS |= {
    name: {"network": name, "optimizer": "adam", "annealing": 0.0, "seeds": tuple(range(11))}
    for name in DENSE
}
NETWORKS |= {name: NETWORKS[name] | {"seeds_at_once": 16} for name in SMALL}

PRESETS = {
    "laptop": {
        "seeds": (0,),
        "epochs": 12,
        "learning_rate": 0.02,
        "annealing": 1.0,
        "checkpoint_minutes": 2.0,
    },
    "smoke": {
        "seeds": (0,),
        "epochs": 2,
        "learning_rate": 0.01,
        "train_points": 512,
        "validation_points": 128,
        "test_points": 128,
        "measure_points": 32,
        "shuffles": 2,
    },
}


def get_config(words: str = "") -> ConfigDict:
    """Returns the configuration; `words` names a network and presets: laptop or smoke."""
    config = ConfigDict()
    config.experiment = "train_images"

    config.data = "cifar10"
    config.data_dir = config_dict.placeholder(str)  # folder of TFDS; None: TFDS's default
    config.train_points = config_dict.placeholder(int)  # None: all but the validation points
    config.validation_points = 5000  # taken from the training images
    config.test_points = config_dict.placeholder(int)  # None: all
    config.noise = 0.0  # η, the norm of the noise added to an image whenever it is used
    config.augment = True  # random crops and flips
    # "test" selects the best epoch by the test error, as the authors did, and trains on all
    # training images.
    config.selection = "validation"

    config.network = "VGG11"
    config.seed = 0  # root of all random numbers, from which those of `seeds` are derived
    config.seeds = tuple(range(4))
    config.seeds_at_once = 1  # number of seeds in one compiled step
    config.epochs = 250
    config.batch_size = 128
    config.micro_batches = 1  # parts of a batch computed one after the other, to save memory
    config.optimizer = "sgd"
    config.learning_rate = 0.1
    config.momentum = 0.9
    config.weight_decay = 5e-4
    # Half period of the cosine schedule, as a fraction of the epochs. Below 1 the learning rate
    # rises again at the end. 0: constant learning rate.
    config.annealing = 0.8
    # Of matrix products in training: one pass of a TPU, TF32 on GPUs. CPUs always use float32.
    config.precision = "bfloat16"
    config.evaluation_batch_size = 1000
    config.checkpoint_minutes = 5.0
    config.measure_at = ()  # epochs whose networks are kept and measured too, such as 0,1,2,4

    config.delta = 1.0  # typical displacement of the deformations, in pixels
    config.cut = 3  # c, the cut-off of the deformations
    config.copies = 1  # deformations and noises per image
    config.measure_points = 500
    config.measure_batch_size = 50
    config.shuffles = 5  # channel permutations over which shuffled networks are averaged
    # Of batch-norm before training. None: running ones, 0 and 1; "batch": those of images.
    config.init_statistics = config_dict.placeholder(str)
    return with_presets(config, words, NETWORKS | PRESETS)
