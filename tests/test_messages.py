import io
import logging
import sys

import pytest
import tqdm.autonotebook
import tqdm.notebook
import tqdm.std

from relstab_jax import messages


class Terminal(io.StringIO):
    def isatty(self):
        return True


def bar_on(monkeypatch, stream, **options):
    monkeypatch.setattr(sys, "stderr", stream)
    with messages.progress_bar(total=2, file=stream, **options) as bar:
        bar.update(1)
    return stream.getvalue()


def test_a_library_says_nothing_by_itself(capsys):
    messages.log.handlers.clear()
    messages.log.setLevel(logging.NOTSET)
    messages.log.info("a look")
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(("verbosity", "said"), [(0, "a look\n"), (-1, "")])
def test_warnings_alone_are_left_of_a_quiet_run(verbosity, said, capsys, monkeypatch):
    messages.show(verbosity)
    messages.show(verbosity)  # which prints nothing twice
    another = logging.StreamHandler(sys.stderr)
    logging.getLogger().addHandler(another)
    messages.log.info("a look")
    messages.log.warning("a damaged file")
    assert capsys.readouterr() == (said, "a damaged file\n")
    logging.getLogger().removeHandler(another)
    assert ("50%" in bar_on(monkeypatch, Terminal())) == (verbosity == 0)


def test_a_bar_is_for_terminals_and_notebooks(monkeypatch):
    messages.log.setLevel(logging.NOTSET)
    assert "50%" in bar_on(monkeypatch, Terminal())
    assert not bar_on(monkeypatch, Terminal(), shown=False)
    assert not bar_on(monkeypatch, io.StringIO())
    # In a notebook, whose streams are no terminals.
    monkeypatch.setattr(tqdm.autonotebook, "tqdm", tqdm.notebook.tqdm_notebook)
    assert "50%" in bar_on(monkeypatch, io.StringIO())
