"""The exact theory against a sampled network, against enumeration, and against known values."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from relstab_jax import models
from relstab_jax.data import scale_detection
from relstab_jax.errors import InputError
from relstab_jax.theory import homogeneous

TASK_1 = {"task": 1, "size": 32, "xi": 11, "gap": 4, "filter_size": 3, "stride": 1, "depth": 12}
TASK_2 = {"task": 2, "size": 128, "xi": 32, "gap": 0, "filter_size": 2, "stride": 2, "depth": 7}


def setting(task, filter_size, stride, size, xi, gap, depth, **more):
    names = ("task", "filter_size", "stride", "size", "xi", "gap", "depth")
    return dict(zip(names, (task, filter_size, stride, size, xi, gap, depth), strict=True)) | more


def filters(depth, filter_size):
    """Returns positive filters of any size; one tap is zero."""
    rng = np.random.default_rng(3)
    drawn = rng.uniform(0.2, 1, (depth, filter_size)) * 10.0 ** rng.uniform(-3, 1, (depth, 1))
    drawn[1, 0] = 0
    return drawn


def name(case):
    values = [value for key, value in case.items() if key != "filters"]
    return "-".join(map(str, [*values, *["filters"] * ("filters" in case)]))


SETTINGS = [
    setting(1, 3, 1, 32, 11, 4, 12),
    setting(1, 2, 1, 16, 5, 2, 8),
    setting(1, 4, 1, 24, 7, 3, 6, boundary="clamp"),
    setting(1, 5, 5, 50, 12, 2, 2),
    setting(1, 2, 2, 32, 9, 0, 4, strided_layers=2),
    setting(2, 2, 2, 128, 32, 0, 6),
    setting(2, 6, 1, 36, 12, 0, 5),
    setting(2, 3, 3, 54, 6, 0, 3),
    setting(2, 4, 4, 64, 16, 0, 2),
    setting(1, 3, 1, 32, 11, 4, 12, filters=filters(12, 3)),
    setting(1, 2, 2, 32, 9, 0, 4, strided_layers=2, filters=filters(4, 2)),
    setting(2, 2, 2, 128, 32, 0, 6, filters=filters(6, 2)),
    setting(2, 3, 3, 54, 6, 0, 3, filters=filters(3, 3)),
]


# A plain and separate implementation of Section 4: draws, moves and the network with its ReLU.


def layers(x, filter_size, stride, depth, strided_layers=None, biases=None, filters=None):
    f = []
    for k in range(depth):
        padded = np.pad(x, [(0, 0), ((filter_size - 1) // 2, filter_size // 2)], mode="wrap")
        patches = np.lib.stride_tricks.sliding_window_view(padded, filter_size, axis=1)
        z = patches.mean(axis=2) if filters is None else patches @ filters[k]
        if strided_layers is None or k < strided_layers:
            z = z[:, ::stride]
        x = np.maximum(z + (0 if biases is None else biases[k]), 0)
        f.append(x)
    return f


def images(positions, size):
    x = np.zeros((len(positions), size))
    for pixel in positions.T:
        x[np.arange(len(x)), pixel] += np.sqrt(size / 2)
    return x


def move(positions, steps, task, size, xi, boundary):
    moved = positions + steps
    if task == 2:
        return np.where(moved // xi == positions // xi, moved, positions)
    return np.clip(moved, 0, size - 1) if boundary == "clamp" else np.mod(moved, size)


def all_moves(positions, task, size, xi, boundary):
    joint = [np.array(steps) for steps in itertools.product((-1, 1), repeat=2)]
    return [move(positions, steps, task, size, xi, boundary) for steps in joint]


def noise_variance(positions, weights, task, size, xi, boundary):
    x = images(positions, size)
    moved = all_moves(positions, task, size, xi, boundary)
    return np.mean([weights @ ((images(m, size) - x) ** 2).mean(axis=1) for m in moved])


def balanced_weights(labels, task):
    if task == 1:
        return np.full(len(labels), 1 / len(labels))
    return np.where(labels == 1, 0.5 / (labels == 1).sum(), 0.5 / (labels == -1).sum())


def squared_distance(f, g):
    return [((a - b) ** 2).sum(axis=1) for a, b in zip(f, g, strict=True)]


def ratios(numerators, denominators):
    """Returns mean / mean per layer, and its standard error."""
    estimates, errors = [], []
    for a, b in zip(numerators, denominators, strict=True):
        relative = [(c.std() / c.mean()) ** 2 / len(c) if c.any() else 0.0 for c in (a, b)]
        estimates.append(a.mean() / b.mean())
        errors.append(estimates[-1] * np.sqrt(sum(relative)))
    return np.array(estimates), np.array(errors)


def sampled(rng, draws, *, task, size, xi, gap, boundary="wrap", rectified, **network):
    """Estimates D and G, with their standard errors."""
    positions, labels = scale_detection.points(task, size, xi, gap)
    weights = balanced_weights(labels, task)
    sigma = np.sqrt(noise_variance(positions, weights, task, size, xi, boundary))
    point, other = rng.choice(len(weights), (2, draws), p=weights)
    here = positions[point]
    there = move(here, rng.choice([-1, 1], here.shape), task, size, xi, boundary)
    noise = sigma * rng.standard_normal((draws, size))
    x = images(here, size)
    f = layers(x, **network)
    f_noisy = layers(x + (np.maximum(noise, 0) if rectified else noise), **network)
    N = squared_distance(f, layers(images(positions[other], size), **network))
    D = squared_distance(f, layers(images(there, size), **network))
    return ratios(D, N), ratios(squared_distance(f, f_noisy), N)


@pytest.mark.parametrize("rectified", [True, False], ids=["rectified", "unrectified"])
@pytest.mark.parametrize("case", SETTINGS, ids=name)
def test_sampling_agrees_within_four_standard_errors(case, rectified):
    exact = homogeneous.sensitivities(**case, rectified=rectified)
    (D, D_error), (G, G_error) = sampled(
        np.random.default_rng(0), 10_000, **case, rectified=rectified
    )
    assert np.all(np.abs(exact.D - D) <= 4 * D_error + 1e-12)
    assert np.all(np.abs(exact.G - G) <= 4 * G_error)
    assert np.all(D_error < 0.05 * np.maximum(D, 0.01))
    assert np.all(G_error < 0.05 * G)
    np.testing.assert_allclose(exact.R, exact.D / exact.G)


@pytest.mark.parametrize("case", SETTINGS, ids=name)
def test_given_points_enter_numerator_and_denominator(case):
    task, size, xi = case["task"], case["size"], case["xi"]
    network = {k: v for k, v in case.items() if k not in ("task", "size", "xi", "gap", "boundary")}
    boundary = case.get("boundary", "wrap")
    rng = np.random.default_rng(1)
    all_positions, _ = scale_detection.points(task, size, xi, case["gap"])
    chosen = rng.choice(all_positions, 20, replace=False)
    f = layers(images(chosen, size), **network)
    moved = all_moves(chosen, task, size, xi, boundary)
    change = [squared_distance(f, layers(images(m, size), **network)) for m in moved]
    N = [np.mean(((a[:, None] - a) ** 2).sum(axis=2)) for a in f]
    variance = noise_variance(chosen, np.full(20, 1 / 20), task, size, xi, boundary)
    M = layers(np.eye(size), **network)
    mean_square = variance / (2 * np.pi)
    noise = [
        (variance / 2 - mean_square) * (m**2).sum() + mean_square * (m.sum(axis=0) ** 2).sum()
        for m in M
    ]

    exact = homogeneous.sensitivities(**case, positions=chosen)

    np.testing.assert_allclose(exact.D, np.mean(change, axis=(0, 2)) / N, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(exact.G, np.divide(noise, N), rtol=1e-12)


def test_known_values_of_task_1():
    exact = homogeneous.sensitivities(**TASK_1)
    D = [0.362, 0.179, 0.123, 0.097, 0.080, 0.070, 0.061, 0.055, 0.050]
    G = [0.88, 1.13, 1.32, 1.47, 1.62, 1.74, 1.90, 2.02, 2.14]
    np.testing.assert_allclose(exact.D[:9], D, rtol=0.02)
    np.testing.assert_allclose(exact.G[:9], G, rtol=0.02)
    log_A = np.log(np.arange(1, 10)) / 2
    assert np.polyfit(log_A, np.log(exact.D[:9]), 1)[0] == pytest.approx(-1.78, abs=0.005)
    assert np.polyfit(log_A, np.log(exact.G[:9]), 1)[0] == pytest.approx(0.81, abs=0.005)


def test_known_values_of_task_2():
    exact = homogeneous.sensitivities(**TASK_2)
    np.testing.assert_allclose(exact.D[:4], [0.469, 0.221, 0.093, 0.032], rtol=0.03)
    np.testing.assert_array_equal(exact.D[4:6], 0)
    np.testing.assert_allclose(exact.G[:6], [0.64, 0.95, 1.57, 2.76, 5.2, 15], rtol=0.02)
    np.testing.assert_array_equal(exact.R[4:6], 0)


def test_a_constant_representation_is_undefined():
    for rectified in (True, False):
        exact = homogeneous.sensitivities(**TASK_2, rectified=rectified)
        for values in exact:
            assert np.isnan(values[6])
            assert not np.isnan(values[:6]).any()
    one_point = homogeneous.sensitivities(**TASK_1, positions=np.array([[3, 5]]))
    assert np.isnan(one_point.D).all()
    assert np.isnan(one_point.G).all()


def test_deep_networks_stay_accurate():
    """Only the slowest mode of the ring is left, 10⁻⁷ of f: N by raw moments would be rounding."""
    case = TASK_1 | {"size": 16, "xi": 5, "gap": 2, "depth": 300}
    exact = homogeneous.sensitivities(**case)
    positions, _ = scale_detection.points(1, 16, 5, 2)
    wave = np.exp(2j * np.pi * np.arange(16) / 16)
    both = wave[positions].sum(axis=1)
    moved = [wave[m].sum(axis=1) for m in all_moves(positions, 1, 16, 5, "wrap")]
    change = np.mean(np.abs(np.array(moved) - both) ** 2)
    limit = change / (2 * np.mean(np.abs(both - both.mean()) ** 2))
    assert exact.D[-1] == pytest.approx(limit, rel=1e-6)


@pytest.mark.parametrize("bias", [-1.0, 0.0, 0.5])
@pytest.mark.parametrize(
    "case",
    [
        setting(1, 4, 1, 24, 7, 2, 4),
        setting(2, 2, 2, 32, 8, 0, 3),
        setting(1, 3, 1, 24, 7, 2, 4, filters=filters(4, 3)),
    ],
    ids=name,
)
def test_noise_of_any_magnitude_meets_a_bias(case, bias):
    draws, sigma, rng = 10_000, 0.8, np.random.default_rng(2)
    task, size = case["task"], case["size"]
    positions, labels = scale_detection.points(task, size, case["xi"], case["gap"])
    point, other = rng.choice(len(labels), (2, draws), p=balanced_weights(labels, task))
    network = {k: case[k] for k in ("filter_size", "stride", "depth")}
    if "filters" in case:
        network["filters"] = case["filters"] / case["filters"].sum(axis=1, keepdims=True)
    x = images(positions[point], size)
    noisy = x + sigma * rng.standard_normal(x.shape)
    first_only = [bias] + [0.0] * (case["depth"] - 1)
    exact = homogeneous.noise_sensitivity(**case, sigmas=[sigma], biases=[bias])[0, 0]
    for biases in [first_only, [bias] * case["depth"]] if bias > 0 else [first_only]:
        f = layers(x, **network, biases=biases)
        N = squared_distance(f, layers(images(positions[other], size), **network, biases=biases))
        G, error = ratios(squared_distance(f, layers(noisy, **network, biases=biases)), N)
        assert np.all(np.abs(exact - G) <= 4 * error)
        assert np.all(error < 0.05 * G)


def test_noise_without_bias_is_unrectified_noise():
    x = scale_detection.points(1, 32, 11, 4)[0]
    variance = noise_variance(x, np.full(len(x), 1 / len(x)), 1, 32, 11, "wrap")
    exact = homogeneous.sensitivities(**TASK_1, rectified=False)
    G = homogeneous.noise_sensitivity(**TASK_1, sigmas=[variance**0.5], biases=[0.0])
    np.testing.assert_allclose(G[0, 0], exact.G, rtol=1e-12)


@pytest.mark.parametrize(("filter_size", "stride"), [(3, 1), (4, 1), (2, 2), (4, 4), (3, 3)])
def test_the_network_is_the_cnn_with_equal_weights(filter_size, stride):
    size, depth = 144, 2
    model = models.create(
        "SimpleCNN",
        num_classes=1,
        image_size=size,
        channels=1,
        width=1,
        depth=depth,
        filter_size=filter_size,
        stride=stride,
    )
    variables = jax.tree.map(jnp.zeros_like, model.init(jax.random.key(0)))
    for k in range(depth):
        variables["params"][f"conv{k + 1}"]["kernel"] += 1 / filter_size
    f = model.features(variables, jnp.eye(size)[..., None])
    exact = homogeneous.representations(
        np.eye(size),
        filter_size=filter_size,
        stride=stride,
        depth=depth,
    )
    for k in range(depth):
        np.testing.assert_allclose(f[f"conv{k + 1}"][..., 0], exact[k], atol=1e-6)


@pytest.mark.parametrize(("filter_size", "stride"), [(3, 1), (4, 1), (3, 3), (4, 4)])
def test_a_layer_is_the_convolution_of_the_cnn(filter_size, stride):
    model = models.create(
        "SimpleCNN",
        **{"num_classes": 1, "image_size": 144, "channels": 1, "width": 1, "depth": 1},
        **{"filter_size": filter_size, "stride": stride},
    )
    variables = jax.tree.map(jnp.zeros_like, model.init(jax.random.key(0)))
    taps = np.arange(1.0, filter_size + 1)
    variables["params"]["conv1"]["kernel"] += taps.astype(np.float32).reshape(-1, 1, 1)
    f = model.features(variables, jnp.eye(144)[..., None])["conv1"][..., 0]
    np.testing.assert_allclose(f, homogeneous.pool(np.eye(144), taps, stride), rtol=1e-6)


@pytest.mark.parametrize("rectified", [True, False], ids=["rectified", "unrectified"])
@pytest.mark.parametrize("case", [TASK_1, TASK_2], ids=["task1", "task2"])
class TestFilters:
    def test_equal_ones_are_the_homogeneous_network(self, case, rectified):
        equal = np.full((case["depth"], case["filter_size"]), 0.25)
        found = homogeneous.sensitivities(**case, rectified=rectified, filters=equal)
        exact = homogeneous.sensitivities(**case, rectified=rectified)
        np.testing.assert_array_equal(found, exact)

    def test_their_scale_does_not_matter(self, case, rectified):
        given = filters(case["depth"], case["filter_size"])
        scale = 10.0 ** np.linspace(-9, 9, case["depth"])[:, None]
        one = homogeneous.sensitivities(**case, rectified=rectified, filters=given)
        other = homogeneous.sensitivities(**case, rectified=rectified, filters=scale * given)
        np.testing.assert_allclose(other, one, rtol=1e-9, atol=1e-15)

    @pytest.mark.parametrize("taps", [(1, -1e-9), (0, 0), (1, np.nan), (np.inf, -np.inf)])
    def test_behind_one_that_is_not_positive_nothing_is_known(self, case, rectified, taps):
        given = filters(case["depth"], case["filter_size"])
        exact = homogeneous.sensitivities(**case, rectified=rectified, filters=given)
        for layer in (0, 3):
            changed = given.copy()
            changed[layer] = [*taps, 0][: case["filter_size"]]
            found = homogeneous.sensitivities(**case, rectified=rectified, filters=changed)
            for values, of_all in zip(found, exact, strict=True):
                np.testing.assert_array_equal(values[:layer], of_all[:layer])
                assert np.isnan(values[layer:]).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"task": 3}, "task=3"),
        ({"xi": 32}, "xi=32 must lie between"),
        ({"gap": 30}, "no point has label"),
        ({"stride": 2}, "stride=2 must be 1 or filter_size=3"),
        ({"stride": 3, "depth": 1}, "1 layers of stride 3 need a size divisible by 3"),
        ({"filter_size": 33}, "filter_size=33 must lie between 1 and size=32"),
        ({"depth": 0}, "depth=0 must be at least 1"),
        ({"boundary": "reflect"}, "boundary='reflect'"),
        ({"strided_layers": 13}, "strided_layers=13"),
        ({"positions": np.array([[0, 32]])}, "positions must lie between 0 and 31"),
        ({"filters": np.ones((12, 2))}, r"filters of shape \(12, 2\) do not fit: give .*_size=3"),
        ({"filters": np.ones((11, 3))}, r"filters of shape \(11, 3\) .* each of depth=12 layers"),
    ],
)
def test_bad_input_is_one_clear_sentence(change, message):
    with pytest.raises(InputError, match=message):
        homogeneous.sensitivities(**TASK_1 | change)


def test_noise_needs_a_magnitude():
    with pytest.raises(InputError, match=r"sigmas=\(1, 0\) must be positive"):
        homogeneous.noise_sensitivity(**TASK_1, sigmas=[1, 0], biases=[0.0])
