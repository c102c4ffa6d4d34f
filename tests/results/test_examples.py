"""Files of rows per test example: what is written is read, and a file that is not whole is named."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from softprior.errors import UserError
from softprior.results.examples import COLUMNS, ExampleRow, load_examples, rows_of, save_examples, schema

MEASURED = ExampleRow(
    "a", "one", 3, 1 / 3, 2, 2, 0.5, None, "46", {"exact_match": 1.0, "f1": 0.1 + 0.2}, ("46", "§")
)
UNLIKE = ExampleRow("ä", "two", None, None, None, None, None, None, "", {"exact_match": 0.0, "f1": 0.0})
TEXT = ExampleRow("b-0", "b", 127, 300.25, 60, 127, None, 310.5, None, {})
ROWS = {'{"name":"arithmetic"}': [MEASURED, UNLIKE], '{"name":"language"}': [TEXT]}


def test_rows_survive_their_file_to_the_last_bit(tmp_path: Path) -> None:
    path = tmp_path / "examples" / "t.parquet"
    save_examples(path, "t", ROWS)
    table = load_examples(path, "t", 3)
    assert table.schema.remove_metadata() == schema(["exact_match", "f1"])
    assert rows_of(table) == ROWS
    assert list(path.parent.iterdir()) == [path]


def test_the_columns_are_frozen(tmp_path: Path) -> None:
    """Documented in docs/results.md; other programs read them."""
    assert [name for name, _ in COLUMNS] == [
        *("task", "example", "group", "tokens", "nll", "correct", "scored", "shuffled_nll", "untrained_nll"),
        *("answer", "expected"),
    ]
    save_examples(tmp_path / "t.parquet", "t", {"x": []})
    assert load_examples(tmp_path / "t.parquet", "t", 0).column_names == [name for name, _ in COLUMNS]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("cut", "is damaged"),
        ("empty", "is damaged"),
        ("foreign", "is not a file of examples of format 1"),
        ("another", "has the examples of trial u, not of t"),
        ("fewer", "has 2 rows, but the trial's record says 3"),
    ],
)
def test_a_file_that_is_not_whole_is_named_with_the_remedy(tmp_path: Path, change: str, said: str) -> None:
    path = tmp_path / "t.parquet"
    save_examples(path, "u" if change == "another" else "t", ROWS)
    if change == "cut":
        path.write_bytes(path.read_bytes()[:-200])
    elif change == "empty":
        path.write_bytes(b"")
    elif change == "foreign":
        pq.write_table(pa.table({"a": [1]}), path)
    elif change == "fewer":
        save_examples(path, "t", {task: rows[:1] for task, rows in ROWS.items()})
    with pytest.raises(UserError, match=said) as error:
        load_examples(path, "t", 3)
    assert str(path) in str(error.value)
    assert "delete the record of trial t to run it again" in str(error.value)
    assert "\n" not in str(error.value)
    path.unlink()
    with pytest.raises(UserError, match=f"there is no file {path} of examples; copy it there"):
        load_examples(path, "t", 3)
