"""Fig. 3: R_k against relative depth, with channels as they are and shuffled.

python -m figures.fig03 RESULTS...
"""

from figures import script
from relstab_jax import plots

RESULTS = ("cifar10-vgg11bn.json", "measure-vgg16.json", "measure-resnet20.json")
draw = script.of_results(plots.depth)

if __name__ == "__main__":
    script.main(__doc__, draw, RESULTS)
