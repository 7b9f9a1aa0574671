"""Fig. 4: spectra of the filters of VGG11bn.

python -m figures.fig04 RESULTS...
"""

from figures import script
from relstab_jax import plots

RESULTS = (
    "cifar10-vgg11.json",
    "cifar10-vgg11bn.json",
    "scale_detection_2d-vgg11bn-laptop.json",
)
draw = script.of_results(plots.spectra)

if __name__ == "__main__":
    script.main(__doc__, draw, RESULTS)
