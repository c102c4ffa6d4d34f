"""Signals of programs that tests start."""

from __future__ import annotations

import signal


def hear_ctrl_c() -> None:
    """A suite that runs in the background of a script has Ctrl-C switched off, and children inherit it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
