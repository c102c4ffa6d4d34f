"""Rows of users' files: the same rows from every kind of file, and each odd one with its place and reason."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from softprior.errors import UserError
from softprior.inputs.data_files import Malformed
from softprior.inputs.row_files import rewritten, rows

ROWS = [{"a": "one, two", "b": 'said "no"'}, {"a": "first\nsecond", "b": "ä"}, {"a": "3", "b": ""}]

CSV = 'a,b\r\n"one, two","said ""no"""\r\n"first\r\nsecond",ä\r\n\r\n3,\r\n'


def reasons(path: Path) -> list[tuple[str, str]]:
    return [(at, value.reason) for at, value in rows(path) if isinstance(value, Malformed)]


@pytest.mark.parametrize("name", ["t.csv", "t.csv.gz", "t.jsonl", "t.json", "t.parquet"])
def test_every_kind_of_file_has_the_same_rows(tmp_path: Path, name: str) -> None:
    """The CSV has a byte-order mark, Windows line ends, a blank line and a line break in quotes."""
    path = tmp_path / name
    if name.startswith("t.csv"):
        packed = gzip.compress if name.endswith(".gz") else bytes
        path.write_bytes(packed(b"\xef\xbb\xbf" + CSV.encode()))
    elif name == "t.jsonl":
        path.write_text("\n".join(map(json.dumps, ROWS)), encoding="utf-8-sig")
    elif name == "t.json":
        path.write_text(json.dumps(ROWS, indent=2), encoding="utf-8")
    else:
        pq.write_table(pa.Table.from_pylist(ROWS), path)
    assert [value for _, value in rows(path)] == ROWS


def test_what_separates_by_tabs_has_no_quotes(tmp_path: Path) -> None:
    path = tmp_path / "t.tsv"
    path.write_text('a\tb\nthe "end\tof it\n', encoding="utf-8")
    assert [value for _, value in rows(path)] == [{"a": 'the "end', "b": "of it"}]


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        (
            "t.csv",
            "a;b\n1;2,5\n",
            "commas, but the first line of .* has semicolons; write it again with commas",
        ),
        ("t.csv", '\n"a, long";"b"\n1;2\n', r"semicolons; .* \(in pandas: read_csv\(FILE, sep=';'\), then"),
        ("t.csv", "a|b\n1|2\n", r"vertical bars; .* to_csv\(FILE, sep=',', index=False\)\)"),
        ("t.csv", "a\tb\n1\t2\n", r"has tabs; rename it to \.tsv$"),
        (
            "t.tsv",
            "a,b\n1,2\n",
            r"separated by tabs, but the first line of .* has commas; rename it to \.csv$",
        ),
    ],
)
def test_another_separator_is_named_with_the_remedy(tmp_path: Path, name: str, text: str, said: str) -> None:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=said):
        list(rows(path))


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        (
            "t.csv",
            b"a,b\r1,2\r",
            "lines must end with line feeds, but those of .* with carriage returns alone",
        ),
        (
            "t.jsonl",
            b'{"a": 1}\r{"a": 2}\r',
            r"carriage returns alone; convert it, such as with tr '\\r' '\\n'",
        ),
        ("t.csv", b'{"a": 1, "b": 2}\n', r"is JSON and not names of columns; rename it to \.jsonl"),
        (
            "t.csv",
            b"PK\x03\x04,\xff\n1,2\n",
            "the first line of .* is not text in UTF-8; save the table as CSV",
        ),
    ],
)
def test_a_file_of_another_kind_says_what_to_do(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(UserError, match=said):
        list(rows(path))


def test_a_single_column_may_have_any_character(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("a\n1;2\n", encoding="utf-8")
    assert [value for _, value in rows(path)] == [{"a": "1;2"}]


def test_odd_rows_of_csv_are_named_by_the_line_where_they_begin(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text('a,b\n"x\ny",1\nonly\n1,2,3\n5,6\n"never closed,7\n8,9\n', encoding="utf-8")
    assert reasons(path) == [
        ("line 4", "1 fields, but the first line names 2 columns"),
        ("line 5", "3 fields, but the first line names 2 columns"),
        ("line 7", "a quote that begins here is never closed, and the rest of the file is lost"),
    ]
    assert [value for _, value in rows(path) if isinstance(value, dict)] == [
        {"a": "x\ny", "b": "1"},
        {"a": "5", "b": "6"},
    ]


def test_behind_an_error_in_csv_no_piece_of_a_field_is_taken_for_a_row(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    for text, at in (('a,b\n1,2\n"x"y\nz",1\n3,4\n', "line 3"), ('"a"c,b\n1,2\n3,4\n', "line 1")):
        path.write_text(text, encoding="utf-8")
        assert reasons(path) == [
            (at, "not valid CSV (',' expected after '\"'), and the rest of the file is lost")
        ]
        assert [value for _, value in rows(path)][:-1] == [{"a": "1", "b": "2"}] * (at == "line 3")


def test_a_row_that_takes_others_into_a_quote_says_how_far(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text('a,b\n"open,1\n2,3\n4,"\n5,6\n', encoding="utf-8")
    assert reasons(path) == [
        (
            "line 2",
            "1 fields, but the first line names 2 columns; it goes on to line 4, as a quote is closed there",
        )
    ]


def test_a_field_may_be_long(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text('a,b\n"' + "so\n" * 100_000 + '",1\n', encoding="utf-8")
    assert [len(value["a"]) for _, value in rows(path) if isinstance(value, dict)] == [300_000]


def test_numbers_are_texts_as_they_are_written(tmp_path: Path) -> None:
    """JSON's as in the file, those of single precision with as few digits as tell them apart."""
    line = '{"a": 1.50, "b": [1e3, 2], "c": 0.10000000149}'
    for name, text in (("t.jsonl", line), ("t.json", f"[{line}]")):
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        row: Any
        ((_, row),) = rows(path)
        assert [str(row["a"]), *map(str, row["b"]), str(row["c"])] == ["1.50", "1e3", "2", "0.10000000149"]
        assert row == json.loads(line)
        assert rewritten(path)
        path.write_text(text.replace("1.50", "1.5").replace("1e3", '"1e3"'), encoding="utf-8")
        assert not rewritten(path), "it was read so before"
    table = pa.table({"a": pa.array([0.1, None], pa.float32()), "b": pa.array([0.1, 1.0], pa.float64())})
    pq.write_table(table, tmp_path / "t.parquet")
    found: list[Any] = [value for _, value in rows(tmp_path / "t.parquet")]
    assert [(str(row["a"]), str(row["b"])) for row in found] == [
        ("0.1", "0.1"),
        ("None", "1.0"),
    ]
    assert rewritten(tmp_path / "t.parquet")
    pq.write_table(table.select(["b"]), tmp_path / "double.parquet")
    assert not rewritten(tmp_path / "double.parquet")


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("t.xlsx", b"x", r"rows cannot be read from .*t.xlsx, only from .jsonl, .json, .csv"),
        ("t.parquet.gz", b"x", "rows cannot be read from"),
        ("t.CSV", b"x", "write the ending in small letters"),
        ("t.csv", "a,b\n1,2\n".encode("utf-16"), "text must be UTF-8, but .*t.csv is UTF-16"),
        ("t.csv", b"a,b,a\n1,2,3\n", "names the column 'a' twice"),
        ("t.json", b'[{"a": 1}', "t.json is not valid JSON"),
        ("t.parquet", b"PAR1", "is damaged or not a Parquet file"),
    ],
)
def test_a_file_that_is_none_is_refused(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(UserError, match=said):
        list(rows(path))


def test_a_table_with_two_columns_of_one_name_is_refused(tmp_path):
    """CSV's header is refused too; a reader would take one of them and say nothing."""
    path = tmp_path / "t.parquet"
    table = pa.Table.from_arrays([pa.array(["one"]), pa.array(["two"])], names=["text", "text"])
    pq.write_table(table, path)
    with pytest.raises(UserError, match="has the column 'text' twice; rename one of them"):
        list(rows(path))


def test_a_structure_with_two_members_of_one_name_costs_who_reads_it(tmp_path):
    path = tmp_path / "t.parquet"
    one, two = pa.array([1]), pa.array([2])
    inside = pa.StructArray.from_arrays([one, two], names=["a", "a"])
    pq.write_table(pa.Table.from_arrays([pa.array(["text"]), inside], names=["text", "s"]), path)
    ((_, row),) = rows(path)
    assert row["text"] == "text"
    assert "'s' cannot be read (" in row["s"].reason
    assert "duplicate field names" in row["s"].reason


def test_a_number_of_too_many_digits_costs_who_reads_it_in_a_list_too(tmp_path):
    path = tmp_path / "t.json"
    path.write_text('[{"text": "one", "n": ' + "9" * 5000 + '}, {"text": "two", "n": 1}]')
    first, second = (row for _, row in rows(path))
    assert (first["text"], first["n"]) == ("one", Malformed("a number has more than 4,300 digits"))
    assert second == {"text": "two", "n": 1}
