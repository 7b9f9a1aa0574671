import json
import os
import socket

import pytest

from relstab_jax.errors import InputError
from relstab_jax.runs import state


def test_two_processes_cannot_run_in_one_folder(make_run, monkeypatch):
    monkeypatch.setattr(state, "HEARTBEAT_SECONDS", 0.1)
    monkeypatch.setattr(state, "SILENT_SECONDS", 1)
    workdir = make_run("one")
    for host, process in ((socket.gethostname(), os.getppid()), ("another", 1)):
        with state.recorded(workdir):  # with a heartbeat, like that of the other process
            path = workdir / state.STATE
            other = json.loads(path.read_text()) | {"host": host, "process": process}
            path.write_text(json.dumps(other))
            with pytest.raises(InputError, match=f"process {process} of {host} is running in"):
                state.check_not_running(workdir)
        # Its machine or container is gone, and another process may have its id.
        path.write_text(json.dumps(other | {"state": "running"}))
        state.check_not_running(workdir)
    # This process has the id of an earlier one that was killed.
    monkeypatch.setattr(state, "SILENT_SECONDS", 60)
    state.check_not_running(make_run("own", state="running", process=os.getpid()))
