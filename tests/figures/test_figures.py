"""Every figure draws from what is committed, and shows the numbers it claims to show."""

import json
import pathlib

import numpy as np
import pytest
from matplotlib import pyplot as plt

from figures import fig02, fig05, fig06, fig07, style

RESULTS = pathlib.Path(style.__file__).parent / "results"
TASKS = [RESULTS / "task1-laptop.json", RESULTS / "task2-laptop.json"]


@pytest.mark.parametrize(
    "draw",
    [
        fig02.draw,
        fig05.draw,
        lambda folder: fig06.draw([RESULTS / "homogeneous.json"], folder),
        lambda folder: fig07.draw(TASKS, folder),
        lambda folder: fig07.draw(TASKS[:1], folder),
    ],
    ids=["fig02", "fig05", "fig06", "fig07", "fig07 of one task"],
)
def test_figures_are_written_at_the_width_of_the_text(draw, tmp_path):
    path = draw(tmp_path)
    image = plt.imread(path)
    assert abs(image.shape[1] - 200 * style.WIDTH) <= 2
    assert 0.02 < (image[..., :3].min(axis=-1) < 0.9).mean() < 0.9  # neither blank nor black
    assert path.with_suffix(".pdf").read_bytes().startswith(b"%PDF")


def test_fig07_shows_the_means_over_seeds(monkeypatch, tmp_path):
    drawn = []
    monkeypatch.setattr(style, "write", lambda figure, *_: drawn.append(figure))
    fig07.draw(TASKS, tmp_path)
    panels = iter(drawn[0].axes)
    for path in TASKS:
        variables = json.loads(path.read_text())["data_vars"]
        for name in "DG":
            lines = {line.get_label(): line for line in next(panels).lines}
            assert variables[name]["dims"] == ["state", "channels", "seed", "layer"]
            values = np.array(variables[name]["data"], float)
            for label, of in (
                ("at initialisation", values[0, 0]),
                ("trained", values[1, 0]),
                ("trained, mean channel", values[1, 1]),
            ):
                np.testing.assert_allclose(lines[label].get_ydata(), of.mean(axis=0))
            exact = np.mean(np.array(variables[f"exact_{name}"]["data"], float), axis=0)
            shown = lines["exact, nothing fitted"].get_ydata()
            np.testing.assert_allclose(shown[exact > 0], exact[exact > 0])
    plt.close(drawn[0])
