"""Fig. 10: test errors against D, G and R, on noisy CIFAR-10.

python -m figures.fig10 RESULTS...
"""

from figures import script
from relstab_jax import plots

RESULTS = ("fig10-laptop.json",)
draw = script.of_results(plots.errors)

if __name__ == "__main__":
    script.main(__doc__, draw, RESULTS)
