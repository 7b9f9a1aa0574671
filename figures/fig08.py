"""Fig. 8: test errors against D, G and R, on the two-dimensional task.

python -m figures.fig08 RESULTS...
"""

from figures import script
from relstab_jax import plots

RESULTS = ("fig08-laptop.json",)
draw = script.of_results(plots.errors)

if __name__ == "__main__":
    script.main(__doc__, draw, RESULTS)
