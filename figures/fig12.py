"""Fig. 12: the spatial frequency content of filters.

python -m figures.fig12 RESULTS...
"""

from figures import script
from relstab_jax import plots

RESULTS = (
    "cifar10-vgg11bn.json",
    "cifar10-lenet.json",
    "measure-vgg16.json",
    "scale_detection_2d-vgg11bn-laptop.json",
    "scale_detection_2d-alexnet-laptop.json",
)
draw = script.of_results(plots.frequency_content)

if __name__ == "__main__":
    script.main(__doc__, draw, RESULTS)
