"""What is heard of long work: a line in a terminal or a notebook, or a function of yours."""

from __future__ import annotations

import logging
import os
import shutil
import sys
import time
import warnings
from typing import Callable, Optional

from ._errors import PolyveilWarning

Progress = Callable[[str, Optional[float], Optional[float]], object]
"""A message, the share that is done (None for a remark), the seconds to go (None where nobody knows)."""

LOG = logging.getLogger("polyveil")
QUIET = 2.0  # seconds before a line is shown


def silent(message: str, fraction: float | None, remaining: float | None) -> None:
    """Hears nothing: ``progress=polyveil.silent``."""


def _in_notebook() -> bool:
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return type(shell).__name__ == "ZMQInteractiveShell"


class Hear:
    """Hears one call. Remarks go to the log ``polyveil`` and to `notes`, warnings are Python's, progress goes to a line, or all to a function."""

    def __init__(self, progress: Progress | None, doing: str):
        self.progress, self.doing = progress, doing
        self.notes: list[str] = []
        self.start = self.shown = time.monotonic()
        self.last, self.width = "", 0
        notebook = _in_notebook()
        self.out = sys.stdout if notebook else sys.stderr
        terminal = self.out is not None and self.out.isatty() and os.environ.get("TERM") != "dumb"
        self.live = progress is None and (notebook or terminal)
        self.pause = 0.5 if notebook else 0.1

    def __enter__(self) -> Hear:
        return self

    def __exit__(self, *_: object) -> None:
        self._write("")

    def __call__(self, message: str | None = None, fraction: float | None = None, remaining: float | None = None) -> None:
        if message is not None and fraction is None:
            self._note(message.strip(), remaining)
        elif message is not None:
            self.last = message.strip()
            if self.progress is not None:
                self.progress(self.last, fraction, remaining)
        now = time.monotonic()
        if self.live and now - self.start >= QUIET and now - self.shown >= self.pause:
            self.shown = now
            self._write(self.last or f"{self.doing}, {now - self.start:.0f} s so far")

    def _note(self, text: str, remaining: float | None) -> None:
        if text.startswith("warning: "):
            warnings.warn(text[len("warning: ") :], PolyveilWarning, stacklevel=4)
        LOG.info(text)
        self.notes.append(text)
        if self.progress is not None:
            self.progress(text, None, remaining)

    def _write(self, text: str) -> None:
        if not self.live or not (text or self.width):
            return
        text = text[: shutil.get_terminal_size().columns - 1]
        self.out.write("\r" + text.ljust(self.width) + ("" if text else "\r"))
        self.out.flush()
        self.width = len(text)
