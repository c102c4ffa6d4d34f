"""Files and folders that a study names: on this machine, or in a bucket and copied into the cache."""

from __future__ import annotations

import hashlib
import json
from functools import lru_cache
from pathlib import Path
from typing import Annotated

from pydantic import PlainSerializer, PlainValidator, WithJsonSchema

from softprior.assets.cache import ensure
from softprior.errors import UserError, suggestion
from softprior.inputs.base import SaysWhere
from softprior.inputs.paths import home_path
from softprior.results.storage import STORES, Location, RemotePath, location


def _named(value: object) -> Location:
    if isinstance(value, Path | RemotePath):
        return value
    if not isinstance(value, str):
        raise ValueError(f"a path must be a string, not {value!r}")
    if "://" not in value:
        return Path(value)
    try:
        return location(value)
    except UserError:
        kinds = " or ".join(f"{store}://BUCKET/FOLDER" for store in STORES)
        raise ValueError(f"'{value}' is neither a path nor {kinds}") from None


Named = Annotated[
    Location,
    PlainValidator(_named),
    PlainSerializer(str, return_type=str),
    WithJsonSchema({"type": "string"}),
    SaysWhere(),
]
"""A path in a spec, kept as it is written, or an address such as s3://BUCKET/FOLDER."""


def here(path: Location) -> Path:
    """What a spec names, as a path on this machine, which need not exist.

    What is in a bucket is copied once, and again if it has changed when a command starts.

    Raises:
        UserError: there is nothing in the bucket, it cannot be reached, or the path begins with the home of a
            user who does not exist.
    """
    return home_path(path) if isinstance(path, Path) else _copied(path)


def here_with(path: RemotePath, other: str) -> Path:
    """The copy of a path in a bucket, with a copy of another path below its parent beside it, if any.

    Raises:
        UserError: as `here`.
    """
    return _copied(path, other)


@lru_cache
def _copied(path: RemotePath, other: str = "") -> Path:
    """The copy of what is at a path, with what is at `other` below its parent (empty: only `path`)."""
    found = path.listing()
    if not found:
        inside = path.uri.count("/") > 2
        beside = {name.split("/")[1] for name, *_ in path.parent.listing()} if inside else set()
        what = suggestion(path.name, sorted(beside)) if beside else "create it first, or correct the address"
        raise UserError(f"there is nothing at {path}; {what}")
    companion = path.parent / other
    others = companion.listing() if other else []
    version = hashlib.sha256(json.dumps([path.uri, found, *others]).encode()).hexdigest()[:16]

    def copy(source: RemotePath, listing: list[tuple[str, int, str]], target: Path) -> None:
        if listing[0][0] == source.name:
            source.download(target)
        else:
            source.download_folder(target)
        if source.listing() != listing:
            raise UserError(f"{source} changed while it was copied; wait until its writer has finished")

    # Under its address, which then stands in what is said of the copy.
    where = f"named/{version}/{path.parent.uri.partition('://')[2]}"
    if others:
        ensure(f"{where}/{other}", lambda target: copy(companion, others, target), shared=False)
    return ensure(f"{where}/{path.name}", lambda target: copy(path, found, target), shared=False)
