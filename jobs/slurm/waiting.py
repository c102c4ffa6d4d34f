"""The option that says how long Ray may take to start."""

from __future__ import annotations

import argparse


def seconds(text: str) -> int:
    """A whole number of seconds.

    Raises:
        ArgumentTypeError: it is not one, or not positive.
    """
    if not (text.isascii() and text.isdecimal() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"'{text}' must be a positive whole number of seconds, such as 300")
    return int(text)
