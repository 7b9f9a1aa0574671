import numpy as np
import pytest

from configs import homogeneous as config_file
from relstab_jax import results, tables
from relstab_jax.errors import InputError
from relstab_jax.experiments import homogeneous
from relstab_jax.theory.homogeneous import noise_sensitivity, sensitivities


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return homogeneous.run(config_file.get_config(), tmp_path_factory.mktemp("run"))


def test_results_hold_the_exact_sensitivities_of_both_tasks(dataset, tmp_path):
    loaded = results.load(results.save(dataset, tmp_path))
    for task, depth in (("task1", 12), ("task2", 7)):
        fields = config_file.get_config()[task].to_dict()
        at = loaded.sel(task=task)
        for noise in ("rectified", "unrectified"):
            exact = sensitivities(task, **fields, rectified=noise == "rectified")
            for name in "DGR":
                values = at[name] if name == "D" else at[name].sel(noise=noise)
                np.testing.assert_array_equal(values[:depth], getattr(exact, name))
                assert np.isnan(values[depth:]).all()
    np.testing.assert_array_equal(loaded.layer[[0, 9, 11]], ["conv1", "conv10", "conv12"])


def test_results_hold_the_bias_study(dataset):
    fields = config_file.get_config().task1.to_dict()
    del fields["boundary"]
    G = noise_sensitivity("task1", **fields, sigmas=[1.4], biases=[0.5])[0, 0]
    found = dataset.G_with_bias.sel(task="task1", sigma=1.4, bias=0.5)
    np.testing.assert_allclose(found, G, rtol=1e-12)


def test_representations_keep_the_activity_of_a_pixel(dataset):
    total = dataset.representation.sum("pixel")
    np.testing.assert_allclose(total.sel(network="stride_1"), 1)
    np.testing.assert_allclose(
        total.sel(network="stride_F")[:, :4], np.tile(0.5 ** np.arange(4), (2, 1))
    )
    assert float(dataset.representation_support.sel(network="stride_F")) == 8


def test_summary_says_what_was_found(dataset):
    text = tables.homogeneous(dataset)
    assert "conv9     3.00        2.45  0.0497    2.142" in text
    assert "exponents in A_k where the laws hold: D -1.30, G +0.71" in text
    assert "conv7   128.00       36.95     nan      nan" in text
    assert "   3    0.3333   0.2222" in text


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("task1.xi", 40, "xi=40 must lie between"),
        ("task2.depth", 8, "8 layers of stride 2"),
        ("stride_1.active", (3, 64), "stride_1.active"),
        ("stride_F.filter_size", 3, "stride=2 must be 1 or filter_size=3"),
        ("walk.filter_sizes", (1, 3), "walk.filter_sizes=1 must be at least 2"),
    ],
)
def test_bad_configurations_are_refused(field, value, message):
    config = config_file.get_config()
    config.update_from_flattened_dict({field: value})
    with pytest.raises(InputError, match=message):
        homogeneous.check(config)


def test_the_configuration_as_given_is_accepted():
    homogeneous.check(config_file.get_config())
    with pytest.raises(InputError, match="unknown preset 'laptop'"):
        config_file.get_config("laptop")
