"""docs/performance.md says what the kept results say."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from benchmarks.__main__ import header, unfinished
from benchmarks.page import PAGE, Header, found_in, newest, renewed
from benchmarks.result import Result


def test_the_page_is_written_from_the_results() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert page == renewed(page), "run python -m benchmarks --page"


def test_a_goal_is_met_from_its_own_side() -> None:
    row = {"name": "a", "value": 0.4, "unit": "times", "rounds": 1}
    assert Result(**row, goal=0.4).met
    assert not Result(**row, goal=0.5).met
    assert Result(**row, goal=0.5, most=True).met
    assert Result(**row).met is None


def test_the_newest_result_of_a_name_stands_for_its_machine() -> None:
    def on(machine: str, date: str, *values: float) -> tuple[Header, list[Result]]:
        header = Header(
            date=date, machine=machine, load=None, quiet=None, commit=None, versions={}, command="c"
        )
        return header, [Result(name="a", value=value, unit="s", rounds=1) for value in values]

    found = newest([on("new", "3", 3.0), on("other", "2", 2.0), on("new", "1", 1.0)])
    assert [(header.date, result.value) for header, result in found] == [("3", 3.0), ("2", 2.0)]


def test_each_part_of_a_file_has_its_own_header(tmp_path: Path) -> None:
    def head(load: float) -> Header:
        return Header(
            date="1", machine="m", load=load, quiet=True, commit="c", versions={}, command=f"c {load}"
        )

    def result(name: str) -> Result:
        return Result(name=name, value=1.0, unit="s", rounds=1)

    written = [head(0.1), result("a"), result("b"), head(0.4), result("c")]
    path = tmp_path / "results.jsonl"
    path.write_text("".join(json.dumps(asdict(line)) + "\n" for line in written))
    assert found_in(path) == [(head(0.1), [result("a"), result("b")]), (head(0.4), [result("c")])]


def test_what_has_ended_is_not_asked_for_again(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    first = header("step", 3)
    path.write_text(json.dumps(asdict(first)) + "\n")
    asked = {"step": 3, "plan": 3}
    assert unfinished(asked, path) == {"plan": 3}
    assert unfinished({"step": 2}, path) == {"step": 2}, "other rounds are another command"
    assert unfinished(asked, tmp_path / "none.jsonl") == asked
