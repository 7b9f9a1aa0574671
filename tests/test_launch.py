"""The launch scripts, and the notebook."""

import os
import pathlib
import subprocess
import sys

import nbformat
import pytest
import yaml
from nbclient import NotebookClient

ROOT = pathlib.Path(__file__).parents[1]
LAUNCH = ROOT / "launch"
FLAGS = ["--config=configs/task2.py:laptop", "--workdir=runs/a b"]
TPU = {
    "PROJECT": "p",
    "ZONE": "us-west4-a",
    "TPU": "t",
    "ACCELERATOR": "v5litepod-16",
    "BUCKET": "b",
}


def shown(*command, **variables):
    """Returns the commands that a script prints with --dry-run."""
    environment = os.environ | {"PYTHON": sys.executable} | variables
    done = subprocess.run(
        [LAUNCH / command[0], "--dry-run", *command[1:]],
        env=environment, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_flags_reach_the_workers_of_a_tpu_pod_unchanged():
    run = shown("tpu_pod.sh", "run", *FLAGS, **TPU)
    # The local shell must pass one command to the workers, and their shells one word per flag.
    [words] = subprocess.run(
        ["bash", "-c", f"set -- {run.strip()}; printf '%s' \"${{@: -1}}\""],
        capture_output=True,
        text=True,
    ).stdout.splitlines()
    script = words.removeprefix("--command=").replace("cd relstab", "true")
    script = script.replace(".venv/bin/python", "printf '%s\\n'")
    flags = subprocess.run(["bash", "-c", script], capture_output=True, text=True).stdout
    assert flags.splitlines() == ["-u", "-m", "relstab_jax.main", "--distributed", *FLAGS]


def test_skypilot_starts_a_process_per_node():
    task = yaml.safe_load((LAUNCH / "skypilot.yaml").read_text())
    script = task["run"].replace(".venv/bin/python", "echo")
    nodes = {"SKYPILOT_NODE_IPS": "10.0.0.1\n10.0.0.2", "SKYPILOT_NODE_RANK": "1"}
    for number, expected in (
        ("1", "-u -m relstab_jax.main --config=c --workdir=w"),
        (
            "2",
            "-u -m relstab_jax.main --config=c --workdir=w "
            "--coordinator=10.0.0.1:12355 --processes=2 --process=1",
        ),
    ):
        variables = nodes | {"SKYPILOT_NUM_NODES": number, "ARGUMENTS": "--config=c --workdir=w"}
        done = subprocess.run(
            ["bash", "-c", script], env=os.environ | variables, capture_output=True, text=True
        )
        assert done.stdout.strip() == expected


def test_a_sweep_starts_a_job_for_each_run_that_has_not_ended(tmp_path):
    grid = tmp_path / "grid.txt"
    run = "--config=configs/cifar10.py:LeNet --config.noise="
    grid.write_text(f"# a sweep\n{run}10\n{run}30 --config.seeds=0,1\n")
    first, second = shown("sweep.sh", "slurm", str(grid), "--time=1:00:00").splitlines()
    assert first.startswith("sbatch --job-name=cifar10-LeNet-noise-10 --time=1:00:00")
    assert "--config.noise=10" in first
    assert "--workdir=runs/grid/cifar10-LeNet-noise-30-seeds-0-1" in second.replace("\\", "")


def test_what_an_accelerator_shows_goes_on_where_it_was_cut_off(tmp_path):
    folder, failing = tmp_path / "what it showed", tmp_path / "failing"
    python = tmp_path / "python"  # instead of hours on a device: prints its arguments
    python.write_text(f'#!/bin/bash\nprintf "%s|" "$@"; echo; [[ $1 == -c || ! -e {failing} ]]\n')
    python.chmod(0o755)

    def run(*parts):
        return subprocess.run(
            [LAUNCH / "on_accelerator.sh", folder, *parts],
            env=os.environ | {"PYTHON": str(python)}, capture_output=True, text=True, timeout=60,
        )  # fmt: skip

    failing.touch()
    cut_off = run("check", "task2")
    assert cut_off.returncode == 1
    assert "failed or cut off: check task2; run it again to go on" in cut_off.stderr
    failing.unlink()
    assert run("check").returncode == 0
    assert (
        "|-m|slow or not slow|tests/accelerators/test_device.py|"
        in (folder / "check.txt").read_text()
    )
    done = run("check", "task2", "torch")
    assert done.returncode == 0
    assert "check has ended before" in done.stdout
    ran = (folder / "task2.txt").read_text().strip().split("|")
    assert f"--workdir={folder}/runs/task2" in ran
    assert "--config=configs/task2.py" in ran
    assert len((folder / "torch.txt").read_text().splitlines()) == 3
    for wrong in (run("tasks"), run("resnet50")):
        assert wrong.returncode != 0
    assert "unknown part tasks" in run("tasks").stderr
    assert "set IMAGES to a folder of photographs" in run("resnet50").stderr
    assert "--widths 1000" in shown("on_accelerator.sh", str(tmp_path / "new"), "torch")
    assert not (tmp_path / "new").exists()


@pytest.mark.slow
def test_the_notebook_runs_from_top_to_bottom(tmp_path):
    for name in ("configs", "figures", "relstab_jax", "tests"):
        (tmp_path / name).symlink_to(ROOT / name)
    notebook = nbformat.read(LAUNCH / "colab.ipynb", as_version=4)
    kept = [cell.get("outputs") for cell in notebook.cells]
    client = NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}})
    client.execute()
    for before, cell in zip(kept, notebook.cells, strict=True):
        if cell.cell_type == "code":
            kinds = [output.output_type for output in cell.outputs]
            # A stream may be split into several outputs.
            assert set(kinds) == {output.output_type for output in before}, cell.source
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert any("exponents in A_k over" in output.get("text", "") for output in outputs)
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 3
