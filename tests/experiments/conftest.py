import signal

import pytest

from relstab_jax.training.metrics import MetricsLog


@pytest.fixture
def looks(monkeypatch):
    """The looks that runs write; after the second, the process gets SIGTERM."""
    lines = []
    write = MetricsLog.write

    def write_and_signal(self, line):
        write(self, line)
        lines.append(line)
        if len(lines) == 2:
            signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(MetricsLog, "write", write_and_signal)
    return lines
