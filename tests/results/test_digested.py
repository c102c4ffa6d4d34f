"""JSON and Parquet files of our own: read as they were written, or not at all."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from softprior.errors import UserError
from softprior.inputs.base import Spec
from softprior.results.digested import DIGEST, digested_text, read_header, write_digested
from softprior.results.files import write_json
from softprior.results.tables import load_table, save_table
from tests.results.bits import with_a_bit_changed


class Value(Spec):
    """Something with a number in it."""

    name: str
    losses: tuple[float, ...]


VALUE = Value(name="ä", losses=(1 / 3, 0.125))
TABLE = pa.table({"loss": [1 / 3, None, float("inf")], "task": ["sums", "ä", None], "rows": [[1], [], None]})
HEADER = {"format": 1, "trial": "t"}


@pytest.fixture(scope="module")
def value(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("value") / "value.json"
    write_digested(path, VALUE.model_dump(mode="json"))
    return path


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("table") / "table.parquet"
    save_table(path, TABLE, HEADER)
    return path


def test_what_is_written_is_read_and_others_read_it_too(value: Path, table: Path) -> None:
    assert Value.model_validate_json(digested_text(value)) == VALUE
    assert json.loads(value.read_text()).keys() == {"name", "losses", DIGEST}
    found, header = load_table(table)
    assert found.to_pylist() == TABLE.to_pylist()
    assert found.schema.remove_metadata() == TABLE.schema
    assert header == HEADER


@given(data=st.data())
def test_no_bit_of_a_value_changes(value: Path, data: st.DataObject) -> None:
    with pytest.raises(ValueError, match=r"."):  # of which UnicodeDecodeError and ValidationError are kinds
        Value.model_validate_json(digested_text(with_a_bit_changed(value, data)))


@given(data=st.data())
def test_no_bit_of_a_header_changes(value: Path, data: st.DataObject) -> None:
    """What has no declared members is read as it is."""
    with pytest.raises(UserError, match=r"is damaged: .*; restore it"):
        read_header(with_a_bit_changed(value, data))


@given(data=st.data())
def test_no_bit_of_a_table_changes_unseen(table: Path, data: st.DataObject) -> None:
    """Some bits mean nothing, such as those of statistics that nobody reads."""
    try:
        found, _ = load_table(with_a_bit_changed(table, data))
    except (pa.ArrowException, OSError, ValueError):
        return
    assert found.column_names == TABLE.column_names
    assert found.to_pylist() == TABLE.to_pylist()


def test_a_number_that_somebody_changes_is_found(value: Path, tmp_path: Path) -> None:
    other = tmp_path / "value.json"
    other.write_text(value.read_text().replace("0.125", "0.126"))
    with pytest.raises(ValueError, match="it is not as it was written"):
        digested_text(other)


def test_files_of_older_versions_are_read_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "value.json"
    write_json(path, VALUE.model_dump(mode="json"))
    assert Value.model_validate_json(digested_text(path)) == VALUE


def test_a_digest_that_is_none_is_a_member_too_many(value: Path, tmp_path: Path) -> None:
    other = tmp_path / "value.json"
    other.write_text(value.read_text().replace(f'"{DIGEST}": "', f'"{DIGEST}": "0'))
    with pytest.raises(ValidationError, match=DIGEST):
        Value.model_validate_json(digested_text(other))


def test_a_header_is_a_json_object(tmp_path: Path) -> None:
    path = tmp_path / "study.json"
    path.write_text('{"a": 1}')
    assert read_header(path) == {"a": 1}
    cut = "it is not valid JSON, perhaps because it was cut off"
    for wrong, said in (("", cut), ("[1]", "it must contain a JSON object"), ("{", cut), ("\xff", cut)):
        path.write_text(wrong, encoding="latin-1")
        with pytest.raises(UserError, match=f"is damaged: {said}; restore it"):
            read_header(path)
    write_digested(path, {"a": 1})
    assert read_header(path) == {"a": 1}
    path.write_text(whole := path.read_text().replace("1", "2", 1))
    with pytest.raises(UserError, match="is damaged: it is not as it was written; restore it"):
        read_header(path)
    write_digested(path, {"a": 1})
    whole = path.read_text()
    for ending in ("", "\n\n", "\r\n"):  # as editors write it
        path.write_bytes((whole.rstrip() + ending).encode())
        assert read_header(path) == {"a": 1}
    path.write_text(json.dumps(json.loads(whole)))
    with pytest.raises(UserError, match="another program has written it anew, and its digest no longer fits"):
        read_header(path)


def test_the_name_is_taken(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'digest' is a name that the file uses itself"):
        write_digested(tmp_path / "value.json", {DIGEST: 1})
