"""JSON files of our own that end with a digest of what stands before it, so that a changed bit is found."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from softprior.errors import UserError
from softprior.inputs.base import parsed_json
from softprior.results.files import json_text, write_atomically
from softprior.results.storage import Location

DIGEST = "digest"
"""The last member of such a file: 64 bits of SHA-256, in hexadecimal digits."""

_BEFORE, _BEHIND = f',\n "{DIGEST}": "', '"\n}\n'
_LENGTH = len(_BEFORE) + 16 + len(_BEHIND)

_ALIKE = 3
"""Most bytes beside a digest that may have changed for it to be recognised as one."""


class ChangedError(ValueError):
    """The content of a file does not agree with its digest."""


def write_digested(path: Location, value: Mapping[str, object]) -> None:
    """Writes a JSON object that is not empty, atomically; NaN and infinite values become null.

    Raises:
        ValueError: it has a member of the name `digest`.
    """
    if DIGEST in value:
        raise ValueError(f"'{DIGEST}' is a name that the file uses itself; choose another")
    text = json_text(value).removesuffix("\n}\n")
    whole = text + _BEFORE + _digest(text.encode()) + _BEHIND
    write_atomically(path, lambda temporary: temporary.write_bytes(whole.encode()))


def digested_text(path: Location) -> str:
    """The JSON text of such a file, without its digest.

    The text of a file without a digest, which an older version has written, is as it is.

    Raises:
        ChangedError: it is not as it was written.
        ValueError: it is not UTF-8.
    """
    content = path.read_bytes().rstrip(b"\r\n") + b"\n"  # an editor may add an empty line at the end
    own, end = content[:-_LENGTH], content[-_LENGTH:]
    expected = _BEFORE + _digest(own) + _BEHIND
    around = [*range(len(_BEFORE)), *range(_LENGTH - len(_BEHIND), _LENGTH)]
    if len(end) < _LENGTH or sum(end[i] != ord(expected[i]) for i in around) > _ALIKE:
        return content.decode()
    if end != expected.encode():
        raise ChangedError("it is not as it was written")
    return own.decode() + "\n}\n"


def read_header(
    path: Location, remedy: str = "restore it, or delete it to have it made again"
) -> dict[str, Any]:
    """A JSON object from a file, with or without a digest.

    Args:
        remedy: what to do if it is damaged.

    Raises:
        UserError: the file is not a JSON object, or not as it was written.
    """
    try:
        value = parsed_json(digested_text(path))
    except ChangedError as error:
        raise UserError(f"{path} is damaged: {error}; {remedy}") from None
    except ValueError:
        raise UserError(
            f"{path} is damaged: it is not valid JSON, perhaps because it was cut off; {remedy}"
        ) from None
    except IsADirectoryError:
        raise UserError(f"{path} is a folder, but a file is expected there; {remedy}") from None
    if not isinstance(value, dict):
        raise UserError(f"{path} is damaged: it must contain a JSON object; {remedy}")
    if DIGEST in value:
        raise UserError(
            f"{path} is damaged: another program has written it anew, and its digest no longer fits; {remedy}"
        )
    return value


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]
