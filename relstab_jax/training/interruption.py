"""Orderly stops: a signal asks a run to save its state and exit."""

import signal
from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Interrupted(Exception):
    """Raised where a run stops on a signal, after its state has been saved."""

    def __init__(self, number: int):
        super().__init__(f"stopped by {signal.Signals(number).name}")
        self.exit_code = 128 + number


class Interruption:
    """Context manager that records SIGTERM or SIGINT; a second signal acts as it would outside.

    Attributes:
        number: of the signal received, or 0.
    """

    def __enter__(self) -> "Interruption":
        self.number = 0
        self._before = {s: signal.signal(s, self._note) for s in SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for s, handler in self._before.items():
            signal.signal(s, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.number = number
        signal.signal(number, self._before[signal.Signals(number)])
