"""Fig. 9: D_k, G_k and R_k against relative depth.

python -m figures.fig09 RESULTS...
"""

from figures import script
from relstab_jax import plots

RESULTS = (
    "scale_detection_2d-vgg11bn-laptop.json",
    "scale_detection_2d-vgg13bn-laptop.json",
    "scale_detection_2d-vgg16bn-laptop.json",
)
draw = script.of_results(plots.sensitivities)

if __name__ == "__main__":
    script.main(__doc__, draw, RESULTS)
