"""Fig. 14: as Fig. 4, spectra of the filters, for AlexNet.

python -m figures.fig14 runs/measure/results.json
"""

from functools import partial

from figures import fig04, style

RESULTS = ("scale_detection_2d-alexnet-laptop.json",)
draw = partial(fig04.draw, name="fig14")

if __name__ == "__main__":
    style.main(__doc__, draw, RESULTS)
