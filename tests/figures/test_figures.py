"""Every figure draws from what is committed, and shows the numbers it claims to show."""

import importlib
import json
import pathlib

import numpy as np
import PIL.Image
import pytest
import xarray as xr
from matplotlib import pyplot as plt
from scipy.stats import spearmanr

from figures import fig01_centre_right, fig01_left, fig07, fig08, fig10, style, tables
from figures.__main__ import SCRIPTS
from relstab_jax import results

RESULTS = pathlib.Path(style.__file__).parent / "results"
TASKS = [RESULTS / "task1-laptop.json", RESULTS / "task2-laptop.json"]
VGG16 = RESULTS / "measure-vgg16.json"
LENET = "cifar10-lenet-laptop.json"


@pytest.mark.parametrize("name", SCRIPTS)
def test_every_panel_shows_finite_data(name, tmp_path, monkeypatch):
    write, drawn = style.write, []
    monkeypatch.setattr(
        style, "write", lambda figure, *a: drawn.append(figure) or write(figure, *a)
    )
    script = importlib.import_module(f"figures.{name}")
    path = script.draw([style.RESULTS / file for file in script.RESULTS], tmp_path)
    assert path == tmp_path / f"{name}.png"
    assert path.with_suffix(".pdf").exists()
    shown = [axes for axes in drawn[0].axes if axes.axison]
    assert shown or drawn[0].axes[0].has_data()
    for axes in shown:
        lines = [np.asarray(line.get_ydata(), float) for line in axes.lines]
        assert axes.has_data()
        assert not lines or any(np.isfinite(y).any() for y in lines)


def test_all_scripts_are_drawn():
    folder = pathlib.Path(style.__file__).parent
    assert sorted(SCRIPTS) == sorted(path.stem for path in folder.glob("fig*.py"))


def test_figures_say_where_a_run_was_reduced():
    task2, lenet = (results.load(style.RESULTS / f) for f in ("task2-laptop.json", LENET))
    assert style.reduced([task2, lenet]) == (
        "Reduced (paper): Task 2: width 64 (1000), ridge 0.02 (0.01), max epochs 1400 (600000), "
        "seeds 4 (10); LeNet on cifar10: epochs 12 (250), learning rate 0.02 (0.1), annealing 1.0 "
        "(0.8), seeds 1 (4)."
    )
    assert style.reduced([results.load(VGG16)]) == ""


def test_tables_have_the_papers_numbers_and_ours():
    rows = tables.table(2, "task2-laptop.json").splitlines()
    assert len(rows) == 2 + 7
    trained = np.array(results.load(TASKS[1]).mean_filter.sel(state="trained").mean("seed"))
    ours, paper = (f"{a:.4f}, {b:.4f}" for a, b in (trained[0], (0.3828, 0.3737)))
    assert f"{ours} | {paper}" in rows[2]
    np.testing.assert_allclose(tables.inhomogeneity(np.array([1.0, 3.0])), 0.5)


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


@pytest.fixture
def gathered(tmp_path):
    """Made up: errors that go with D and against G, at two levels of noise."""
    random = np.random.default_rng(0)
    noise = np.repeat([0.0, 10.0], 12)
    log_error = random.normal(size=24)
    sensitivities = {
        name: np.exp(sign * log_error + 0.3 * random.normal(size=24))
        for name, sign in (("D", 1), ("G", -1), ("R", 2))
    }
    error = np.exp(log_error - 4)
    error[error.argmin()] = 0
    dataset = xr.Dataset(
        {name: (("state", "member"), [x + 1, x]) for name, x in sensitivities.items()}
        | {"test_error": ("member", error), "test_points": ("member", np.full(24, 1000))},
        coords={
            "state": ["init", "trained"],
            "network": ("member", np.tile(np.repeat(["VGG11", "LeNet", "AlexNet"], 4), 2)),
            "noise": ("member", noise),
            "seed": ("member", np.tile(np.arange(4), 6)),
        },
        attrs={"runs": []},
    )
    return results.save(dataset, tmp_path)


@pytest.mark.parametrize(("draw", "panels"), [(fig08.draw, 3), (fig10.draw, 6)])
def test_errors_against_sensitivities(gathered, draw, panels, monkeypatch, tmp_path):
    drawn = []
    monkeypatch.setattr(style, "write", lambda figure, *_: drawn.append(figure))
    draw([gathered], tmp_path)
    assert len(drawn[0].axes) == panels
    for axes, sign in zip(drawn[0].axes, [1, -1, 1] * 2, strict=False):
        x, y = (
            np.concatenate([getattr(line, f"get_{c}data")() for line in axes.lines]) for c in "xy"
        )
        rho = np.corrcoef(np.log(x), np.log(y))[0, 1]
        assert sign * rho > 0.8
        assert f"= {rho:.2f} [" in axes.get_title()
        assert y.min() >= 0.5 / 1000  # an error of zero has its place
    plt.close(drawn[0])


def test_a_network_keeps_its_looks_at_every_noise(gathered, monkeypatch, tmp_path):
    drawn, whole = [], results.load(gathered)
    monkeypatch.setattr(style, "write", lambda figure, *_: drawn.append(figure))
    kept = (whole.network != "VGG11") | (whole.noise == 0)
    fig10.draw([results.save(whole.isel(member=kept.values), tmp_path)], tmp_path)
    first, last = (
        {
            line.get_label(): (line.get_color(), line.get_marker())
            for line in axes.lines
            if line.get_xdata().size
        }
        for axes in (drawn[0].axes[0], drawn[0].axes[3])
    )
    assert first.keys() == {"VGG11", "LeNet", "AlexNet"}
    assert last == {name: first[name] for name in ("LeNet", "AlexNet")}
    plt.close(drawn[0])


def test_fig01_shows_the_correlations_at_each_noise(gathered, monkeypatch, tmp_path):
    drawn = []
    monkeypatch.setattr(style, "write", lambda figure, *_: drawn.append(figure))
    fig01_centre_right.draw([gathered], tmp_path)
    centre, right = drawn[0].axes
    assert sum(len(line.get_xdata()) for line in centre.lines) == 12
    by_name = dict(zip("DGR", (c.lines[0].get_ydata() for c in right.containers), strict=True))
    loaded = results.load(gathered).sel(state="trained")
    for n, (_, level) in enumerate(loaded.groupby("noise")):
        error = np.maximum(level.test_error, 0.0005)
        for name in "DGR":
            rho = np.corrcoef(np.log(error), np.log(level[name]))[0, 1]
            np.testing.assert_allclose(by_name[name][n], rho)
    plt.close(drawn[0])


def test_fig01_deforms_an_image_file(tmp_path):
    ramp = np.linspace(0, 255, 64, dtype=np.uint8)
    stripes = np.stack(
        [np.add.outer(ramp, ramp), np.subtract.outer(ramp, ramp), ramp + 0 * ramp[:, None]], -1
    )
    PIL.Image.fromarray(stripes).save(tmp_path / "image.png")
    path = fig01_left.draw([tmp_path / "image.png"], tmp_path)
    assert abs(plt.imread(path).shape[1] - 200 * style.WIDTH) <= 2


def test_imagenet_vgg16_shows_what_figs_3_and_4_claim():
    """R falls with depth, less so with shuffled channels; filters are low-frequency."""
    trained = results.load(VGG16).sel(state="trained").isel(seed=0)
    R, shuffled = (trained.R.sel(channels=c).values for c in ("all", "shuffled"))
    error = np.hypot(*(trained.R_error.sel(channels=c).values for c in ("all", "shuffled")))
    assert (shuffled - R > 3 * error).all()
    for values in (R, shuffled):
        assert spearmanr(np.arange(len(values)), values).statistic < -0.9
    assert R[-1] < 0.1 * R[0]
    first_mode = trained.spectrum.isel(mode=0) / trained.spectrum.sum("mode")
    assert (first_mode[1:] > 0.24).all()
    assert first_mode[0] < 0.24
