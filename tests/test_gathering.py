import numpy as np
import pytest
import xarray as xr

from relstab_jax import plots, results
from relstab_jax.errors import InputError
from relstab_jax.gathering import gather


def results_of_run(seeds, layers, value, **config):
    """Returns results like those of Tasks 1 and 2."""
    S, K = len(seeds), len(layers)
    return xr.Dataset(
        {
            "D": (("state", "channels", "seed", "layer"), np.full((2, 2, S, K), value)),
            "test_error": ("seed", np.full(S, value)),
            "epochs": ("seed", np.full(S, 7)),
            "exponent_D": -1.0,
        },
        coords={
            "state": ["init", "trained"], "channels": ["all", "mean"], "seed": list(seeds),
            "layer": layers, "receptive_field": ("layer", np.arange(float(K))),
        },
        attrs={"config": {"experiment": "scale_detection", "seeds": list(seeds), **config}},
    )  # fmt: skip


def test_runs_of_any_experiment_are_gathered(tmp_path):
    layers = ["conv1", "conv2"]
    runs = [
        results_of_run((0, 3), layers, 0.5, width=8, epochs=7, seed=0),
        results_of_run((1,), layers, 0.25, width=16, epochs=9, seed=1),
    ]
    gathered = results.load(results.save(gather(runs), tmp_path))
    assert set(gathered.data_vars) == {"D", "test_error", "epochs"}
    np.testing.assert_array_equal(gathered.epochs, [7, 7, 7])
    assert gathered.D.dims == ("state", "channels", "member", "layer")
    assert gathered.seed.values.tolist() == [0, 3, 1]
    assert gathered.width.values.tolist() == [8, 8, 16]
    np.testing.assert_array_equal(gathered.test_error, [0.5, 0.5, 0.25])
    assert not plots.shown_by(gathered)
    # Variables with other layers are not shared, and none with a run without seeds.
    runs[1] = results_of_run((1,), ["conv1"], 0.25, width=16)
    assert set(gather(runs).data_vars) == {"test_error", "epochs"}
    theory = xr.Dataset({"D": ("layer", [1.0, 2.0])}, attrs={"config": {"task1": {"size": 32}}})
    both = gather([theory, theory])
    np.testing.assert_array_equal(both.D, [[1.0, 2.0]] * 2)
    mixed = gather([runs[0], theory])
    assert not mixed.data_vars
    assert mixed.sizes["member"] == 3
    assert not plots.shown_by(mixed)


def test_networks_that_are_only_measured_are_gathered_with_trained_ones():
    trained = [
        results_of_run((0,), ["conv", "output"], value, network=name, data="cifar10", noise=eta)
        for name, value, eta in (("LeNet", 0.3, 0.0), ("VGG11", 0.1, 0.0), ("VGG11", 0.4, 10.0))
    ]
    measured = results_of_run((0,), ["conv", "output"], 0.2, network="ResNet20", images="cifar10")
    for order in ([measured, *trained], [*trained, measured]):
        gathered = gather(order).set_index(member="network").sel(member="ResNet20")
        assert gathered.noise == 0  # a configuration that has no such field adds none
    variables = {n: (("state", "channels", "seed", "layer"), trained[0].D.values) for n in "GR"}
    datasets = [
        d.assign(variables | {"test_points": ("seed", [100])}) for d in (measured, *trained[:2])
    ]
    assert list(plots.shown_by(gather(datasets))) == ["errors"]


def test_runs_that_differ_only_in_their_seeds_are_joined(tmp_path):
    layers = ["conv1", "conv2"]
    runs = [
        results_of_run((3,), layers, 0.5, width=8),
        results_of_run((0, 1), layers, 0.25, width=8),
    ]
    gathered = results.load(results.save(gather(runs), tmp_path))
    assert gathered.D.dims == ("state", "channels", "seed", "layer")
    assert gathered.exponent_D.dims == ()
    np.testing.assert_array_equal(gathered.seed, [0, 1, 3])
    np.testing.assert_array_equal(gathered.test_error, [0.25, 0.25, 0.5])
    assert gathered.attrs["config"]["seeds"] == [0, 1, 3]
    assert [run["config"]["seeds"] for run in gathered.attrs["runs"]] == [[3], [0, 1]]
    with pytest.raises(InputError, match=r"share the seeds \[3\]"):
        gather([runs[0], *runs])
