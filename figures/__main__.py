"""Draws all figures anew from the results that come with the repository.

python -m figures
"""

import importlib

from figures import style

SCRIPTS = (
    *("fig01_left", "fig01_centre_right", "fig02", "fig03", "fig04", "fig05", "fig06", "fig07"),
    *("fig08", "fig09", "fig10", "fig11", "fig12", "fig13", "fig14"),
)

if __name__ == "__main__":
    for name in SCRIPTS:
        script = importlib.import_module(f"figures.{name}")
        print(script.draw([style.RESULTS / file for file in script.RESULTS], style.OUTPUT))
