"""Fig. 7: D_k and G_k of simple CNNs against the receptive field A_k.

python -m figures.fig07                                    # at the size of the paper
python -m figures.fig07 figures/results/task?-laptop.json  # on a laptop, within minutes
"""

from figures import script
from relstab_jax import plots

RESULTS = ("task1.json", "task2.json")
draw = script.of_results(plots.receptive_field)

if __name__ == "__main__":
    script.main(__doc__, draw, RESULTS)
