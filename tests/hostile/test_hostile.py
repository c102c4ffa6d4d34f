"""Bad input by the hundred: each gets a sentence or right handling, and nothing else happens."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

from tests.hostile.command_lines import LINES
from tests.hostile.corpus import CORPUS
from tests.hostile.harness import Case, assert_one_sentence, check, limited, tree

PAGE = Path(__file__).parents[2] / "docs" / "reliability.md"


def test_the_page_counts_them() -> None:
    counts = {kind: len(cases) for kind, cases in CORPUS.items()} | {"command lines": len(LINES)}
    rows = [f"| {kind} | {count} |" for kind, count in counts.items()]
    table = "\n".join(["| bad input | number |", "|---|---|", *rows, f"| all | {sum(counts.values())} |"])
    assert f"\n{table}\n" in PAGE.read_text(encoding="utf-8"), table


@pytest.mark.parametrize(
    "case",
    [pytest.param(case, id=f"{kind}: {case.name}") for kind, cases in CORPUS.items() for case in cases],
)
def test_bad_input_gets_a_sentence_or_right_handling(case: Case, tmp_path: Path) -> None:
    check(case, tmp_path)


@pytest.mark.parametrize(
    ("command", "arguments"),
    [pytest.param(*line, id=f"{line[0]} {' '.join(line[1])[:40]!a}") for line in LINES],
)
def test_a_bad_command_line_ends_with_a_sentence(
    command: str,
    arguments: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """argparse ends with its own usage and sentence; all others are printed as `error: ...`."""
    monkeypatch.chdir(tmp_path)
    main = importlib.import_module(command).main
    with limited():
        try:
            status = main(arguments)
        except SystemExit as left:
            status = left.code
    said = capsys.readouterr()
    assert status == 2, said
    assert said.err.splitlines()[-1].count("error: ") == 1
    assert_one_sentence(said.err.splitlines()[-1])
    assert tree(tmp_path) == set()
