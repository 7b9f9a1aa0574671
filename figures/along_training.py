"""D_f, G_f, R_f and the test error against epochs of a training.

python -m figures.along_training RESULTS...
"""

from figures import script
from relstab_jax import plots

RESULTS = ("task2-laptop-along.json", "cifar10-lenet-laptop-along.json")
draw = script.of_results(plots.along_training)

if __name__ == "__main__":
    script.main(__doc__, draw, RESULTS)
