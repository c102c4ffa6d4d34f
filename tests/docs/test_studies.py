"""Numbers of published studies are those of the files beside them."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from benchmarks.study_numbers import chosen, phrases, split
from benchmarks.study_tables import PAGE, absent, read_verdicts, renewed, split_row, verdict_table
from softprior.library.results import Results

STUDIES = Path(__file__).parents[2] / "docs" / "studies"


def test_tables_of_published_studies_are_made_from_their_trials() -> None:
    page = PAGE.read_text(encoding="utf-8")
    studies = len([path for path in STUDIES.iterdir() if path.is_dir()])
    assert page.count("<!-- study: ") == page.count("<!-- verdicts: ") == studies
    assert renewed(page) == page, "python -m benchmarks.study_tables renews them"


def test_numbers_in_the_text_are_those_of_the_files() -> None:
    """The split of losses, shares of seeds in the variance, and forgetting by method."""
    text = " ".join(PAGE.read_text(encoding="utf-8").split())
    found = phrases(STUDIES / "tiny-priors")
    assert len(found) == 5
    for phrase in found:
        assert phrase in text


def test_findings_of_one_claim_and_method_are_one_row() -> None:
    """By hand, from the rows of verdicts.md."""
    lines = verdict_table(STUDIES / "tiny-priors").splitlines()
    assert len(lines) == 2 + len({one.group for one in read_verdicts(STUDIES / "tiny-priors")})
    (memory,) = [line for line in lines if line.startswith("| 1. ") and "prefix" in line]
    assert memory.endswith("| arithmetic · prefix | supported 6, undecided 1 | ratio: 1.73 to 2.193 |")


def test_rounding_on_smollm2_is_what_the_page_says() -> None:
    results = Results(STUDIES / "smollm2-priors")
    assert (results.trials.dropna(subset=["prior"]).groupby("prior").seed.nunique() == 9).all()
    apart = results.pairs.sort_values("apart").apart
    assert [f"{value:.3f}" for value in apart] == ["0.001", "0.005", "0.015", "0.183"]
    assert f"{apart.max():.3f} nats away" in PAGE.read_text(encoding="utf-8")


def test_trials_are_split_and_chosen_as_findings_do() -> None:
    """One that ends above both ranges is not between them; a rate that one seed survived is not chosen."""
    known = {"rate": 0.1, "prior": "fitted", "method": "soft"}
    ended = pd.DataFrame([{**known, "test_loss": loss} for loss in (0.05, 0.1, 0.3, 0.7, 1.2, 3.0)])
    assert split(ended) == (1, 2, 2, 1)
    rates = pd.DataFrame({"rate": [0.1, 0.3, 0.3], "validation_loss": [0.5, 0.6, 0.8]})
    assert set(chosen(rates).rate) == {0.3}


def test_rows_are_split_at_bars_that_are_not_escaped_and_metrics_have_ranges_of_their_own(
    tmp_path: Path,
) -> None:
    assert split_row(r"| a \| b | | c |") == ["a | b", "", "c"]
    rows = [("x · y · one", "supported", "L2: 0.5"), ("x · y · two", "supported", "cosine: 0.9")]
    table = "\n".join(f"| 2. Apart | {where} | {verdict} | {number} |" for where, verdict, number in rows)
    (tmp_path / "verdicts.md").write_text(
        f"| claim | where | verdict | number |\n{table}\n", encoding="utf-8"
    )
    assert "| x · y | supported 2 | L2: 0.5; cosine: 0.9 |" in verdict_table(tmp_path)
    known = verdict_table(STUDIES / "tiny-priors")
    assert "| arithmetic · soft | undecided |  |" in known, "numbers that the note calls false"
    assert absent("one\ntwo", ["one two", "three"]) == ["three"]
