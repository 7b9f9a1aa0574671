"""Fig. 14: as Fig. 4, for AlexNet.

python -m figures.fig14 RESULTS...
"""

from figures import script
from relstab_jax import plots

RESULTS = (
    "cifar10-alexnet.json",
    "measure-alexnet.json",
    "scale_detection_2d-alexnet-laptop.json",
)
draw = script.of_results(plots.spectra)

if __name__ == "__main__":
    script.main(__doc__, draw, RESULTS)
