"""Fig. 13: as Fig. 4, for a deep VGG trained on ImageNet.

python -m figures.fig13 RESULTS...
"""

from figures import script
from relstab_jax import plots

RESULTS = ("measure-vgg16.json",)
draw = script.of_results(plots.spectra)

if __name__ == "__main__":
    script.main(__doc__, draw, RESULTS)
