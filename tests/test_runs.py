import json
import os
import socket
import subprocess
import sys
import time

import pytest
from ml_collections import ConfigDict

from relstab_jax import results, runs
from relstab_jax.errors import InputError
from relstab_jax.training.interruption import Interrupted


@pytest.fixture
def run(tmp_path):
    """Makes the folder of a run that is left as an exception leaves it."""

    def make(name, error=None, **state):
        folder = tmp_path / name
        results.claim(folder, ConfigDict({"field": 1}))
        try:
            with runs.noted(folder):
                if error:
                    raise error
        except type(error):
            pass
        if state:
            path = folder / results.STATE
            path.write_text(json.dumps(json.loads(path.read_text()) | state))
        return folder

    return make


def test_runs_are_listed_as_they_stand(run, tmp_path):
    run("a/ended")
    stopped = run("b/stopped", Interrupted(15))
    (stopped / results.METRICS).write_text(
        '{"epoch": 1, "validation_error": [0.5, 0.5]}\n'
        '{"epoch": 2, "validation_error": [0.25, 0.5]}\n{"epoch"'
    )
    run("c/failed", ValueError("out of memory"))
    with subprocess.Popen([sys.executable, "-c", ""]) as gone:
        pass
    run("d/killed", state="running", process=gone.pid)
    run("e/running", state="running")
    run("f/elsewhere", state="running", host="another", process=1)
    results.claim(tmp_path / "g", ConfigDict({"field": 1}))
    found = runs.found(tmp_path)
    assert [run.state for run in found] == [
        *("ended", "stopped", "failed", "killed", "running", "running", "unknown")
    ]
    assert found[1][2:6] == ("stopped by SIGTERM", found[1].command, 2, "0.3750 (validation)")
    lines = runs.table(found).splitlines()
    assert len(lines) == 1 + 7 + 2
    assert lines[4].startswith("failed")
    assert lines[5].strip() == "out of memory"


def test_two_processes_do_not_run_in_one_folder(run, monkeypatch):
    monkeypatch.setattr(runs, "BEAT_SECONDS", 0.1)
    monkeypatch.setattr(runs, "SILENT_SECONDS", 1)
    folder = run("one")
    for host, process in ((socket.gethostname(), os.getppid()), ("another", 1)):
        with runs.noted(folder):  # beats, as the other process would
            path = folder / results.STATE
            state = json.loads(path.read_text()) | {"host": host, "process": process}
            path.write_text(json.dumps(state))
            with pytest.raises(InputError, match=f"process {process} of {host} is running in"):
                runs.check_free(folder)
        # Its host or container is gone, and its number belongs to another process, if to any.
        path.write_text(json.dumps(state | {"state": "running"}))
        runs.check_free(folder)
    # Its own note, of an earlier life under the same number, is no obstacle.
    monkeypatch.setattr(runs, "SILENT_SECONDS", 60)
    runs.check_free(run("own", state="running", process=os.getpid()))


def test_a_run_is_listed_as_killed_once_it_gives_no_sign(run, tmp_path):
    lost = run("lost", state="running", host="another", process=1)
    assert [run.state for run in runs.found(tmp_path)] == ["running"]
    long_ago = time.time() - 2 * runs.LOST_SECONDS
    for path in lost.iterdir():
        os.utime(path, (long_ago, long_ago))
    assert [run.state for run in runs.found(tmp_path)] == ["killed"]


def test_the_command_lists_runs(run, tmp_path, capsys, monkeypatch):
    run("task2-smoke")
    monkeypatch.setattr(sys, "argv", ["runs", str(tmp_path)])
    runs.main()
    assert f"{tmp_path}/task2-smoke" in capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", ["runs", str(tmp_path / "none")])
    with pytest.raises(SystemExit, match="error: there is no run in"):
        runs.main()
