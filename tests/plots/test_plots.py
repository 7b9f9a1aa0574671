"""Every plot shows the numbers that it claims to show."""

import json
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import xarray as xr
from scipy.stats import spearmanr

from relstab_jax import config as configs
from relstab_jax import plots, results
from relstab_jax.errors import InputError
from relstab_jax.plots import paper

ROOT = pathlib.Path(__file__).parents[2]
RESULTS = ROOT / "figures" / "results"
TASKS = [RESULTS / "task1-laptop.json", RESULTS / "task2-laptop.json"]
VGG16 = RESULTS / "measure-vgg16.json"
LENET = RESULTS / "cifar10-lenet-laptop-along.json"


def test_plots_say_where_a_run_was_reduced():
    task2, lenet = (results.load(path) for path in (TASKS[1], LENET))
    expected = (
        "Reduced (paper): Task 2: width 64 (1000), ridge 0.02 (0.01), max epochs 1400 (600000), "
        "seeds 4 (10); LeNet on cifar10: epochs 12 (250), learning rate 0.02 (0.1), annealing 1.0 "
        "(0.8), seeds 1 (4)."
    )
    assert paper.reduced([task2, lenet]) == expected
    assert plots.receptive_field(task2).get_suptitle().startswith("Reduced (paper): Task 2: width")
    assert paper.reduced([results.load(VGG16)]) == ""
    alexnet = results.load(RESULTS / "cifar10-alexnet.json")
    assert "train points 10000 (all)" in paper.reduced([alexnet])


@pytest.mark.parametrize(
    "name",
    [
        *("task1", "task2", "cifar10:LeNet", "cifar10:DenseNetL4", "cifar10_noisy:VGG11"),
        *("scale_detection_2d:VGG11", "scale_detection_2d:DenseNetL2"),
    ],
)
def test_the_papers_settings_are_those_of_the_configurations(name):
    file, _, words = name.partition(":")
    config = configs.load(f"{ROOT}/configs/{file}.py" + f":{words}" * bool(words)).to_dict()
    setting = paper.setting(config)
    assert setting == {name: config[name] for name in setting} | {"seeds": len(config["seeds"])}


@pytest.mark.parametrize(
    ("file", "names"),
    [
        ("task2-laptop", {"receptive_field"}),
        ("task2-laptop-along", {"receptive_field", "along_training"}),
        ("homogeneous", {"representation"}),
        ("measure-vgg16", {"depth", "sensitivities", "spectra", "frequency_content"}),
        ("fig08-laptop", {"errors"}),
        ("fig10-laptop", {"errors", "correlations"}),
    ],
)
def test_a_dataset_tells_what_it_can_show(file, names):
    assert set(plots.shown_by(results.load(RESULTS / f"{file}.json"))) == names
    assert plots.shown_by(xr.Dataset()) == {}


@pytest.mark.parametrize("names", [("alexnet",), ("alexnet", "alexnet"), ("alexnet", "vgg16")])
def test_each_networks_spectra_begin_a_row(names):
    """Of five layers and of thirteen, in up to eight columns."""
    datasets = [results.load(RESULTS / f"measure-{name}.json") for name in names]
    panels = [axes for axes in plots.spectra(*datasets).axes if axes.axison]
    first = [axes for axes in panels if axes.get_title().strip() == "$k=1$"]
    assert len(panels) == sum(dataset.sizes["conv"] for dataset in datasets)
    assert [axes.get_subplotspec().is_first_col() for axes in first] == [True] * len(names)
    for axes, dataset in zip(first, datasets, strict=True):
        trained = dataset.spectrum.sel(state="trained").isel(seed=0, conv=0).dropna("mode")
        np.testing.assert_allclose(axes.lines[0].get_ydata(), trained / trained.sum())


def test_importing_and_plotting_leave_matplotlib_as_it_was(tmp_path):
    code = (
        "import sys, matplotlib as mpl\n"
        "def parameters():  # reading the backend would choose one\n"
        "    return {key: mpl.rcParams[key] for key in mpl.rcParams if key != 'backend'}\n"
        "before = parameters()\n"
        "from relstab_jax import plots\n"
        "figure = plots.tasks(); png = figure._repr_png_()\n"
        "assert png.startswith(b'\\x89PNG') and parameters() == before\n"
        "assert 'matplotlib.pyplot' not in sys.modules and 'figures' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)


def test_a_wrong_dataset_is_one_sentence():
    with pytest.raises(InputError, match=r"measure-vgg16\.json lacks exact_D\[seed, layer\]"):
        plots.receptive_field(results.load(VGG16))
    with pytest.raises(InputError, match="the dataset lacks D"):
        plots.depth(xr.Dataset())
    with pytest.raises(InputError, match="draws one dataset, got 2"):
        plots.errors(*map(results.load, TASKS))


@pytest.mark.parametrize(
    ("stacked", "channels"), [((), "all"), (("network",), ("all", "shuffled"))]
)
def test_what_measure_returns_is_drawn_as_it_is(stacked, channels):
    dims = (*(() if isinstance(channels, str) else ("channels",)), *stacked, "layer")
    sizes = {"channels": 2, "network": 3, "layer": 4}
    shape = [sizes[name] for name in dims]
    R = np.random.default_rng(0).uniform(0.1, 1, shape)
    coords = {"relative_depth": ("layer", np.arange(1, 5) / 4)}
    coords["channels"] = channels if isinstance(channels, str) else list(channels)
    fields = {name: (dims, R) for name in ("D", "G", "R", "R_error")}
    config = {"experiment": "measure", "network": "VisionTransformer", "images": "64 images"}
    dataset = xr.Dataset(fields, coords, {"config": config})
    axes = plots.depth(dataset).axes[0]
    assert axes.get_title() == "64 images"
    drawn = [line.get_ydata() for line in axes.lines[:-1]]
    assert len(drawn) == (1 if channels == "all" else 2)
    first = R if channels == "all" else R[0]
    np.testing.assert_allclose(drawn[0], first if not stacked else first.mean(axis=0))
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["VisionTransformer"]
    assert len(plots.sensitivities(dataset).axes) == 3


def test_receptive_field_shows_the_means_over_seeds():
    panels = iter(plots.receptive_field(*map(results.load, TASKS)).axes)
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
            exact, of_filters = (
                np.mean(np.array(variables[f"{of}_{name}"]["data"], float), axis=0)
                for of in ("exact", "filters")
            )
            shown = lines["exact, equal taps"].get_ydata()
            np.testing.assert_allclose(shown[exact > 0], exact[exact > 0])
            np.testing.assert_allclose(lines["exact, mean filters"].get_ydata(), of_filters)


def test_along_training_shows_the_last_layer_at_each_epoch():
    path = RESULTS / "task2-laptop-along.json"
    tree = json.loads(path.read_text())
    panels = plots.along_training(results.load(path)).axes
    for axes, name in zip(panels, ("D", "G", "R", "test_error"), strict=True):
        values = np.array(tree["data_vars"][f"along_{name}"]["data"], float)
        of_seeds = values if name == "test_error" else values[:, 0, :, -1]
        np.testing.assert_array_equal(axes.lines[0].get_xdata(), tree["coords"]["epoch"]["data"])
        np.testing.assert_allclose(axes.lines[0].get_ydata(), of_seeds.mean(axis=1))


@pytest.fixture
def gathered():
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
    return xr.Dataset(
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


@pytest.mark.parametrize("levels", [1, 2])
def test_errors_against_sensitivities(gathered, levels):
    figure = plots.errors(gathered.isel(member=slice(12 * levels)))
    assert len(figure.axes) == 3 * levels
    for axes, sign in zip(figure.axes, [1, -1, 1] * levels, strict=True):
        x, y = np.concatenate([line.get_xydata() for line in axes.lines]).T
        rho = np.corrcoef(np.log(x), np.log(y))[0, 1]
        assert sign * rho > 0.8
        assert f"= {rho:.2f} [" in axes.get_title()
        assert y.min() >= 0.5 / 1000  # an error of zero has its place


def test_a_network_keeps_its_looks_at_every_noise(gathered):
    kept = (gathered.network != "VGG11") | (gathered.noise == 0)
    figure = plots.errors(gathered.isel(member=kept.values))
    first, last = (
        {
            line.get_label(): (line.get_color(), line.get_marker())
            for line in axes.lines
            if line.get_xdata().size
        }
        for axes in (figure.axes[0], figure.axes[3])
    )
    assert first.keys() == {"VGG11", "LeNet", "AlexNet"}
    assert last == {name: first[name] for name in ("LeNet", "AlexNet")}


def test_networks_that_were_not_trained_here_are_hollow(gathered):
    experiment = np.where(gathered.network == "LeNet", "measure", "train_images")
    figure = plots.errors(gathered.assign_coords(experiment=("member", experiment)))
    faces = {line.get_label(): line.get_markerfacecolor() for line in figure.axes[0].lines}
    assert faces.keys() == {"VGG11", "LeNet, pretrained", "AlexNet"}
    assert [name for name, face in faces.items() if face == "none"] == ["LeNet, pretrained"]


def test_correlations_are_shown_at_each_noise(gathered):
    centre, right = plots.correlations(gathered).axes
    assert sum(len(line.get_xdata()) for line in centre.lines) == 12
    by_name = dict(zip("DGR", (c.lines[0].get_ydata() for c in right.containers), strict=True))
    loaded = gathered.sel(state="trained")
    for n, (_, level) in enumerate(loaded.groupby("noise")):
        error = np.maximum(level.test_error, 0.0005)
        for name in "DGR":
            rho = np.corrcoef(np.log(error), np.log(level[name]))[0, 1]
            np.testing.assert_allclose(by_name[name][n], rho)


def test_parts_show_D_and_R_of_each_and_its_share():
    whole = results.load(LENET)
    rotation, smaller = whole.assign(D=whole.D / 4, R=whole.R * 2), whole.assign(D=whole.D / 9)
    for changed, fields in ((rotation, {"part": "rotation"}), (smaller, {"delta": 0.5})):
        changed.attrs = {**whole.attrs, "config": {**whole.attrs["config"], **fields}}
    figure = plots.parts(rotation, whole, smaller)
    trained = whole.sel(state="trained", channels="all").mean("seed")
    D, share, R = (
        {line.get_label(): line.get_ydata() for line in axes.lines} for axes in figure.axes
    )
    assert set(D) == {"whole, 0.8 px", "whole, 0.4 px", "rotation, 0.2 px"}
    np.testing.assert_allclose(D["whole, 0.8 px"], trained.D)
    np.testing.assert_allclose(D["rotation, 0.2 px"], trained.D / 4)
    np.testing.assert_allclose(share["rotation, 0.2 px"], 0.25)
    np.testing.assert_allclose(share["whole, 0.4 px"], 1 / 9)
    np.testing.assert_allclose(R["rotation, 0.2 px"], 2 * trained.R)
    with pytest.raises(InputError, match="parts draws results of part=whole and of its parts"):
        plots.parts(rotation)


@pytest.mark.parametrize(
    ("weights", "where_it_falls_less", "falls_to", "share"),
    [("measure-vgg16", slice(1, 11), 0.11, 0.2), ("measure-vgg16-keras", slice(None), 0.1, 0.24)],
)
def test_imagenet_vgg16_shows_what_figs_3_and_4_claim(
    weights, where_it_falls_less, falls_to, share
):
    """R falls with depth, less so with shuffled channels; filters are low-frequency."""
    trained = results.load(RESULTS / f"{weights}.json").sel(state="trained").isel(seed=0)
    R, shuffled = (trained.R.sel(channels=c).values for c in ("all", "shuffled"))
    error = np.hypot(*(trained.R_error.sel(channels=c).values for c in ("all", "shuffled")))
    assert (shuffled - R > 3 * error)[where_it_falls_less].all()
    for values in (R, shuffled):
        assert spearmanr(np.arange(len(values)), values).statistic < -0.9
    assert R[-1] < falls_to * R[0]
    first_mode = trained.spectrum.isel(mode=0) / trained.spectrum.sum("mode")
    assert (first_mode[1:] > share).all()
    assert first_mode[0] < 0.24
