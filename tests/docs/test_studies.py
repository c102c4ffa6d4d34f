"""Numbers of published studies are those of the files beside them."""

from __future__ import annotations

from pathlib import Path

from softprior.library.results import Results

DOCS = Path(__file__).parents[2] / "docs"


def test_the_table_of_the_study_on_smollm2_is_made_from_its_trials() -> None:
    results = Results(DOCS / "studies" / "smollm2-priors")
    page = (DOCS / "findings.md").read_text(encoding="utf-8")
    trials = results.trials.dropna(subset=["prior"])
    assert (trials.groupby("prior").seed.nunique() == 9).all()
    forgotten = trials["also/language/loss"] - trials["also/language/baseline_loss"]
    for prior, own in trials.assign(forgotten=forgotten).groupby("prior"):
        cells = (
            f"{own.test_loss.mean():.3f} ± {own.test_loss.std():.3f}",
            f"{own.exact_match.mean():.0%}",
            f"{own.forgotten.mean():.3f} ± {own.forgotten.std():.3f}",
        )
        (row,) = [line for line in page.splitlines() if line.startswith(f"| {prior}") and " ± " in line]
        assert row.endswith(f"| {' | '.join(cells)} |")
    apart = results.pairs.sort_values("apart").apart
    assert [f"{value:.3f}" for value in apart] == ["0.001", "0.005", "0.015", "0.183"]
    assert f"{apart.max():.3f} nats away" in page
