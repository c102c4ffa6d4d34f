"""docs/performance.md says what the kept results say."""

from __future__ import annotations

from benchmarks.page import PAGE, renewed
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
