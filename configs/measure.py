"""Measures D, G, R and the filter spectra of any network on any images. Figs. 3, 4, 9, 11-14.

    python -m relstab_jax.main --config=configs/measure.py --config.network=vgg16 \
        --config.weights=hf:timm/vgg16.tv_in1k --config.images=photographs/

Without weights it measures the network at initialisation.
"""

from ml_collections import ConfigDict, config_dict

from relstab_jax.config import with_presets

PRESETS = {"smoke": {"measure_points": 8, "measure_batch_size": 8, "shuffles": 2}}


def get_config(words: str = "") -> ConfigDict:
    """Returns the configuration; `words` may name the preset smoke."""
    config = ConfigDict()
    config.experiment = "measure"

    config.network = "VGG11"  # lower-case names are torchvision's networks, for ImageNet
    # A .safetensors or .pth file, hf:<owner>/<repository>, the folder of a run of this program, or
    # an Orbax checkpoint. Empty: none.
    config.weights = ""
    config.image_size = config_dict.placeholder(int)  # None: 32, or 224 for torchvision's networks
    config.channels = 3
    # None: that of the weights; without weights 10, or 1000 for torchvision's networks.
    config.num_classes = config_dict.placeholder(int)

    config.images = "cifar10"  # a folder of image files, an .npz file or a TFDS data set
    config.measure_points = 500  # P, the number of images, evenly spaced among all
    config.split = "test"  # of a TFDS data set
    config.data_dir = config_dict.placeholder(str)  # folder of TFDS; None: TFDS's default
    # Of pixels: cifar10, imagenet or none. None (not given): imagenet for torchvision's networks,
    # else cifar10.
    config.normalisation = config_dict.placeholder(str)

    config.delta = 1.0  # typical displacement, in pixels
    config.cut = 3  # c, the cut-off of the diffeomorphisms
    config.interpolation = "linear"
    # Of the displacement field: whole, translation, rotation, stretching, shear or remainder.
    config.part = "whole"
    config.copies = 1  # diffeomorphisms and noises per image
    config.shuffles = 5  # channel permutations over which shuffled networks are averaged
    # Of batch-norm in the random network. None: running ones, 0 and 1; "batch": those of images.
    config.init_statistics = config_dict.placeholder(str)
    config.seed = 0  # root of all random numbers
    config.seeds = (0,)  # of networks at initialisation, if there are no weights
    # Images at a time; None: as memory allows.
    config.measure_batch_size = config_dict.placeholder(int)
    return with_presets(config, words, PRESETS)
