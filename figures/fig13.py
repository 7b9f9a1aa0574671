"""Fig. 13: as Fig. 4, spectra of the filters, for a deep VGG trained on ImageNet.

python -m figures.fig13 runs/measure/results.json
"""

from functools import partial

from figures import fig04, style

RESULTS = ("measure-vgg16.json",)
draw = partial(fig04.draw, name="fig13")

if __name__ == "__main__":
    style.main(__doc__, draw, RESULTS)
