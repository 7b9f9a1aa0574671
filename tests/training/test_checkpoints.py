import jax
import jax.numpy as jnp
import numpy as np
import pytest

from relstab_jax.errors import InputError, WriteError
from relstab_jax.training.checkpoints import Checkpoints, Snapshots
from tests.full_disk import full_disk


def state(step):
    return {"w": jnp.arange(6.0).reshape(2, 3) * step, "stopped": jnp.array([step > 1, False])}


@pytest.fixture
def folder(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    for step in (1, 2, 3):
        checkpoints.save(step, state(step))
    checkpoints.close()
    return tmp_path


LIKE = jax.eval_shape(lambda: state(1))


def test_the_newest_comes_back(folder):
    step, restored = Checkpoints(folder).restore(LIKE)
    assert step == 3
    jax.tree.map(np.testing.assert_array_equal, restored, state(3))


def test_two_are_kept(folder):
    assert sorted(p.name for p in folder.iterdir() if p.name.isdigit()) == ["2", "3"]


def test_none_is_none(tmp_path):
    assert Checkpoints(tmp_path).restore(LIKE) is None


def test_a_disk_that_fills_while_one_is_written_leaves_those_before_it(folder):
    checkpoints = Checkpoints(folder)
    four = jax.tree.map(np.asarray, state(4))
    message = rf"cannot write {folder} \(File too large\): make room, and the same command goes on"
    with full_disk():
        checkpoints.save(4, four)
        with pytest.raises(WriteError, match=message):
            checkpoints.save(5, four)
        with pytest.raises(WriteError, match=message):
            checkpoints.close()
    again = Checkpoints(folder)
    step, restored = again.restore(LIKE)
    assert step == 3
    jax.tree.map(np.testing.assert_array_equal, restored, state(3))
    again.save(4, four)
    again.close()
    assert Checkpoints(folder).restore(LIKE)[0] == 4


def test_a_snapshot_that_a_full_disk_refuses_is_one_sentence_and_can_be_saved_later(tmp_path):
    snapshots, four = Snapshots(tmp_path, (4,)), jax.tree.map(np.asarray, state(4))
    snapshots.save(4, state(2))
    with full_disk(), pytest.raises(WriteError, match=r"snapshots .*: make room, and the same"):
        snapshots.save(4, four)
    snapshots.save(4, four)
    jax.tree.map(np.testing.assert_array_equal, snapshots.read(4, LIKE), four)


@pytest.mark.parametrize(
    "like",
    [
        LIKE | {"more": jnp.zeros(2)},
        {"w": LIKE["w"]},
        LIKE | {"w": jnp.zeros((2, 4))},
        LIKE | {"w": jnp.zeros((2, 3), jnp.int32)},
    ],
    ids=["one more", "one less", "shape", "type"],
)
def test_one_of_another_version_is_refused_and_left(folder, like):
    message = r"3 is of another version .* differs in (more|stopped|w): go on with that version"
    with pytest.raises(InputError, match=message):
        Checkpoints(folder).restore(like)
    assert Checkpoints(folder).restore(LIKE)[0] == 3
    snapshots = Snapshots(folder, (3,))
    snapshots.save(3, state(3))
    with pytest.raises(InputError, match=message):
        snapshots.read(3, like)


@pytest.mark.parametrize("damage", ["cut", "flip", "lose"])
def test_a_damaged_one_is_reported_and_the_one_before_it_used(folder, damage, caplog):
    for path in [p for p in (folder / "3").rglob("*") if p.is_file()]:
        content = path.read_bytes()
        if damage == "cut":
            path.write_bytes(content[: len(content) // 2])
        elif damage == "flip":
            middle = len(content) // 2
            path.write_bytes(
                content[:middle] + bytes([content[middle] ^ 255]) + content[middle + 1 :]
            )
        elif path.parent.name == "d":
            path.unlink()
    step, restored = Checkpoints(folder).restore(LIKE)
    assert step == 2
    jax.tree.map(np.testing.assert_array_equal, restored, state(2))
    assert "checkpoint of step 3 is damaged" in caplog.text
