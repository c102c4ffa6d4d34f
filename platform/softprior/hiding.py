"""Passwords, tokens and keys in addresses, hidden wherever an address is shown or written down."""

from __future__ import annotations

import re
from typing import Any

MASK = "***"

_SCHEME = r"\b[A-Za-z][A-Za-z0-9+.-]*:/{1,3}"

_PAIR = re.compile(rf"(?P<front>{_SCHEME}[^\s/?#:@'\"]*):(?!\d{{1,5}}(?:[/?#\s'\",;)]|$))[^\s'\"]*@")
"""`postgresql://USER:PASSWORD@`, up to the last @: a password may hold any character."""

_BARE = re.compile(r"(?P<front>(?<![\w/:.-])(?!hub:)[\w.+%-]+):(?!/)[^\s/@'\"]+@(?=[\w\[])")
"""`USER:PASSWORD@HOST`, where the scheme was forgotten."""

_ALONE = re.compile(r"(?P<front>\b(?:https?|s3|gs|hf|ray)://)[^\s/?#:@'\"]+@")
"""`https://TOKEN@HOST`: what stands alone in front of a host may be a token; of a database it is a user."""

_QUERY = re.compile(
    r"(?P<front>[?&;][^\s=&;]*(?:pass(?:word|wd|phrase|code)?|pwd|token|secret|key|signature|sig|credential|auth)"
    r"[^\s=&;]*=)[^\s&;'\"#]+",
    re.IGNORECASE,
)
"""`?password=...&token=...`, and the signed addresses of object stores."""


def hidden(text: str) -> str:
    """A text with `***` for every secret in an address: `postgresql://user:***@host/db`.

    Written down twice it stays as it is. Whoever needs the address itself takes it from the study file.
    """
    text = _PAIR.sub(rf"\g<front>:{MASK}@", text)
    text = _BARE.sub(rf"\g<front>:{MASK}@", text)
    text = _ALONE.sub(rf"\g<front>{MASK}@", text)
    return _QUERY.sub(rf"\g<front>{MASK}", text)


def hidden_in(value: Any) -> Any:
    """The same for every text inside of JSON values."""
    if isinstance(value, str):
        return hidden(value)
    if isinstance(value, dict):
        return {key: hidden_in(inner) for key, inner in value.items()}
    return [hidden_in(inner) for inner in value] if isinstance(value, list | tuple) else value


def without_mask(address: str) -> str:
    """An address as it was written down, without what stands for its secrets."""
    address = address.replace(f":{MASK}@", "@")
    front, mark, query = address.partition("?")
    kept = "&".join(part for part in query.split("&") if not part.endswith(f"={MASK}"))
    return f"{front}{mark}{kept}" if kept else front
