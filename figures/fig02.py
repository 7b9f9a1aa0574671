"""Fig. 2: spatial and channel pooling, computed on small examples.

python -m figures.fig02
"""

from figures import script
from relstab_jax import plots

RESULTS = ()
draw = plots.pooling

if __name__ == "__main__":
    script.main(__doc__, draw, RESULTS)
