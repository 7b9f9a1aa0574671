"""Fig. 1, left: diffeomorphisms of one image.

python -m figures.fig01_left photograph.png
"""

import os

from figures import script
from relstab_jax import plots
from relstab_jax.data import photographs
from relstab_jax.errors import InputError

RESULTS = ("astronaut.png",)
SIZE = 128  # pixels along each axis, to which the image is cut


def draw(*files: str | os.PathLike[str]) -> plots.Picture:
    """Deforms the image of a file."""
    if len(files) != 1:
        raise InputError(f"{len(files)} images are given, and this figure deforms one")
    image = photographs.fitted(photographs.read(files[0]), SIZE, channels=3)
    return plots.deformations(image)


if __name__ == "__main__":
    script.main(__doc__, draw, RESULTS)
