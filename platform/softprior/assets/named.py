"""Files and folders that a study names: of this machine, or in a bucket and copied into the cache."""

from __future__ import annotations

import hashlib
import json
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any

from pydantic import PlainSerializer, PlainValidator, WithJsonSchema

from softprior.assets.cache import ensure
from softprior.errors import UserError, nearest
from softprior.storage import STORES, Location, RemotePath, location


def _named(value: Any) -> Location:
    if isinstance(value, Path | RemotePath):
        return value
    if not isinstance(value, str):
        raise ValueError(f"a path is a text, not {value!r}")
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
]
"""A path in a spec, kept as it is written, or an address as s3://BUCKET/FOLDER."""


def here(path: Location) -> Path:
    """What a spec names, as a path of this machine, where there may be nothing.

    What is in a bucket is copied once, and again where it has changed when a command starts.

    Raises:
        UserError: there is nothing in the bucket, or it cannot be reached.
    """
    return path.expanduser() if isinstance(path, Path) else _copied(path)


@lru_cache
def _copied(path: RemotePath) -> Path:
    found = path.listing()
    if not found:
        inside = path.uri.count("/") > 2
        beside = {name.split("/")[1] for name, *_ in path.parent.listing()} if inside else set()
        what = nearest(path.name, sorted(beside)) if beside else "make it first, or correct the address"
        raise UserError(f"there is nothing at {path}; {what}")
    version = hashlib.sha256(json.dumps([path.uri, found]).encode()).hexdigest()[:16]

    def build(target: Path) -> None:
        if found[0][0] == path.name:
            path.download(target)
        else:
            path.download_folder(target)
        if path.listing() != found:
            raise UserError(f"{path} changed while it was copied; wait until what writes it has ended")

    # Under its address, which then stands in what is said of the copy.
    return ensure(f"named/{version}/{path.uri.partition('://')[2]}", build, shared=False)
