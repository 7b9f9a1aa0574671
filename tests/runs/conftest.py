import json

import pytest
from ml_collections import ConfigDict

from relstab_jax.runs import folder, state


@pytest.fixture
def make_run(tmp_path):
    """Makes the folder of a run that ended, with an error if one is given.

    Further arguments change its state afterwards.
    """

    def make(name, error=None, **changed):
        workdir = tmp_path / name
        folder.claim(workdir, ConfigDict({"field": 1}))
        try:
            with state.recorded(workdir):
                if error:
                    raise error
        except type(error):
            pass
        if changed:
            path = workdir / state.STATE
            path.write_text(json.dumps(json.loads(path.read_text()) | changed))
        return workdir

    return make
