"""Fig. 7: D_k and G_k of simple CNNs against the receptive field A_k.

python -m figures.fig07 RESULTS...
"""

from figures import script
from relstab_jax import plots

RESULTS = ("task1-laptop.json", "task2-laptop.json")
draw = script.of_results(plots.receptive_field)

if __name__ == "__main__":
    script.main(__doc__, draw, RESULTS)
