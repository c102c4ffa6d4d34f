"""docs/performance.md says what the kept results say."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from benchmarks import page
from benchmarks.__main__ import command, unfinished
from benchmarks.page import PAGE, Header, found_in, newest, renewed
from benchmarks.result import Result


def test_the_page_is_written_from_the_results() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert text == renewed(text), "run python -m benchmarks --page"


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


def head(command: str, began: str = "", machine: str = "m") -> Header:
    date = began.partition("T")[0] or "2026-01-01"
    return Header(
        date=date,
        machine=machine,
        load=0.1,
        quiet=True,
        commit="c",
        versions={},
        command=command,
        began=began,
    )


def one(name: str) -> Result:
    return Result(name=name, value=1.0, unit="s", rounds=1)


def write(path: Path, *lines: Header | Result) -> None:
    path.write_text("".join(json.dumps(asdict(line)) + "\n" for line in lines))


def test_each_part_of_a_file_has_its_own_header(tmp_path: Path) -> None:
    first, second = head("first"), head("second")
    write(tmp_path / "results.jsonl", first, one("a"), one("b"), second, one("c"))
    assert found_in(tmp_path / "results.jsonl") == [(first, [one("a"), one("b")]), (second, [one("c")])]


def test_what_was_measured_last_comes_first_whatever_file_it_was_added_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page, "RESULTS", tmp_path)
    old, same, resumed = head("old"), head("same", "2026-01-01T100000"), head("new", "2026-01-03T100000")
    write(tmp_path / "2026-01-01T100000.jsonl", same, one("a"), resumed, one("a"))
    write(tmp_path / "2026-01-02T100000.jsonl", old, one("a"))
    assert [first.command for first, _ in page.kept()] == ["new", "old", "same"]


def test_what_has_ended_here_is_not_asked_for_again() -> None:
    here = ("m", dict[str, str]())
    known = [(head(command("step", 3)), [one("a")]), (head(command("plan", 3)), [])]
    asked = {"step": 3, "plan": 3}
    assert unfinished(asked, known, here) == {"plan": 3}, "a header alone is no result"
    assert unfinished({"step": 2}, known, here) == {"step": 2}, "other rounds are another command"
    for elsewhere in (("another", {}), ("m", {"python": "3"})):
        assert unfinished(asked, known, elsewhere) == asked


@pytest.mark.parametrize("line", ['{"name": "a", "value', "3", '{"name": 1}', '{"machine": 1}'])
def test_a_line_that_is_no_result_is_named(tmp_path: Path, line: str) -> None:
    write(tmp_path / "results.jsonl", head("first"), one("a"))
    with (tmp_path / "results.jsonl").open("a") as file:
        file.write(line)
    with pytest.raises(ValueError, match=r"line 3 of .*results\.jsonl is no result; remove it"):
        found_in(tmp_path / "results.jsonl")
