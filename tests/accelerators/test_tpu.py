"""What is compiled for TPUs, by their compiler, which comes with the extra `tpu`."""

import importlib.util
import math

import jax
import pytest
from jax.experimental.compilation_cache.compilation_cache import reset_cache

from tests.accelerators import programs
from tests.accelerators.programs import chips, collectives, lines, sizes

MEMORY = 16e9  # bytes of a v5e chip; others have more
LOOPS = 2  # of a training: over steps, and over the images that a TPU crops, one by one

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is None,
    reason="the compiler for TPUs, libtpu, is not installed (extra `tpu`)",
)


@pytest.fixture(autouse=True)
def _compiled_as_for_users():
    """With all optimisations; without the cache, which cannot read programs for other devices."""
    jax.config.update("jax_disable_most_optimizations", False)
    jax.config.update("jax_enable_compilation_cache", False)
    reset_cache()
    yield
    jax.config.update("jax_enable_compilation_cache", True)
    reset_cache()


def compiled(program):
    """Compiles a program; checks what holds of all, and returns its memory and text, of a chip."""
    made = program.lower().compile()
    memory, text = made.memory_analysis(), made.as_text()
    new = memory.output_size_in_bytes + memory.temp_size_in_bytes - memory.alias_size_in_bytes
    assert memory.argument_size_in_bytes + new < MEMORY
    assert "f64[" not in text
    return memory, text


def convolutions(text):
    """Convolutions of maps: matrix products are convolutions too."""
    return [line for line in lines(text, "convolution") if 'conv_general_dilated"' in line]


def size_of(tree, itemsize=1):
    return sum(math.prod(a.shape) * itemsize for a in jax.tree.leaves(tree))


def test_a_batch_is_picked_without_laying_the_images_out_anew():
    program = programs.training(chips("v5e:2x2"), "LeNet", 128)
    memory, text = compiled(program)
    states, held, *_ = program.arguments
    assert memory.temp_size_in_bytes < size_of(held.rows) / 20
    # In place: all of the state is where it was. Weights and gradients alone are sent, all at once.
    assert memory.alias_size_in_bytes >= size_of(states, 4)
    (reduced,) = collectives(text)
    assert " all-reduce" in reduced
    assert sum(sizes(reduced)) == size_of(states.variables["params"]) + 2  # loss and error
    # Forward and backward, but for the gradient with respect to the images.
    assert len(convolutions(text)) == 5
    assert len(lines(text, "while")) == LOOPS


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "batch", "layers", "loops", "shortcuts"),
    [
        ("VGG11bn", 128, 8, LOOPS, ()),
        ("ResNet18", 512, 20, LOOPS, (128, 256, 512)),
        ("resnet50", 256, 53, 1, (256, 512, 1024, 2048)),
    ],
)
def test_batch_norm_adds_statistics_to_what_is_sent(name, batch, layers, loops, shortcuts):
    program = programs.training(chips("v5e:2x2"), name, batch)
    memory, text = compiled(program)
    states, *_ = program.arguments
    assert memory.alias_size_in_bytes >= size_of(states, 4)
    assert all(" all-reduce" in line for line in collectives(text))
    norms = len(jax.tree.leaves(states.variables["batch_stats"])) // 2  # a mean and a variance each
    sent = sum(sum(sizes(line)) for line in collectives(text))
    gradients = size_of(states.variables["params"]) + 2
    statistics = size_of(states.variables["batch_stats"])  # forward, and their gradients backward
    # The two batch-norms that a block adds up have one gradient of their shifts, sent once.
    assert sent == gradients + 2 * statistics - sum(shortcuts)
    # Each norm sends its mean and variance together, and so their gradients.
    assert len(collectives(text)) <= 1 + 2 * norms
    assert len(convolutions(text)) == 3 * layers - 1
    assert len(lines(text, "while")) == loops


@pytest.mark.parametrize(
    ("name", "batch", "layers"),
    [
        ("LeNet", 50, 2),
        pytest.param("resnet50", 32, 53, marks=pytest.mark.slow),
        pytest.param("vgg16", 32, 13, marks=pytest.mark.slow),
    ],
)
def test_a_measurement_convolves_images_and_their_copies_once(name, batch, layers):
    program = programs.measurement(chips("v5e:2x2"), name, batch)
    memory, text = compiled(program)
    _, reference, *_ = program.arguments
    assert memory.alias_size_in_bytes >= size_of(program.donated, 4)
    assert len(convolutions(text)) == 2 * layers
    # Sent are only the sums over images of the representations.
    assert sum(sum(sizes(line)) for line in collectives(text)) == size_of(reference)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("topology", "temporaries"), [("v5e:2x2", 0.7), ("v6e:2x2", 0.7), ("v5p:2x2x1", 2)]
)
def test_a_sweep_trains_in_place_and_without_communication(topology, temporaries):
    program = programs.sweep(chips(topology))["advance"]
    memory, text = compiled(program)
    assert memory.alias_size_in_bytes >= size_of(program.donated, 4) / 4
    # Among them weights in bfloat16; on a v5p they are as large as two copies of the state.
    assert memory.temp_size_in_bytes < temporaries * memory.alias_size_in_bytes
    assert not collectives(text)


def test_a_look_at_a_sweep_neither_communicates_nor_copies_the_weights():
    memory, text = compiled(programs.sweep(chips("v5e:2x2"))["look"])
    assert memory.temp_size_in_bytes + memory.output_size_in_bytes < 2**22
    assert not collectives(text)


@pytest.mark.slow
def test_seeds_take_all_chips_of_a_slice_which_refuses_some():
    def start(devices):
        return programs.sweep(devices, width=8, train_points=64, validation_points=16)["start"]

    slice_of_32 = chips("v5e:4x8")
    compiled(start(slice_of_32))
    with pytest.raises(jax.errors.JaxRuntimeError, match="all slice devices"):
        compiled(start(slice_of_32[:10]))
