"""The header of a statistics file: what it contains, and of which model, task and site."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NotRequired, TypedDict, cast

from safetensors import SafetensorError

from softprior.errors import UserError

FORMAT = 2
"""Version of the layout, in each file's header."""

KEY = "softprior-statistics"
DAMAGED = (SafetensorError, ValueError, KeyError, TypeError, OSError, RecursionError)
"""What is raised on reading a file that is incomplete or not a statistics file."""


class Counts(TypedDict):
    """What a header says about one token class."""

    tokens: int
    documents: int
    sinks: int


class Header(TypedDict):
    """The header of a file. Files of older versions lack what is not required."""

    format: int
    model: str
    task: NotRequired[str]
    site: NotRequired[str]
    classes: dict[str, Counts]
    merged: dict[str, list[str]]
    groups: dict[str, int]
    sample: NotRequired[int]
    documents: NotRequired[int]
    data: NotRequired[str | None]
    prompt: NotRequired[str | None]


def header_of(metadata: dict[str, str], path: Path, model: str | None) -> Header:
    """The header of a file, from its metadata.

    Args:
        model: fingerprint that the statistics must be of; None takes those of any model.

    Raises:
        UserError: it is of another format, model, task or site.
        ValueError, KeyError, TypeError, RecursionError: it is damaged.
    """
    header = cast(Header, json.loads(metadata[KEY]))
    if header["format"] != FORMAT:
        raise UserError(f"{path} is not a statistics file of format {FORMAT} (found: {header['format']})")
    if model is not None and header["model"] != model:
        raise UserError(
            f"{path} contains activations of another model ({header['model'][:12]} instead of "
            f"{model[:12]}); make statistics of this one"
        )
    named = (path.parent.name, path.stem)
    own = (header.get("task", named[0]), header.get("site", named[1]))
    if own != named:
        raise UserError(
            f"{path} contains activations of {own[0]} at {own[1]}; put it back under that name, or make the "
            "statistics again"
        )
    return header
