"""What a user is told when something is wrong, without the passwords that addresses may contain."""

from __future__ import annotations

import difflib
import errno
import os
import re


class UserError(Exception):
    """Something the user can mend: the rule, the value received and the remedy, in one sentence.

    Entry points print the sentence without a traceback and exit with status 2. Passwords in addresses are
    hidden in it, and it can be printed anywhere, whatever names and texts of files are in it.
    """

    def __init__(self, sentence: str) -> None:
        super().__init__(_on_one_line(hidden(sentence)))


class InUseError(UserError):
    """Another process works in the results folder, and the study's MLflow runs are its affair."""


class HostLostError(Exception):
    """What held the model is gone, and nothing of the request was done; the next one starts it anew."""


_LONGEST = 1000
"""Characters of a single word that a sentence shows whole."""

_BREAKS = re.compile(r"[\t\n\v\f\r\x1c-\x1e\x85\u2028\u2029]+")
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_ENDLESS = re.compile(rf"(\S{{100}})\S{{{_LONGEST - 200},}}(\S{{100}})")


def _on_one_line(text: str) -> str:
    """The text without line breaks, control characters, halves of characters and endless words."""
    shown = _UNPRINTABLE.sub(lambda found: f"\\u{ord(found.group()):04x}", _BREAKS.sub(" ", text))
    return _ENDLESS.sub(r"\1...\2", shown)


LONGEST = 200
"""Characters of a value from a user's file or command that a sentence shows."""


def shortened(value: object) -> str:
    """A value as a text that is not longer than a sentence can show."""
    text = str(value)
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..."


FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
"""Errors of a full file system."""


def full_disk(error: Exception) -> str | None:
    """The system's message if an error comes from a full file system; None otherwise."""
    return next((os.strerror(code) for code in system_codes(error) if code in FULL), None)


def system_codes(error: Exception) -> list[int]:
    """The system's error numbers in an error; Python writes `[Errno 28]`, safetensors `(os error 28)`."""
    found = re.findall(r"\[Errno (\d+)\]|\(os error (\d+)\)", str(error))
    return [int(first or second) for first, second in found]


SHOWN = 16
"""Names that one sentence lists at most."""


class LeftOutWarning(UserWarning):
    """What a figure or a table does not show, and why; commands print it as a note."""


def a_kind(value: object) -> str:
    """What a value is, for a sentence: `an int`."""
    name = type(value).__name__
    return "None" if value is None else f"{'an' if name[0] in 'aeiouAEIOU' else 'a'} {name}"


def suggestion(word: str, known: list[str], files: bool = False, within: str = "") -> str:
    """The remedy for an unknown name: the closest known one, if any is close, and the whole choice.

    Args:
        files: whether these are names of files, which endings make alike.
        within: what leads to the names in a study file, as `training.`.
    """
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.75 if files else 0.6)
    here = OTHER_NAMES.get(word)
    meant = here if here is not None and here.partition(".")[0] in known else next(iter(close), None)
    start = f"did you mean '{within}{meant}'? Known" if meant else "known"
    names = sorted(known)
    more = f", and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"{start}: {', '.join(names[:SHOWN])}{more}"


OTHER_NAMES = {
    "learning_rate": "rates",
    "lr": "rates",
    "epochs": "training.steps",
    "gaussian": "isotropic",
    "normal": "isotropic",
    "random": "isotropic",
    "prompt_tuning": "soft",
    "prefix_tuning": "prefix",
}
"""What other libraries and papers call things, and what they are called here."""


MASK = "***"

_SCHEME = r"\b[A-Za-z][A-Za-z0-9+.-]*:/{1,3}"

_WEB = r"\b(?:https?|s3|gs|hf|ray):/{1,3}"
"""Here a host ends at the first /, so digits in front of that are a port. In a database's address the host is
what follows the last @."""

_PORT = r"\d{1,5}(?:[/?#\s'\",;)]|$)"

_PAIR = re.compile(rf"(?P<front>(?!(?:[\w.-]*\+)?{_WEB}){_SCHEME}[^\s/?#:@'\"]*):[^\s'\"]*@", re.IGNORECASE)
"""`postgresql://USER:PASSWORD@`, up to the last @: a password may contain any character."""

_WEB_PAIR = re.compile(rf"(?P<front>{_WEB}[^\s/?#:@'\"]*):(?!{_PORT})[^\s'\"]*@", re.IGNORECASE)

_BARE = re.compile(
    r"(?P<front>(?<![\w/:.-])(?!hub:)(?!\d)(?!\w+\.[\w.]+:\d{1,4}@)[\w.+%-]+):(?!/)[^\s/@'\"]+@(?=[\w\[])"
)
"""`USER:PASSWORD@HOST`, where the scheme was forgotten; neither `10:30@noon` nor `training.steps:5@x`."""

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

    Applying it twice changes nothing. Whoever needs the address itself takes it from the study file.
    """
    for pattern in (_PAIR, _WEB_PAIR, _BARE):
        text = pattern.sub(rf"\g<front>:{MASK}@", text)
    text = _ALONE.sub(rf"\g<front>{MASK}@", text)
    return _QUERY.sub(rf"\g<front>{MASK}", text)


def hidden_in(value: object) -> object:
    """The same for every text inside JSON values."""
    if isinstance(value, str):
        return hidden(value)
    if isinstance(value, dict):
        return {key: hidden_in(inner) for key, inner in value.items()}
    return [hidden_in(inner) for inner in value] if isinstance(value, list | tuple) else value


def without_mask(address: str) -> str:
    """An address as it was written down, without the masks of its secrets."""
    address = address.replace(f":{MASK}@", "@")
    front, mark, query = address.partition("?")
    kept = "&".join(part for part in query.split("&") if not part.endswith(f"={MASK}"))
    return f"{front}{mark}{kept}" if kept else front
