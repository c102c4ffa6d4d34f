"""Tables in narrow windows."""

from __future__ import annotations

import io

import pytest
from rich.console import Console, Group

from analysis.narrow import Column, tables
from analysis.search_tables import best_table, importance_table
from softprior.studies.search.summary import Point, Summary

NAMES = ["fitted(statistics=…/store, task=squad, site=resid.0)", "isotropic"]


def printed(columns: list[Column], width: int) -> list[str]:
    console = Console(width=width, file=io.StringIO())
    console.print(Group(*tables(columns, width)))
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def test_names_wrap_where_words_end_and_numbers_stay() -> None:
    columns = [Column("prior", NAMES, True), Column("moved/reach", ["0.630", "10.002 (9.1 to 11.2)"])]
    assert printed(columns, 200)[2].split("  ")[0] == NAMES[0]
    assert printed(columns, 40) == [
        "prior                        moved/reach",
        "─" * 40,
        "fitted(statistics=                 0.630",
        "…/store,",
        "task=squad,",
        "site=resid.0)",
        "isotropic           10.002 (9.1 to 11.2)",
    ]


def test_what_does_not_fit_goes_below_with_the_first_column() -> None:
    columns = [Column("id", ["a", "b"], True), *(Column(f"c{i}", ["1.234567", "2"]) for i in range(4))]
    columns.append(Column("empty", ["", ""]))
    lines = printed(columns, 24)
    assert max(map(len, lines)) <= 24
    assert [line.split() for line in lines if "c" in line] == [["id", "c0", "c1"], ["id", "c2", "c3"]]
    assert [line.split()[1:] for line in lines if line[0] == "b"] == [["2", "2"]] * 2
    assert tables([Column("id", []), Column("c", [])], 80) == []


@pytest.mark.parametrize("width", [80, 1000])
def test_tables_of_a_search_fit_and_say_once_what_the_best_share(width: int) -> None:
    def point(number: int, neighbours: int) -> Point:
        params = {"priors": "low_density", "priors.low_density.neighbours": neighbours, "rates": 0.0123456}
        ids = tuple(f"{number}{i:015d}"[::-1] for i in range(15))
        return Point(number, "complete", (1.5, 20.0), {**params, "methods": "soft"}, ids, None)

    best = (point(1, 12), point(2, 34))
    shares = {"priors.low_density.neighbours": 0.75, "rates": 0.25}
    summary = Summary(("validation loss", "distance moved"), best, best, (shares, shares), frozenset())
    console = Console(width=width, file=io.StringIO(), highlight=False)
    console.print(best_table(summary, "search: lowest", width))
    console.print(importance_table(summary, width))
    said = console.file.getvalue()
    assert max(map(len, said.splitlines())) <= width
    assert said.splitlines()[1].startswith("all with priors=low_density, rates=0.01235, methods=soft")
    assert said.count("rates=") == 1
    assert "neighbours=34" in said
    assert "75%" in said
    assert "importance (mostly chance: fewer than 10 finished proposals per parameter)" in " ".join(
        said.split()
    )
    enough = summary._replace(points=best * 10)
    assert not enough.chancy
    console.print(importance_table(enough, width))
    assert console.file.getvalue().count("mostly chance") == 1
    assert all(trial[:6] in said for one in best for trial in one.trials)
