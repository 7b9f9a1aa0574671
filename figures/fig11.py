"""Fig. 11: as Fig. 3, R_k against relative depth, for other architectures.

python -m figures.fig11 runs/measure/results.json
"""

from functools import partial

from figures import fig03, style

RESULTS = (
    "cifar10-lenet-laptop.json",
    "scale_detection_2d-alexnet-laptop.json",
)
draw = partial(fig03.draw, name="fig11")

if __name__ == "__main__":
    style.main(__doc__, draw, RESULTS)
