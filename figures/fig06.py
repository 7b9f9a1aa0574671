"""Fig. 6: representations of homogeneous networks.

python -m figures.fig06 RESULTS...
"""

from figures import script
from relstab_jax import plots

RESULTS = ("homogeneous.json",)
draw = script.of_results(plots.representation)

if __name__ == "__main__":
    script.main(__doc__, draw, RESULTS)
