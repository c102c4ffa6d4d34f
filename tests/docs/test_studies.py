"""Numbers of published studies are those of the files beside them."""

from __future__ import annotations

from pathlib import Path

from benchmarks.study_tables import PAGE, renewed
from softprior.library.results import Results

STUDIES = Path(__file__).parents[2] / "docs" / "studies"


def test_tables_of_published_studies_are_made_from_their_trials() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert page.count("<!-- study: ") == len([path for path in STUDIES.iterdir() if path.is_dir()])
    assert renewed(page) == page, "python -m benchmarks.study_tables renews them"


def test_rounding_on_smollm2_is_what_the_page_says() -> None:
    results = Results(STUDIES / "smollm2-priors")
    assert (results.trials.dropna(subset=["prior"]).groupby("prior").seed.nunique() == 9).all()
    apart = results.pairs.sort_values("apart").apart
    assert [f"{value:.3f}" for value in apart] == ["0.001", "0.005", "0.015", "0.183"]
    assert f"{apart.max():.3f} nats away" in PAGE.read_text(encoding="utf-8")
