"""Fig. 11: as Fig. 3, for other architectures.

python -m figures.fig11 RESULTS...
"""

from figures import script
from relstab_jax import plots

RESULTS = (
    "cifar10-lenet.json",
    "measure-resnet56.json",
    "measure-alexnet.json",
    "measure-resnet50.json",
    "scale_detection_2d-alexnet-laptop.json",
)
draw = script.of_results(plots.depth)

if __name__ == "__main__":
    script.main(__doc__, draw, RESULTS)
