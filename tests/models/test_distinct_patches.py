import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from relstab_jax import models
from relstab_jax.data import scale_detection as task
from relstab_jax.models import patches, simple_cnn


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(
    ("filter_size", "strides"), [(3, (1, 1, 1)), (2, (2, 2, 2)), (2, (2, 1, 1)), (5, (1, 1))]
)
def test_distinct_patches_compute_the_network_with_its_filters_shrunk(filter_size, strides):
    """Against the network on whole images, whose filters are multiplied beforehand."""
    strided = sum(s > 1 for s in strides)
    model = models.create(
        "SimpleCNN", num_classes=1, image_size=16, channels=1, width=6, depth=len(strides),
        filter_size=filter_size, stride=strides[0], strided_layers=strided or None, alpha=2.0,
    )  # fmt: skip
    variables = model.init(jax.random.key(0))
    positions = jnp.array([[0, 1], [3, 9], [15, 2], [3, 9], [5, 6]])
    images = task.images(positions, 16)
    found = jax.jit(functools.partial(simple_cnn.outputs, alpha=2.0))(
        variables,
        patches.distinct(np.asarray(images), filter_size, strides),
        jnp.array([1.0, 0.9]),
    )
    apply = jax.jit(model.apply)
    for outputs, decay in zip(found, (1.0, 0.9), strict=True):
        shrunk = simple_cnn.with_kernels_times(variables, jnp.asarray(decay))
        np.testing.assert_allclose(outputs, apply(shrunk, images), rtol=1e-10)
        np.testing.assert_allclose(
            apply(variables, images, jnp.asarray(decay)), outputs, rtol=1e-10
        )


def test_translations_and_shared_patches_are_computed_once():
    """Task 1 at the paper's size: 32 positions and 48 points come to few rows in every layer."""
    positions, _ = task.points(1, 32, 11, 4)
    images = np.asarray(task.images(jnp.asarray(positions), 32))
    made = patches.distinct(images, 3, (1,) * 12)
    assert len(made.pixels) == 2
    assert len(made.rows[0]) == 7  # background; one pixel at three taps; two pixels, three ways
    assert len({tuple(sorted(rows)) for rows in np.asarray(made.positions)}) == 12  # distances
    assert sum(len(rows) for rows in made.rows) < 12 * 12 * 32 / 3


@pytest.mark.slow
def test_seeds_with_fewer_patches_are_padded():
    images = [task.images(jnp.array(p), 8) for p in ([[0, 1], [2, 7]], [[0, 1], [0, 1]])]
    each = [patches.distinct(np.asarray(x), 2, (2, 2)) for x in images]
    both = patches.stacked(each)
    model = models.create(
        "SimpleCNN", num_classes=1, image_size=8, channels=1, width=4, depth=2, filter_size=2,
        stride=2,
    )  # fmt: skip
    variables = model.init(jax.random.key(0))
    for seed, x in enumerate(images):
        mine = jax.tree.map(lambda a, seed=seed: jnp.asarray(a[seed]), both)
        found = simple_cnn.outputs(variables, mine, jnp.ones(1))[0]
        np.testing.assert_allclose(found, model.apply(variables, x), rtol=1e-5)
