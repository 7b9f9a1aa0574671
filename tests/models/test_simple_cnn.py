import jax
import jax.numpy as jnp
import numpy as np
import pytest

from relstab_jax import models
from relstab_jax.errors import InputError
from relstab_jax.models import simple_cnn
from tests import compiled

SETTINGS = {  # strided_layers=1: the authors' program has the stride in the first layer alone
    "task1": {"image_size": 32, "depth": 12, "filter_size": 3, "stride": 1},
    "task2": {"image_size": 128, "depth": 7, "filter_size": 2, "stride": 2, "strided_layers": 1},
}


def create(**setting) -> models.Model:
    return compiled.create("SimpleCNN", **{"num_classes": 1, "channels": 1, "width": 8} | setting)


def state_of(task, golden):
    start = f"cnn_{task}_param_"
    return {k.removeprefix(start): v for k, v in golden.items() if k.startswith(start)}


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("task", SETTINGS)
def test_every_layer_equals_the_authors(task, golden):
    variables = models.from_torch("SimpleCNN", state_of(task, golden))
    model = create(**SETTINGS[task])
    x = jnp.asarray(golden[f"cnn_{task}_x"].transpose(0, 2, 1))

    features = model.features(variables, x)
    assert list(features) == [f"conv{k}" for k in range(1, SETTINGS[task]["depth"] + 1)]
    for k, f in enumerate(features.values(), start=1):
        expected = golden[f"cnn_{task}_layer{k}"].transpose(0, 2, 1)
        np.testing.assert_allclose(f, expected, rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(
        model.apply(variables, x), golden[f"cnn_{task}_output"], rtol=1e-10, atol=1e-10
    )


def convolution(x, w, b, left, stride):
    """Eq. 2 on a ring, pixel by pixel: x [L, C], w [F, C, H] -> √F ReLU(z) [L_out, H]."""
    (L, C), (F, _, _) = x.shape, w.shape
    z = np.tile(b, (-(-L // stride), 1))
    for o in range(len(z)):
        for f in range(F):
            for c in range(C):
                z[o] += x[(o * stride - left + f) % L, c] * w[f, c] / np.sqrt(F * C)
    return np.sqrt(F) * np.maximum(z, 0)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(
    ("filter_size", "stride", "left"),
    [(1, 1, 0), (3, 1, 1), (5, 1, 2), (2, 1, 0), (4, 1, 1), (3, 3, 1), (2, 2, 0), (4, 4, 1)],
)
def test_layer_equals_a_loop_over_pixels(filter_size, stride, left):
    L, C, H = 12, 2, 3
    model = create(
        image_size=L, channels=C, width=H, depth=1, filter_size=filter_size, stride=stride
    )
    variables = model.init(jax.random.key(0))
    x = jax.random.normal(jax.random.key(1), (2, L, C))
    conv = variables["params"]["conv1"]
    for one, f in zip(x, model.features(variables, x)["conv1"], strict=True):
        expected = convolution(
            np.asarray(one), np.asarray(conv["kernel"]), np.asarray(conv["bias"]), left, stride
        )
        np.testing.assert_allclose(f, expected, rtol=1e-12, atol=1e-12)


ACTIVE = [(0, 1), (1, 2), (2, 3), (7, 8), (0, 35), (17, 18), (4, 31), (30, 33), (5, 5)]


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(
    ("filter_size", "stride", "depth"),
    [(2, 2, 2), (3, 1, 2)]
    + [
        pytest.param(*p, marks=pytest.mark.slow)
        for p in ((3, 3, 2), (4, 4, 1), (6, 6, 2), (1, 1, 2))
    ],
)
def test_promising_few_active_pixels_changes_no_number(filter_size, stride, depth):
    """The points have pixels side by side, in one patch early, late and never, or one alone."""
    setting = {"image_size": 36, "filter_size": filter_size, "stride": stride, "depth": depth}
    plain, quick = create(**setting), create(**setting, active_pixels=2)
    variables = plain.init(jax.random.key(0))
    i, j = np.array(ACTIVE).T
    x = np.zeros((len(i), 36, 1))
    x[np.arange(len(i)), i] = 3.0
    x[np.arange(len(j)), j] = -2.0

    def outputs_and_gradient(model):
        def weighted(v):
            outputs = model.apply(v, jnp.asarray(x))[:, 0]
            return outputs @ jnp.arange(1.0, len(x) + 1), outputs

        gradient, outputs = jax.jit(jax.grad(weighted, has_aux=True))(variables)
        return outputs, gradient, model.features(variables, jnp.asarray(x))

    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12),
        outputs_and_gradient(quick),
        outputs_and_gradient(plain),
    )


def test_promising_few_active_pixels_saves_operations():
    def flops(**promise):
        model = create(width=64, image_size=128, depth=7, filter_size=2, stride=2, **promise)
        variables = jax.eval_shape(model.init, jax.random.key(0))
        x = jax.ShapeDtypeStruct((8, 128, 1), jnp.float32)
        return jax.jit(model.apply).lower(variables, x).compile().cost_analysis()["flops"]

    assert flops(active_pixels=2) < flops() / 3


def test_a_broken_promise_shows():
    model = create(image_size=8, depth=2, filter_size=2, stride=2, active_pixels=2)
    variables = model.init(jax.random.key(0))
    three = jnp.zeros((2, 8, 1)).at[1, :3].set(1.0)
    assert jnp.isnan(model.apply(variables, three)).all()


def test_strides_reach_every_layer_unless_told_otherwise():
    model = create(image_size=128, depth=7, filter_size=2, stride=2)
    shapes = jax.eval_shape(model.features, model.init(jax.random.key(0)), jnp.zeros((5, 128, 1)))
    assert [f.shape for f in shapes.values()] == [(5, 128 // 2**k, 8) for k in range(1, 8)]


def test_parameters_are_standard_normal_and_alpha_scales_the_output():
    setting = {"image_size": 32, "depth": 4, "filter_size": 3, "stride": 1, "width": 64}
    model, scaled = create(**setting), create(**setting, alpha=3.0)
    variables = model.init(jax.random.key(0))
    for k, w in enumerate(simple_cnn.kernels(variables), start=1):
        assert w.shape == (3, 1 if k == 1 else 64, 64)
        if k > 1:
            assert abs(float(w.mean())) < 4 / np.sqrt(w.size)
            assert abs(float(w.std()) - 1) < 4 / np.sqrt(w.size)
    x = jax.random.normal(jax.random.key(1), (3, 32, 1))
    np.testing.assert_allclose(scaled.apply(variables, x), 3 * model.apply(variables, x), rtol=1e-6)


@pytest.mark.slow
def test_seeds_stack_under_vmap():
    model = create(image_size=16, depth=3, filter_size=2, stride=2)
    keys = jax.random.split(jax.random.key(0), 3)
    stack = jax.jit(jax.vmap(model.init))(keys)
    x = jax.random.normal(jax.random.key(1), (4, 16, 1))
    together = jax.jit(jax.vmap(model.apply, (0, None)))(stack, x)
    for key, outputs in zip(keys, together, strict=True):
        np.testing.assert_allclose(outputs, model.apply(model.init(key), x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"stride": 2}, "stride=2 must be 1 or filter_size=3"),
        ({"filter_size": 33}, "filter_size=33 must lie between 1 and size=32"),
        ({"width": 0}, "width=0 must be at least 1"),
        ({"filter_size": 2, "stride": 2, "depth": 6}, "divisible by 64: size=32 allows at most 5"),
        ({"filter_size": 3, "stride": 3, "depth": 1}, "divisible by 3: size=32 allows at most 0"),
        ({"strided_layers": 13}, "strided_layers=13 must lie between 0 and depth=12"),
    ],
)
def test_impossible_network_is_one_sentence(change, message):
    with pytest.raises(InputError, match=message):
        create(**SETTINGS["task1"] | change)


def test_a_network_without_its_readout(golden):
    state_dict = state_of("task1", golden)
    variables = models.from_torch("SimpleCNN", state_dict)
    del state_dict["beta"]
    with pytest.raises(InputError, match=r"missing beta \[8, 1\]$"):
        models.from_torch("SimpleCNN", state_dict)
    del state_dict["biasFinal"]
    headless = models.from_torch("SimpleCNN", state_dict)
    assert len(simple_cnn.kernels(headless)) == len(simple_cnn.kernels(variables))

    x = jnp.asarray(golden["cnn_task1_x"].transpose(0, 2, 1), float)
    features = create(**SETTINGS["task1"]).features(variables, x)
    model = create(**SETTINGS["task1"] | {"num_classes": 0})
    jax.tree.map(np.testing.assert_array_equal, model.features(headless, x), features)
    last = features[f"conv{len(features)}"]
    np.testing.assert_allclose(model.apply(headless, x), last.mean(axis=1), rtol=1e-6)


def test_state_dict_of_another_network_names_the_odd_tensors():
    with pytest.raises(InputError, match=r"missing conv\.0\.w .*surplus features\.0\.weight"):
        models.from_torch("SimpleCNN", {"features.0.weight": np.zeros((3, 3))})


@pytest.mark.parametrize(
    ("name", "tensor", "message"),
    [
        ("conv.1.w", np.ones((8, 3, 8)), r"conv\.1\.w is \[8, 3, 8\] instead of \[8, 8, 3\]$"),
        ("beta", np.ones((9, 1)), r"beta is \[9, 1\] instead of \[8, 1\]$"),
        ("conv.3.b", np.full(8, np.inf), r"conv\.3\.b has values that are not finite"),
        ("conv.0.w", np.ones((8, 1, 3), int), r"conv\.0\.w is int64: weights are floating-point"),
    ],
)
def test_tensors_that_cannot_be_weights_are_refused(name, tensor, message, golden):
    with pytest.raises(InputError, match=message):
        models.from_torch("SimpleCNN", state_of("task1", golden) | {name: tensor})
