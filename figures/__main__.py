"""Draws all figures anew from the results that come with the repository.

python -m figures
"""

import importlib

from figures import script
from relstab_jax import plots

SCRIPTS = (
    *("fig01_left", "fig01_centre", "fig01_centre_right", "fig02", "fig03", "fig04", "fig05"),
    *("fig06", "fig07", "fig08", "fig09", "fig10", "fig11", "fig12", "fig13", "fig14"),
    *("parts", "along_training"),
)

if __name__ == "__main__":
    for name in SCRIPTS:
        module = importlib.import_module(f"figures.{name}")
        figure = module.draw(*(script.RESULTS / file for file in module.RESULTS))
        print(plots.save(figure, script.OUTPUT / f"{name}.png"))
