"""Fig. 1, centre: errors on CIFAR-10 of many trained networks against their D, G and R.

python -m figures.fig01_centre RESULTS...
"""

from figures import script
from relstab_jax import gathering, plots, results

PUBLISHED = ("resnet20", "resnet32", "resnet44", "resnet56", "lenet-captum")
TRAINED = (
    *("densenetl2", "densenetl4", "densenetl6", "lenet", "alexnet", "vgg11", "vgg11bn"),
    "resnet18",
)
RESULTS = tuple(f"cifar10-{name}.json" for name in (*PUBLISHED, *TRAINED))


def draw(*files: str) -> plots.Picture:
    """Draws the networks of results files, of which some are measured and others trained here."""
    return plots.errors(gathering.gather([results.load(file) for file in files]))


if __name__ == "__main__":
    script.main(__doc__, draw, RESULTS)
