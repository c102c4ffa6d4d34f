"""docs/performance.md says what the kept results say."""

from __future__ import annotations

from benchmarks.page import PAGE, Header, newest, renewed
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
