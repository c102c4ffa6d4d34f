"""Numbers of published studies are those of the files beside them."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from analysis.findings.judging import judge
from analysis.findings.reading import read
from analysis.report.verdicts import markdown
from benchmarks.publish_study import publish
from benchmarks.published import ANEW, EVIDENCE, STUDIES, VERDICTS, published_findings
from benchmarks.study_numbers import chosen, phrases, split
from benchmarks.study_tables import (
    PAGE,
    absent,
    renewed,
    split_row,
    studies,
    verdict_table,
)
from softprior.errors import UserError
from softprior.library.results import Results
from softprior.results.digested import read_header
from tests.builders import Finished, run


def test_tables_of_published_studies_are_made_from_their_trials() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert page.count("<!-- study: ") == page.count("<!-- verdicts: ") == len(studies())
    assert renewed(page) == page, "python -m benchmarks.study_tables renews them"


@pytest.mark.parametrize("folder", studies(), ids=lambda folder: folder.name)
def test_verdicts_are_those_of_todays_rules(folder: Path) -> None:
    printed = (folder / VERDICTS).read_text(encoding="utf-8")
    assert printed == markdown(published_findings(folder)), "python -m benchmarks.study_tables renews them"


def test_a_published_study_is_judged_without_its_posteriors(finished_study: Finished, tmp_path: Path) -> None:
    """A second publication replaces the first, to the same bytes."""
    whole = finished_study.copy(tmp_path / "study")
    root = Path(str(whole.root))
    header = read_header(whole.study)
    trained = [trial for trial in finished_study.plan.trials if trial.prior is not None]
    header["trials"] += [run(trial.model_copy(update={"seed": 1}), root).id for trial in trained]
    whole.study.write_text(json.dumps(header), encoding="utf-8")
    study = read(root).study
    folder = publish(root, tmp_path / "published")
    packed = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert packed.keys() == {"study.json", "trials.parquet", "trials.tar.xz", EVIDENCE, VERDICTS}
    assert (folder / VERDICTS).read_text(encoding="utf-8") == markdown(judge(study))
    assert packed[VERDICTS].decode().count("ratio: ") > 0, "numbers of posteriors"
    publish(root, tmp_path / "published")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == packed
    stored = json.loads(packed[EVIDENCE])
    stored["memory"]["number"] = "Another one."
    (folder / EVIDENCE).write_text(json.dumps(stored), encoding="utf-8")
    (memory, *_) = published_findings(folder)
    assert (memory.claim.name, memory.verdict, memory.reason) == ("memory", "undecided", ANEW.split("; ")[0])


def test_a_study_that_lacks_a_trial_is_not_published(finished_study: Finished, tmp_path: Path) -> None:
    folder = finished_study.copy(tmp_path / "study")
    trial = next(iter(finished_study.records))
    Path(str(folder.record(trial))).unlink()
    with pytest.raises(UserError, match=r"^1 trial of .* has no record; run the study to its end$"):
        publish(Path(str(folder.root)), tmp_path / "published")
    assert not (tmp_path / "published").exists()


def test_numbers_in_the_text_are_those_of_the_files() -> None:
    """The split of losses, shares of seeds in the variance, and forgetting by method."""
    text = " ".join(PAGE.read_text(encoding="utf-8").split())
    found = phrases(STUDIES / "tiny-priors")
    assert len(found) == 5
    for phrase in found:
        assert phrase in text


def test_rounding_on_smollm2_is_what_the_page_says() -> None:
    results = Results(STUDIES / "smollm2-priors")
    assert (results.trials.dropna(subset=["prior"]).groupby("prior").seed.nunique() == 9).all()
    apart = results.pairs.sort_values("apart").apart
    assert [f"{value:.3f}" for value in apart] == ["0.002", "0.007", "0.018", "0.019"]
    assert f"within {apart.max():.3f} nats of their originals" in PAGE.read_text(encoding="utf-8")


def test_trials_are_split_and_chosen_as_findings_do() -> None:
    """One that ends above both ranges is not between them; a rate that one seed survived is not chosen."""
    known = {"rate": 0.1, "prior": "fitted", "method": "soft"}
    ended = pd.DataFrame([{**known, "test_loss": loss} for loss in (0.05, 0.1, 0.3, 0.7, 1.2, 3.0)])
    assert split(ended) == (1, 2, 2, 1)
    rates = pd.DataFrame({"rate": [0.1, 0.3, 0.3], "validation_loss": [0.5, 0.6, 0.8]})
    assert set(chosen(rates).rate) == {0.3}


def test_findings_of_one_claim_and_method_are_one_row(tmp_path: Path) -> None:
    """Metrics have ranges of their own, and decided findings alone where there are some."""
    assert split_row(r"| a \| b | | c |") == ["a | b", "", "c"]
    rows = [
        ("2. Apart", "x · y · one", "supported", "L2: 0.5"),
        ("2. Apart", "x · y · two", "supported", "cosine: 0.9"),
        ("2. Apart", "x · y · three", "undecided", "L2: 0.1"),
        ("3. Equal", "x · y", "undecided", "a - b: \N{MINUS SIGN}1,000 nats"),
        ("3. Equal", "x · z", "undecided", ""),
    ]
    lines = [f"| {claim} | {where} | {verdict} | {number} |" for claim, where, verdict, number in rows]
    table = "\n".join(["| claim | where | verdict | number |", *lines]) + "\n"
    (tmp_path / VERDICTS).write_text(table, encoding="utf-8")
    _, _, apart, equal = verdict_table(tmp_path).splitlines()
    assert apart == "| 2. Apart | x · y | supported 2, undecided 1 | L2: 0.5; cosine: 0.9 |"
    assert equal == "| 3. Equal | x · y | undecided | a - b: \N{MINUS SIGN}1,000 nats |"
    assert absent("one\ntwo", ["one two", "three"]) == ["three"]
