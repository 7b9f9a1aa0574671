import os
import pathlib
import subprocess
import sys
import time

import pytest
from ml_collections import ConfigDict

from relstab_jax.runs import folder, listing
from relstab_jax.training.interruption import Interrupted
from relstab_jax.training.metrics import METRICS

ROOT = pathlib.Path(__file__).parents[2]


def test_every_state_of_a_run_is_listed(make_run, tmp_path):
    make_run("a/ended")
    stopped = make_run("b/stopped", Interrupted(15))
    (stopped / METRICS).write_text(
        '{"epoch": 1, "validation_error": [0.5, 0.5]}\n'
        '{"epoch": 2, "validation_error": [0.25, 0.5]}\n{"epoch"'
    )
    make_run("c/failed", ValueError("out of memory"))
    with subprocess.Popen([sys.executable, "-c", ""]) as gone:
        pass
    make_run("d/killed", state="running", process=gone.pid)
    make_run("e/running", state="running")
    make_run("f/elsewhere", state="running", host="another", process=1)
    folder.claim(tmp_path / "g", ConfigDict({"field": 1}))
    runs = listing.find(tmp_path)
    assert [run.state for run in runs] == [
        *("ended", "stopped", "failed", "killed", "running", "running", "unknown")
    ]
    assert runs[1].message == "stopped by SIGTERM"
    assert runs[1].epoch == 2
    assert runs[1].error == "0.3750 (validation)"
    lines = listing.table(runs).splitlines()
    assert len(lines) == 1 + 7 + 2
    assert lines[4].startswith("failed")
    assert lines[5].strip() == "out of memory"


def test_a_run_without_heartbeat_is_listed_as_killed(make_run, tmp_path):
    lost = make_run("lost", state="running", host="another", process=1)
    assert [run.state for run in listing.find(tmp_path)] == ["running"]
    long_ago = time.time() - 2 * listing.LOST_SECONDS
    for path in lost.iterdir():
        os.utime(path, (long_ago, long_ago))
    assert [run.state for run in listing.find(tmp_path)] == ["killed"]


def test_the_command_lists_runs(make_run, tmp_path, monkeypatch):
    make_run("task2-smoke")

    command = [sys.executable, "-m", "relstab_jax.runs", tmp_path]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert f"{tmp_path}/task2-smoke" in done.stdout, done.stderr
    monkeypatch.setattr(sys, "argv", ["runs", str(tmp_path / "none")])
    with pytest.raises(SystemExit, match="error: no runs in"):
        listing.main()
