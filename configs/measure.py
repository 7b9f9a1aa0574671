"""D, G, R and filter spectra of any network on any images. Draws Figs. 3, 4, 9 and 12 of them.

    python -m relstab_jax.main --config=configs/measure.py --config.network=vgg16 \
        --config.weights=hf:timm/vgg16.tv_in1k --config.images=photographs/

Without weights a network at initialisation is measured.
"""

from ml_collections import ConfigDict, config_dict

from relstab_jax.config import with_presets

PRESETS = {"smoke": {"measure_points": 8, "measure_batch_size": 8, "shuffles": 2}}


def get_config(words: str = "") -> ConfigDict:
    """Returns the configuration; `words` may name a preset: smoke."""
    config = ConfigDict()
    config.experiment = "measure"

    config.network = "VGG11"  # lower-case names are torchvision's forms, for ImageNet
    # A .safetensors or .pth file, hf:<owner>/<repository>, the folder of a run of this program, or
    # an Orbax checkpoint.
    config.weights = ""
    config.image_size = config_dict.placeholder(int)  # 32; 224 for torchvision's forms
    config.channels = 3
    config.num_classes = config_dict.placeholder(int)  # what the weights say; else 10, or 1000

    config.images = "cifar10"  # a folder of image files, an .npz file or a TFDS set
    config.measure_points = 500  # P, evenly spaced among them
    config.split = "test"  # of a TFDS set
    config.data_dir = config_dict.placeholder(str)  # of TFDS
    # Of the pixels: cifar10, imagenet or none; if not given, as the form of the network asks.
    config.normalisation = config_dict.placeholder(str)

    config.delta = 1.0  # typical displacement, in pixels
    config.cut = 3  # c, cut-off of the diffeomorphisms
    config.interpolation = "linear"
    config.copies = 1  # diffeomorphisms and noises for each image
    config.shuffles = 5  # permutations of channels, whose mean is the shuffled network
    config.seed = 0  # root of all randomness
    config.seeds = (0,)  # networks at initialisation, where there are no weights
    config.measure_batch_size = config_dict.placeholder(
        int
    )  # images at a time; if not given, by memory
    return with_presets(config, words, PRESETS)
