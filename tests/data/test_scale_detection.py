import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from relstab_jax.data import scale_detection as task
from relstab_jax.errors import InputError

TASK1 = {"task": 1, "size": 32, "xi": 11, "gap": 4}
TASK2 = {"task": 2, "size": 128, "xi": 32, "gap": 0}


def by_definition(task, size, xi, gap):
    """{(i, j): label} from the words of Section 4, pair by pair."""
    labels = {}
    for i, j in itertools.combinations(range(size), 2):
        if task == 2:
            labels[i, j] = 1 if i // xi == j // xi else -1
        else:
            d = min(abs(i - j), size - abs(i - j))
            if d < xi - gap / 2:
                labels[i, j] = 1
            elif d >= xi + gap / 2:
                labels[i, j] = -1
    return labels


@pytest.mark.parametrize(
    ("setting", "sizes"),
    [
        (TASK1, (256, 112)),
        (TASK2, (1984, 6144)),
        ({"task": "task1", "size": 17, "xi": 5, "gap": 3}, None),
        ({"task": "task2", "size": 12, "xi": 4, "gap": 0}, None),
    ],
)
def test_points_are_those_of_the_definition(setting, sizes):
    positions, labels = task.points(**setting)
    found = {tuple(p): y for p, y in zip(positions.tolist(), labels.tolist(), strict=True)}
    assert len(found) == len(labels)
    assert found == by_definition(**setting | {"task": task.task_number(setting["task"])})
    if sizes:
        assert ((labels == 1).sum(), (labels == -1).sum()) == sizes


def distance_2d(a, b, size, rule, periodic):
    dy, dx = (
        min(abs(p - q), size - abs(p - q)) if periodic else abs(p - q)
        for p, q in zip(a, b, strict=True)
    )
    return max(dx, dy) if rule == "Linf" else (dx**2 + dy**2) ** 0.5


def label_2d(a, b, size, xi, gap, rule, periodic):
    if rule == "quadrant":
        return 1 if all((p < xi) == (q < xi) for p, q in zip(a, b, strict=True)) else -1
    d = distance_2d(a, b, size, rule, periodic)
    return 1 if d < xi - gap / 2 else -1 if d >= xi + gap / 2 else 0


@pytest.mark.parametrize(
    ("rule", "periodic", "xi", "gap"),
    [
        ("L2", False, 3, 1),
        ("L2", True, 2, 1),
        ("Linf", False, 3, 2),
        ("Linf", True, 2, 0),
        ("quadrant", False, 3, 0),
    ],
)
def test_points_in_the_plane_are_those_of_the_definition(rule, periodic, xi, gap):
    size = 6
    positions, labels = task.points_2d(size, xi, gap, rule=rule, periodic=periodic)
    found = {
        frozenset(map(tuple, p)): y
        for p, y in zip(positions.tolist(), labels.tolist(), strict=True)
    }
    pairs = itertools.combinations(itertools.product(range(size), repeat=2), 2)
    by_words = {frozenset(p): label_2d(*p, size, xi, gap, rule, periodic) for p in pairs}
    assert found == {pair: y for pair, y in by_words.items() if y}
    assert len(labels) == len(found)


def test_the_task_of_the_paper_in_the_plane_has_all_pairs_but_those_in_the_gap():
    _, labels = task.points_2d(28, 14, 2)
    pairs = itertools.product(range(-27, 28), repeat=2)  # d² on a grid, and how often
    number = {y: 0 for y in (1, -1, 0)}
    for dy, dx in pairs:
        if (dy, dx) > (0, 0):
            number[label_2d((0, 0), (dy, dx), 28, 14, 2, "L2", False)] += (28 - abs(dy)) * (
                28 - abs(dx)
            )
    assert {y: (labels == y).sum() for y in (1, -1)} == {y: number[y] for y in (1, -1)}
    assert sum(number.values()) == 784 * 783 // 2


def test_images_in_the_plane_have_two_pixels():
    positions = jnp.array([[[0, 0], [2, 5]], [[5, 5], [1, 3]]])
    x = np.asarray(task.images_2d(positions, 6))
    assert x.shape == (2, 6, 6, 1)
    for (a, b), image in zip(positions.tolist(), x[..., 0], strict=True):
        expected = np.zeros((6, 6))
        expected[*a] = expected[*b] = 18
        np.testing.assert_array_equal(image, expected)


def pixels_after(perturbation, image, copies):
    """Perturbs an image of two pixels; returns where they are in each copy, in row-major order."""
    keys = jax.random.split(jax.random.key(0), copies)
    perturbed = jax.vmap(perturbation, (0, None))(keys, image)[..., 0]
    return np.stack(np.nonzero(perturbed)[1:], axis=1).reshape(copies, 2, -1)


@pytest.mark.parametrize("moves", ["unit_vector", "neighbours"])
def test_moves_in_the_plane(moves):
    n = 20_000
    image = task.images_2d(jnp.array([[4, 4], [0, 5]]), 9)
    border, inside = pixels_after(task.Moves2D(moves), image, n).swapaxes(0, 1)
    steps, counts = np.unique(inside - 4, axis=0, return_counts=True)
    diagonal, straight = {"unit_vector": (1 / 12, 1 / 6), "neighbours": (1 / 9, 1 / 9)}[moves]
    expected = [straight if 0 in step else diagonal for step in steps.tolist()]
    if moves == "neighbours":
        assert [0, 0] in steps.tolist()
    assert len(steps) == (8 if moves == "unit_vector" else 9)
    np.testing.assert_allclose(counts / n, expected, atol=4 * 0.38 / n**0.5)
    assert set(border[:, 0]) == {0, 1}
    assert set(border[:, 1]) == {4, 5, 6}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"xi": 28}, "xi=28 must lie between 0 and size=28"),
        ({"gap": -2}, "gap=-2 must not be negative"),
        ({"gap": 27}, r"no point has label \+1 for rule=L2"),
        ({"xi": 21, "periodic": True}, "no point has label -1 for rule=L2, periodic=True"),
        ({"rule": "L1"}, "rule='L1' is not known: use 'L2', 'Linf' or 'quadrant'"),
        ({"rule": "quadrant"}, "rule='quadrant' needs xi=14, half of size=28, gap=0"),
    ],
)
def test_impossible_task_in_the_plane_is_one_sentence(change, message):
    with pytest.raises(InputError, match=message):
        task.points_2d(**{"size": 28, "xi": 14, "gap": 2} | change)


def test_images_have_two_pixels_and_norm_L():
    positions, _ = task.points(**TASK1)
    x = np.asarray(task.images(jnp.asarray(positions), 32))
    assert x.shape == (368, 32, 1)
    np.testing.assert_allclose((x**2).sum((1, 2)), 32, rtol=1e-6)
    for (i, j), image in zip(positions, x[..., 0], strict=True):
        assert np.flatnonzero(image).tolist() == [i, j]
        np.testing.assert_allclose(image[[i, j]], 4.0)


@pytest.mark.parametrize(("setting", "P"), [(TASK1, 48), (TASK2, 1024)])
def test_splits_are_disjoint_and_balanced(setting, P):
    _, labels = task.points(**setting)
    rarest = min((labels == 1).sum(), (labels == -1).sum())
    splits = [task.split(jax.random.key(seed), labels, P, 128) for seed in (0, 1)]
    for split in splits:
        assert [len(part) for part in split[:2]] == [P, 128]
        assert len(split.test) == 2 * rarest - P - 128
        for part in split:
            assert labels[np.asarray(part)].sum() == 0
        assert len(set(np.concatenate(split).tolist())) == sum(map(len, split))
    assert set(splits[0].train.tolist()) != set(splits[1].train.tolist())
    few = task.split(jax.random.key(0), labels, P, 128, 20)
    assert few.train.tolist() == splits[0].train.tolist()
    assert set(few.test.tolist()) < set(splits[0].test.tolist())
    assert (len(few.test), labels[np.asarray(few.test)].sum()) == (20, 0)


STEPS = np.array(list(itertools.product((-1, 1), repeat=2)))  # of both pixels
RING = {"task": 1, "size": 32, "xi": 11, "boundary": "wrap"}


def test_pixels_of_task_1_go_around_the_ring_or_stop_at_the_border():
    positions = np.array([0, 31])
    around = task.moved(positions, STEPS, **RING)
    assert around.tolist() == [[31, 30], [31, 0], [1, 30], [1, 0]]
    stopped = task.moved(positions, STEPS, **RING | {"boundary": "clamp"})
    assert stopped.tolist() == [[0, 30], [0, 31], [1, 30], [1, 31]]
    with pytest.raises(InputError, match="boundary='reflect' is not known"):
        task.moved(positions, STEPS, **RING | {"boundary": "reflect"})


def test_pixels_of_task_2_stay_in_their_patch():
    positions, labels = task.points(**TASK2)
    moved = task.moved(positions, STEPS[:, None], **RING | {"task": 2, "size": 128, "xi": 32})
    assert moved.min() >= 0
    assert moved.max() < 128
    assert (np.where((moved // 32)[..., 0] == (moved // 32)[..., 1], 1, -1) == labels).all()
    steps = moved - positions
    inside = (positions % 32 > 0) & (positions % 32 < 31)
    assert set(np.unique(steps[:, inside])) == {-1, 1}
    assert set(np.unique(steps[:, positions % 32 == 0])) == {0, 1}
    assert set(np.unique(steps[:, positions % 32 == 31])) == {-1, 0}


def test_both_pixels_go_left_and_right_equally_often():
    n, image = 4000, task.images(jnp.array([5, 9]), 32)
    moved = pixels_after(task.Moves(1, xi=11), image, n)[..., 0]
    pairs, counts = np.unique(moved, axis=0, return_counts=True)
    assert pairs.tolist() == np.add([5, 9], STEPS).tolist()
    np.testing.assert_allclose(counts / n, 1 / 4, atol=4 * (3 / 16 / n) ** 0.5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"xi": 32}, "xi=32 must lie between 0 and size=32"),
        ({"gap": 40}, r"no point has label \+1 for task=1"),
        ({"gap": 11}, r"no point has label -1 for task=1"),
        ({"gap": -1}, "gap=-1 must not be negative"),
        ({"task": 2}, "gap=4: Task 2 has no gap"),
        ({"task": 2, "gap": 0}, "xi=11 does not divide size=32"),
        ({"task": 3}, "task=3 is not known: use 1 or 2"),
    ],
)
def test_impossible_task_is_one_sentence(change, message):
    with pytest.raises(InputError, match=message):
        task.points(**TASK1 | change)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ((47, 128), "train_points=47 must be even"),
        ((0, 128), "train_points=0 must be even and at least 2"),
        ((48, 3), "validation_points=3 must be even"),
        ((100, 128), "together they can be at most 222"),
        ((48, 128, 50), "together they can be at most 224"),
        ((48, 128, 5), "test_points=5 must be even"),
    ],
)
def test_impossible_split_is_one_sentence(sizes, message):
    _, labels = task.points(**TASK1)
    with pytest.raises(InputError, match=message):
        task.split(jax.random.key(0), labels, *sizes)
