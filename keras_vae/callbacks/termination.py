"""Handles SIGTERM, which announces that the machine is about to be taken away."""

from __future__ import annotations

import signal
import sys
import threading
from types import FrameType
from typing import Any, NoReturn

# What shells report for a process that was ended by SIGTERM.
EXIT_CODE = 128 + signal.SIGTERM


class Termination:
    """Notes that SIGTERM has arrived, instead of ending the process at once.

    Python receives signals only in its main thread; in any other thread, nothing is installed.

    Attributes:
        asked: Whether the signal has arrived since `install`.
    """

    def __init__(self) -> None:
        self.asked = False
        self._installed = False
        self._before: Any = None

    def install(self) -> None:
        """Starts listening for the signal."""
        self.asked = False
        if not self._installed and threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGTERM, self._note)
            self._installed = True

    def remove(self) -> None:
        """Restores the previous handler of the signal."""
        if self._installed and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self._before or signal.SIG_DFL)
            self._installed = False

    def leave(self, message: str) -> NoReturn:
        """Ends the process with a message, after calling the previous handler of the signal."""
        self.remove()
        print(message, file=sys.stderr, flush=True)
        if callable(self._before):
            self._before(signal.SIGTERM, None)
        raise SystemExit(EXIT_CODE)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.asked = True
