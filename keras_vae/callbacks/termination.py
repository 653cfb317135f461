"""SIGTERM, by which a machine says that it will be taken away."""

from __future__ import annotations

import signal
import sys
import threading
from types import FrameType
from typing import Any, NoReturn

# What shells report of a process that SIGTERM has ended.
EXIT_CODE = 128 + signal.SIGTERM


class Termination:
    """Notes that SIGTERM has come, in the place of ending the process at once.

    Python hears of signals in its main thread alone; in another, nothing is installed.

    Attributes:
        asked: Whether it has come since `install`.
    """

    def __init__(self) -> None:
        self.asked = False
        self._installed = False
        self._before: Any = None

    def install(self) -> None:
        """Begins to listen."""
        self.asked = False
        if not self._installed and threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGTERM, self._note)
            self._installed = True

    def remove(self) -> None:
        """Gives the signal back to whoever had it."""
        if self._installed and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self._before or signal.SIG_DFL)
            self._installed = False

    def leave(self, message: str) -> NoReturn:
        """Ends the process with a message, after whatever else had listened to the signal."""
        self.remove()
        print(message, file=sys.stderr, flush=True)
        if callable(self._before):
            self._before(signal.SIGTERM, None)
        raise SystemExit(EXIT_CODE)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.asked = True
