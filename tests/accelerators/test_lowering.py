"""What would be compiled for GPUs and TPUs, without either."""

import functools
import re

import jax
import pytest

from tests.accelerators import programs


@functools.cache
def made():
    devices = jax.devices()[:2]
    sweep = programs.sweep(devices, width=8, train_points=64, validation_points=16)
    return {f"sweep {name}": program for name, program in sweep.items()} | {
        "LeNet training": programs.training(devices, "LeNet", 8),
        "LeNet measurement": programs.measurement(devices, "LeNet", 4),
    }


@pytest.mark.parametrize("platform", ["tpu", pytest.param("cuda", marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    ("name", "convolutions", "collectives"),
    [
        ("sweep start", 0, set()),
        ("sweep advance", 0, set()),
        ("sweep look", 0, set()),
        ("sweep variables", 0, set()),
        # Forward and backward, but for the gradient with respect to the images.
        ("LeNet training", 5, {"all_reduce"}),
        # Of images and of their copies, for the features and for the outputs.
        ("LeNet measurement", 8, {"all_reduce"}),
    ],
)
def test_programs_lower_as_they_should(name, convolutions, collectives, platform):
    text = made()[name].export(platform)
    assert "f64" not in text
    assert text.count("stablehlo.convolution") == convolutions
    found = re.findall(r"stablehlo\.(all_\w+|collective_\w+|reduce_scatter)", text)
    assert set(found) == collectives


@pytest.mark.parametrize(("platform", "windows"), [("tpu", 2), ("cuda", 0)])
def test_a_tpu_alone_takes_maxima_over_windows(platform, windows):
    text = made()["LeNet training"].export(platform)
    assert text.count("stablehlo.select_and_scatter") == windows


@pytest.mark.parametrize(("platform", "pixel_by_pixel"), [("tpu", False), ("cuda", True)])
def test_a_tpu_alone_warps_small_images_by_products(platform, pixel_by_pixel):
    text = made()["LeNet measurement"].export(platform)
    assert ("stablehlo.gather" in text) == pixel_by_pixel


def test_no_gradient_of_a_sweep_depends_on_the_order_of_a_scatter():
    assert "stablehlo.scatter" not in made()["sweep advance"].export("cuda")
