"""Stopping at a step's end when asked to: Ctrl-C, a scheduler's SIGTERM, or SIGUSR1 before a time limit."""

import logging
import signal
from types import FrameType
from typing import Any

logger = logging.getLogger(__name__)

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
EXIT_CODE = 75  # "try again": saved, and to be continued by the same command


class Interruption:
    """While entered, the signals only set `asked`; a second Ctrl-C stops at once."""

    def __init__(self) -> None:
        self.asked = False
        self.previous: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "Interruption":
        for number in SIGNALS:
            self.previous[number] = signal.signal(number, self._ask)
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self.previous.items():
            signal.signal(number, handler)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self.asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.asked = True
        logger.warning("%s: saving after this step, then stopping.", signal.Signals(number).name)


def ignore_signals(worker: int) -> None:
    """Leave a signal that went to the whole group to the run, which saves first and then ends its workers itself."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
