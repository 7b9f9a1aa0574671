"""Footnote 1: D_k and R_k of the translation, rotation, stretching and shear in diffeomorphisms.

python -m figures.parts RESULTS...
"""

from figures import script
from relstab_jax import plots
from relstab_jax.measures.diffeomorphism import PARTS

RESULTS = tuple(f"parts-alexnet-{name}.json" for name in ("whole", *PARTS, "whole-delta-1"))
draw = script.of_results(plots.parts)

if __name__ == "__main__":
    script.main(__doc__, draw, RESULTS)
