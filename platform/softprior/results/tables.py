"""Parquet files of our own, with a digest of their rows, so that a changed bit is found."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from softprior.inputs.base import parsed_json
from softprior.results.files import write_atomically
from softprior.results.storage import Location

KEY = "softprior"
"""Metadata key of the header, which is a JSON object."""

DIGEST = "digest"
"""Member of the header: 64 bits of SHA-256."""


def save_table(path: Location, table: pa.Table, header: Mapping[str, Any] | None = None) -> None:
    """Writes a table atomically.

    Args:
        header: what the file says of itself, as JSON has it.

    Raises:
        ValueError: the header has a member of the name `digest`.
    """
    said = dict(header or {})
    if DIGEST in said:
        raise ValueError(f"'{DIGEST}' is a name that the file uses itself; choose another")
    whole = table.replace_schema_metadata({KEY: json.dumps(said | {DIGEST: _digest(table, said)})})
    write_atomically(path, lambda temporary: pq.write_table(whole, temporary))


def load_table(path: Path) -> tuple[pa.Table, object]:
    """Reads a table and its header without the digest; the header is None if the file has none.

    A file without a digest, which an older version has written, is read as it is.

    Raises:
        ArrowException, OSError: the file is damaged or missing.
        ValueError: it is not as it was written.
    """
    table = pq.read_table(path)
    header = _header(table.schema)
    if isinstance(header, dict):
        digest = header.pop(DIGEST, None)
        if digest is not None and digest != _digest(table, header):
            raise ValueError("it is not as it was written")
    return table, header


def load_header(path: Path) -> object:
    """A file's header alone, which is not compared with its digest.

    Raises:
        ArrowException, OSError: the file is damaged or missing.
        ValueError: the header is.
    """
    return _header(pq.read_schema(path))


def _header(schema: pa.Schema) -> object:
    return parsed_json((schema.metadata or {}).get(KEY.encode(), b"null").decode())


def _digest(table: pa.Table, header: Mapping[str, Any]) -> str:
    """Of what is in the file, in whatever pages: another version of Arrow may write it in other ones."""
    try:
        values = [column.to_pylist() for column in table.columns]
    except OverflowError as error:  # a time that no calendar has
        raise ValueError(str(error)) from None
    content = repr((sorted(header.items()), table.column_names, table.num_rows, values))
    return hashlib.sha256(content.encode()).hexdigest()[:16]
