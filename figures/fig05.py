"""Fig. 5: inputs of the scale-detection tasks.

python -m figures.fig05
"""

from figures import script
from relstab_jax import plots

RESULTS = ()
draw = plots.tasks

if __name__ == "__main__":
    script.main(__doc__, draw, RESULTS)
