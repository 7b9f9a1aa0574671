"""Fig. 1, centre and right: errors on CIFAR-10 against R, and correlations at each noise.

python -m figures.fig01_centre_right RESULTS...
"""

from figures import script
from relstab_jax import plots

RESULTS = ("fig10-laptop.json",)
draw = script.of_results(plots.correlations)

if __name__ == "__main__":
    script.main(__doc__, draw, RESULTS)
