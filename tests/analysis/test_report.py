"""The report of a study: its numbers, its words for what is missing, and the page in a browser."""

from __future__ import annotations

import json
import math
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from analysis.findings import collapse, quality
from analysis.findings.design import design_of
from analysis.findings.evidence import Evidence, Noise
from analysis.findings.judging import case, finding, judge
from analysis.findings.reading import Reading, read
from analysis.findings.simulated import CUT, KEEP, Truth, simulated
from analysis.overall import overall
from analysis.report import checks, grid, trials, verdicts
from analysis.report import overall as scores
from analysis.report.answer import _of_cell, answer
from analysis.report.grid import mean
from analysis.report.page import gather, judged, render
from analysis.report.values import Cell, Items, Picture, Report, Section, Table, Words, number
from analysis.report.verdicts import markdown
from jobs import report as command
from softprior.inputs.entries import Entry
from softprior.inputs.study_files import load_grid
from softprior.methods import METHODS
from softprior.results.digested import read_header
from softprior.results.examples import load_examples
from softprior.results.files import file_lock
from softprior.results.folder import StudyFolder
from softprior.results.records import Continued, Record, save_record
from softprior.results.sanity import Check
from softprior.studies.failures import failed
from softprior.studies.plan import plan_study
from softprior.studies.table import write_study, write_table
from tests.analysis.figures.saved import COARSE
from tests.browser import Browser, browser
from tests.builders import Finished, run, study_file

__all__ = ["browser"]

ATTACK = '</script><img src=x onerror=alert(1)><b>bold</b> & "quoted" {{ 7 * 7 }}'


@pytest.fixture(scope="module", autouse=True)
def coarse() -> Iterator[None]:
    """Nobody looks at the pixels of these pages."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("analysis.figures.style.DPI", COARSE)
        yield


class Seeds:
    """A study of two priors, two rates and three seeds, with losses that are made up and known."""

    def __init__(self, root: Path, finished: Finished) -> None:
        self.folder = StudyFolder(root / "seeds")
        file = study_file(
            root / "seeds.yaml", name="seeds", description=ATTACK, rates=[0.05, 0.01], seeds=[0, 1, 2]
        )
        plan = plan_study(load_grid(file))
        patterns = {record.spec.method.name: record for record in finished.records.values()}
        self.losses: dict[tuple[str, float, int], float] = {}
        self.records: dict[str, Record] = {}
        for spec in plan.trials:
            pattern = patterns[spec.method.name]
            loss = 5.0
            if spec.prior is not None and spec.rate is not None and spec.seed is not None:
                loss = 1 + 0.1 * spec.seed + (spec.prior.name == "fitted") - 0.5 * (spec.rate.value == 0.01)
                self.losses[spec.prior.name, spec.rate.value, spec.seed] = loss
            made = {
                "test": pattern.test.model_copy(update={"loss": loss, "shuffled_loss": loss + 0.25}),
                "validation": tuple(s.model_copy(update={"loss": loss + 1}) for s in pattern.validation),
            }
            record = pattern.model_copy(update={"id": spec.id, "spec": spec, **made})
            self.records[spec.id] = record
            save_record(self.folder.record(spec.id), record)
        write_study(self.folder, plan.spec, plan.trials)
        write_table(self.folder, plan.trials, plan.components, self.records)


@pytest.fixture(scope="module")
def seeds(tmp_path_factory: pytest.TempPathFactory, finished_study: Finished) -> Seeds:
    return Seeds(tmp_path_factory.mktemp("seeds"), finished_study)


@pytest.fixture(scope="module")
def report(seeds: Seeds) -> Report:
    reading = read(seeds.folder.root)
    return gather(reading, *judged(reading))


def section(found: Report, key: str) -> Section:
    return next(one for one in found.sections if one.key == key)


def tables(found: Section) -> list[Table]:
    return [block for block in found.blocks if isinstance(block, Table)]


def sentences(found: Section) -> str:
    words = [block.text for block in found.blocks if isinstance(block, Words)]
    return " ".join([*words, *(text for b in found.blocks if isinstance(b, Items) for text in b.texts)])


def minus(text: str) -> str:
    return text.replace("-", "\N{MINUS SIGN}")


def test_cells_of_the_grid_are_means_over_seeds(report: Report, seeds: Seeds) -> None:
    table, differences, along_rates = tables(section(report, "grid"))
    assert along_rates.columns[0] == "rate"
    assert len(along_rates.rows) == 2, "two rates of each of two priors"
    assert table.columns == ("prior", "rate 0.05", "rate 0.01")
    assert [row[0].text for row in table.rows] == ["isotropic", "fitted", "no prompt"]
    for row, prior in zip(table.rows[:2], ("isotropic", "fitted"), strict=True):
        for cell, rate in zip(row[1:], (0.05, 0.01), strict=True):
            own = [seeds.losses[prior, rate, seed] for seed in (0, 1, 2)]
            low, high = stats.t.interval(0.95, 2, np.mean(own), stats.sem(own))
            assert cell.text == f"{np.mean(own):.3f} [{low:.3f}, {high:.3f}]"
            assert cell.order == pytest.approx(np.mean(own))
            assert cell.strong == (rate == 0.01), "the lower validation loss"
            assert {seeds.records[trial].spec.rate.value for trial in cell.trials} == {rate}
            assert {seeds.records[trial].spec.prior.name for trial in cell.trials} == {prior}
            assert len(cell.trials) == 3
    assert table.rows[2][1].order == 5.0
    (row,) = differences.rows
    assert row[0].text == minus("fitted - isotropic")
    assert row[2].order == pytest.approx(1.0)
    assert row[4].text == "0.25 (0.25)", "three seeds give no less"


def test_the_answer_names_the_verdicts_on_the_axes_of_the_study(seeds: Seeds) -> None:
    """Two findings on methods have their places; what is not judged is not counted."""
    one = (Entry(name="fitted"),)
    study = simulated(Truth(priors=one, methods=(CUT, KEEP), weights=(0.0, 1.0), rates=(0.01,), seeds=4))
    told = answer(replace(read(seeds.folder.root), study=study), judge(study))[1]
    assert "Cutting token-level vectors after block 0 is equal to keeping them: " in told
    assert "Regularisers move posteriors: " in told
    assert "not judged" not in told
    assert "findings" not in told
    assert told.count(" nats)") == 2


def test_means_over_unlike_seeds_are_not_subtracted(seeds: Seeds) -> None:
    (cell,) = read(seeds.folder.root).study.cells("prior")
    assert "1.000 nats below 'fitted'" in _of_cell(cell)
    side = cell.sides["fitted"]
    fewer = replace(side, rates={rate: {0: runs[0], 1: runs[1]} for rate, runs in side.rates.items()})
    told = _of_cell(replace(cell, sides={**cell.sides, "fitted": fewer}))
    assert "the lowest of 2 priors and 4.400 nats below no prompt" in told


def test_the_answer_is_three_true_sentences(report: Report, seeds: Seeds) -> None:
    best, certainty, soundness = report.answer
    assert "the prior 'isotropic' ends at a loss of 0.600 nats per label token" in best
    examples = next(iter(seeds.records.values())).test.examples
    assert f"(95% interval 0.352 to 0.848, 3 seeds) on {examples} test examples at rate 0.01, the" in best
    assert "the lowest of 2 priors, 1.000 nats below 'fitted' and 4.400 nats below no prompt (5.000)" in best
    assert certainty.startswith(
        "Quality is equal whatever the prior: undecided (fitted - isotropic is 1.000 nats"
    )
    assert certainty.endswith(", margin 0.220, 3 seeds).")
    assert soundness == (
        "13 of 13 trials finished; with contexts swapped between examples the test loss is higher in 12 of "
        "12 trained trials; no sanity alarm among the 12 trained trials that could be checked."
    )


def test_every_number_of_a_table_is_traced_to_trials_of_the_page(report: Report, seeds: Seeds) -> None:
    listed = {row[0].trials[0] for row in report.trials.rows}
    assert listed == set(seeds.records) == set(report.details["trials"])
    traced = 0
    for one in report.sections:
        for table in tables(one):
            for row in table.rows:
                numbers = [
                    c for i, c in enumerate(row) if c.text and (c.order is not None or i in table.numbers)
                ]
                for cell in numbers:
                    assert cell.trials, f"{table.columns[0]} {row[0].text}: {cell.text} comes from nowhere"
                    assert set(cell.trials) <= listed
                traced += len(numbers)
    assert traced > 50
    row = next(row for row in report.trials.rows if row[0].trials[0] == next(iter(seeds.records)))
    record = seeds.records[row[0].trials[0]]
    assert row[report.trials.columns.index("test loss")].order == record.test.loss
    assert row[report.trials.columns.index("rise if swapped")].text == "0.250"


def test_verdicts_are_a_row_each_in_page_and_markdown(report: Report, seeds: Seeds) -> None:
    findings, reason = judged(read(seeds.folder.root))
    assert not reason
    (table,) = tables(section(report, "verdicts"))
    known = [found for found in findings if found.primary is not None]
    assert [row[0].text for row in table.rows] == [f"{f.claim.number}. {f.claim.words}" for f in known]
    assert [row[3].text for row in table.rows] == [found.verdict for found in known]
    lines = markdown(findings).splitlines()
    rows = [line for line in lines if line.startswith("|")]
    assert len(rows) == 2 + len(known)
    assert {line.count("|") - line.count("\\|") for line in rows} == {15}
    assert [table.columns[i] for i in table.below(table.columns.index("verdict"))] == ["planned"]
    assert "90% interval" in {table.columns[i] for i in table.opened} - {
        table.columns[i] for i in table.shown
    }


def test_a_verdict_has_its_margin_its_intervals_and_the_noise_of_twins() -> None:
    """Equality: three seeds 0.2 apart; t(0.95, 2) = 2.920 and t(0.975, 2) = 4.303, times 0.2 / sqrt(3)."""
    own = Evidence(
        where="here",
        numbers={"b - a": np.array([-0.1, 0.1, 0.3])},
        trials={"b - a": ("t1", "t2", "t3", "t4", "t5", "t6")},
        margin=0.25,
        margin_trials=("t0", "t1", "t2"),
        noise=Noise(0.08, ("t7",)),
    )
    one = case(quality.JUDGED, own)
    found = finding(one, [test.p for test in one.tests], 2)
    (table,) = tables(verdicts.section([found], ""))
    cells = dict(zip(table.columns, table.rows[0], strict=True))
    assert cells["number"].text == "b - a: 0.100 nats"
    assert cells["95% interval"].text == minus("-0.397 to 0.597")
    assert cells["90% interval"].text == minus("-0.237 to 0.437")
    assert (cells["claimed"].text, cells["claimed"].trials) == ("within ±0.25", ("t0", "t1", "t2"))
    twins = cells["twin noise"]
    assert (twins.text, twins.flag, twins.trials) == ("0.080: less than twice it", "open", ("t7",))
    assert "detectable" not in cells, "three seeds give no p below 0.25"
    heading, _, line, *_ = markdown([found]).splitlines()
    assert dict(zip(heading.split(" | "), line.split(" | "), strict=True)).items() >= {
        ("95% interval", cells["95% interval"].text),
        ("90% interval", cells["90% interval"].text),
        ("claimed", "within ±0.25"),
        ("detectable", ""),
    }


def test_a_row_shows_the_weakest_number_its_limit_and_once_opened_those_beside_it() -> None:
    """Claim 2 in six seeds: all p are the least that there is, and cosine lies nearest to the limit."""
    shares = {"L2": 0.1, "cosine": 0.4, "whitened": 0.2}
    numbers = {what: share + np.linspace(-0.02, 0.02, 6) for what, share in shares.items()}
    one = case(collapse.JUDGED, Evidence(where="here", numbers=numbers))
    found = finding(one, [test.p for test in one.tests], 3)
    assert verdicts.counts([found, found]) == "2 supported"
    later = replace(found, exploratory=True)
    for known, many in (([found, later], "1 of them"), ([later, later], "all")):
        said = f"2 supported ({many} exploratory; a new study, name=..., plans them)"
        assert verdicts.counts(known) == said
    table, opened = verdicts.section([found], "").blocks[:2]
    assert isinstance(table, Table)
    cells = {name: cell.text for name, cell in zip(table.columns, table.rows[0], strict=True)}
    assert (cells["verdict"], cells["number"], cells["claimed"]) == (
        "supported",
        "cosine: 0.400",
        "below 0.5",
    )
    assert cells["other numbers"].startswith("L2: 0.100 (0.084 to 0.116); whitened: 0.200 (")
    assert "cosine 0.4, 95% [0.384, 0.416], p 0.031, 0.031 after Holm, 6 seeds, the claim is: below 0.5" in (
        found.sentence
    )
    assert isinstance(opened, Items)
    assert "Other numbers: " in opened.texts[0]
    assert not any(text in table.caption for text in opened.texts), "what the page hides"


def test_a_claim_without_numbers_is_one_line_that_names_its_places(seeds: Seeds) -> None:
    findings, _ = judged(read(seeds.folder.root))
    others = [found for found in findings if found.primary is None]
    told = verdicts.unjudged(findings)
    assert len(told) == len({found.claim.number for found in others}) < len(others)
    (line,) = [line for line in told if line.startswith("8. Regularisers move posteriors: ")]
    assert line.endswith("and [] for trials without [arithmetic · soft · isotropic, fitted].")
    printed = " ".join(markdown(findings).split())
    assert all(f" - {text}" in printed for text in told)
    assert printed.endswith(verdicts.ELSEWHERE), "where numbers 5, 6, 11, 12 and 14 are"
    lost = Evidence(where="here", missing="there is nothing; look again")
    found = finding(case(quality.JUDGED, lost, exploratory=True), [], 1)
    assert verdicts.counts([found]) == ""
    assert verdicts.unjudged([found]) == [
        "3. Quality is equal whatever the prior: there is nothing; look again [here]."
    ]


def test_added_seeds_and_exploratory_verdicts_are_told(seeds: Seeds) -> None:
    reading = read(seeds.folder.root)
    (own,) = judge(simulated(Truth(rates=(0.01,))), (quality.JUDGED,))
    certainty = answer(reading, [replace(own, verdict="supported")] * 2)[1]
    assert certainty.startswith("Quality is equal whatever the prior: supported (exploratory) for ")
    design = design_of(run.record.spec for run in reading.study.runs if run.seed == 0)
    changed = replace(reading, study=replace(reading.study, design=design))
    new = ", ".join(map(str, sorted({run.seed for run in reading.study.runs} - {0})))
    told = sentences(checks.section(changed))
    said = f"Seeds {new}: added after the first results, so findings that rest on this are exploratory."
    assert said in told


def test_an_alarm_of_a_trained_trial_qualifies_the_answer(seeds: Seeds, tmp_path: Path) -> None:
    folder = StudyFolder(shutil.copytree(seeds.folder.root, tmp_path / "seeds"))
    alarm, passed = (Check(name="one_answer", number=0.9, verdict=v) for v in ("alarm", "passed"))
    raised = next(i for i, r in seeds.records.items() if r.spec.seed == 1)
    for trial, record in seeds.records.items():
        own = alarm if trial == raised or record.spec.method.name == "none" else passed
        save_record(folder.record(trial), record.model_copy(update={"sanity": (own,)}))
    reading = read(folder.root)
    assert "; 1 of 12 trained trials raised a sanity alarm, so read this" in answer(reading, ())[-1]


def test_trials_with_a_fault_are_named_where_they_do_not_count(seeds: Seeds, tmp_path: Path) -> None:
    folder = StudyFolder(shutil.copytree(seeds.folder.root, tmp_path / "seeds"))
    trial, record = next((i, r) for i, r in seeds.records.items() if r.spec.seed == 1)
    fault = Check(name="labels", number=0.5, verdict="fault")
    begun = Continued(trial="a" * 16, step=4)
    save_record(folder.record(trial), record.model_copy(update={"sanity": (fault,), "continued": begun}))
    reading = read(folder.root)
    findings, _ = judged(reading)
    assert answer(reading, findings)[-1].startswith(
        "13 of 13 trials finished, of which 1 has a fault in its own checks and counts nowhere; with"
    )
    said = (
        f"1 trial has a fault in its own checks and is in no mean, figure or finding: {reading.ids[trial]}."
    )
    raised = "1 trial goes on from step 4: training.steps was raised after earlier results."
    told = sentences(checks.section(reading))
    assert said in told
    assert raised in told
    for numbers in (verdicts.section(findings, ""), grid.section(reading), scores.section(reading)):
        for table in tables(numbers):
            assert trial not in {own for row in table.rows for cell in row for own in cell.trials}


def test_priors_over_all_tasks_are_those_that_compare_prints(report: Report, seeds: Seeds) -> None:
    (table,) = tables(section(report, "overall"))
    reading = read(seeds.folder.root)
    for row, own in zip(table.rows, overall(reading.study), strict=True):
        assert (row[0].text, row[1].order, row[2].order) == (own.prior, own.score, own.averaged)
        assert set(row[1].trials) < set(row[2].trials), "at the chosen rate, and at both"
    assert table.rows[1][3].order == 0, "no seed of fitted is better"
    assert "In brackets 95% intervals over seeds." in table.caption
    two = replace(reading, study=simulated(Truth(rates=(0.01,), seeds=2)))
    (table,) = tables(scores.section(two))
    assert "Two seeds have no interval." in table.caption
    assert [row[1].text for row in table.rows] == [number(row[1].order) for row in table.rows]
    differences = tables(grid.section(two))[-1]
    for caption in (table.caption, differences.caption):
        assert "averaged" not in caption, "there is one rate"
    assert "Detectable" not in differences.caption


class Page(HTMLParser):
    """Tags, texts and the attributes that could ask for something."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.asks: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.asks += [value or "" for name, value in attributes if name in ("src", "href", "action", "data")]


def test_the_page_escapes_texts_and_asks_for_nothing(report: Report) -> None:
    text = render(report)
    page = Page(text)
    assert page.tags.count("script") == 3
    assert "b" not in page.tags
    assert all(ask.startswith(("#", "data:")) for ask in page.asks)
    assert "{{ 7 * 7 }}" in text
    assert "&lt;/script&gt;&lt;img src=x" in text
    data = json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', text)[1])
    assert data["trials"] == json.loads(json.dumps(report.details["trials"]))


def test_the_question_is_the_studys_description(report: Report) -> None:
    assert report.question == ATTACK
    assert report.name == "seeds"
    assert report.partial == ()


def _as_it_is(folder: StudyFolder, trained: list[str]) -> None:
    return


def broken(finished: Finished, root: Path, how: Callable[[StudyFolder, list[str]], None]) -> Report:
    folder = finished.copy(root)
    trained = [i for i, record in finished.records.items() if record.spec.training is not None]
    how(folder, trained)
    reading = read(folder.root)
    found = gather(reading, *judged(reading))
    assert render(found).startswith("<!doctype html>")
    return found


def test_a_study_of_one_seed_has_a_report_that_says_so(finished_study: Finished, tmp_path: Path) -> None:
    found = broken(finished_study, tmp_path, _as_it_is)
    assert found.partial == ()
    assert "one seed, so there is no interval and no test" in found.answer[1]
    table, *_ = tables(section(found, "grid"))
    assert "over 1 seed. One seed has no interval. Set off" in table.caption
    assert all(row[1].text == number(row[1].order) for row in table.rows), "it is said once, in the caption"
    (detail,) = found.details["tasks"].values()
    assert [other["name"] for other in detail["others"]] == ["no prompt"]
    record = next(r for r in finished_study.records.values() if r.spec.training is not None)
    assert detail["trials"][record.id]["answers"] == [p.answer for p in record.predictions]
    assert all(len(text) for text in detail["inputs"]), "the session's cache has the examples"
    scores = detail["trials"][record.id]["scores"]
    assert sum(scores) / len(scores) == pytest.approx(record.test.metrics["exact_match"])
    rows = load_examples(finished_study.folder.examples(record.id), record.id, record.examples).to_pylist()
    assert detail["trials"][record.id]["losses"] == [
        pytest.approx(row["nll"] / row["tokens"], rel=1e-3) for row in rows[: len(scores)]
    ]
    near = found.details["trials"][record.id]["tokens"][0]["vectors"]
    assert [len(vector["end"]) for vector in near] == [3] * 4


def test_a_damaged_record_and_a_running_study_give_a_partial_report(
    finished_study: Finished, tmp_path: Path
) -> None:
    lost = []

    def how(folder: StudyFolder, trained: list[str]) -> None:
        lost.append(trained[0])
        path = folder.record(trained[0])
        path.write_text(path.read_text(encoding="utf-8")[:100], encoding="utf-8")
        folder.table.unlink()

    found = broken(finished_study, tmp_path, how)
    assert found.partial == (
        "This is a partial report: 1 trial of 3 has no record yet; run the study again to continue it.",
    )
    said = sentences(section(found, "checks"))
    assert f"{lost[0]}.json is not a record of format 1" in said
    assert "trials.parquet does not exist yet; every number here comes from the records" in said
    assert lost[0] not in found.details["trials"]
    assert len(found.trials.rows) == 2
    root = tmp_path / "results" / "small"
    with file_lock(root / ".lock"):
        assert "the study is still running" in gather(reading := read(root), *judged(reading)).partial[0]


def test_damaged_files_beside_the_records_are_sentences(finished_study: Finished, tmp_path: Path) -> None:
    def how(folder: StudyFolder, trained: list[str]) -> None:
        folder.posterior(trained[0]).write_bytes(b"half")
        folder.table.write_bytes(b"PAR1 and no more")
        (sample,) = (folder.root / "vocabulary").iterdir()
        sample.write_bytes(b"half")
        rows = folder.examples(trained[1])
        rows.write_bytes(rows.read_bytes()[:-100])

    found = broken(finished_study, tmp_path, how)
    assert len(found.trials.rows) == 3
    said = sentences(section(found, "checks"))
    for damaged in (
        r"posteriors/\w+\.safetensors is damaged or not a posterior file: .*; delete the record of",
        r"vocabulary/\w+\.safetensors is damaged .*; delete it; the next trial",
        r"trials\.parquet is damaged \(.*\); run the study again",
        r"examples/\w+\.parquet is damaged \(.*\); delete the record of",
    ):
        assert re.search(damaged, said), damaged
    assert "the study keeps no sample of the vocabulary" in sentences(section(found, "verdicts"))
    assert "Quality is equal whatever the prior" in sentences(section(found, "verdicts"))
    pictures = [block.title for block in section(found, "figures").blocks if isinstance(block, Picture)]
    assert pictures == [
        "Test loss by prior",
        "Learning curves",
        "How soon a loss is reached",
        "Test loss against distance moved",
    ]
    assert len(tables(section(found, "grid"))) == 2


def test_failures_are_listed_with_their_reason(seeds: Seeds, tmp_path: Path) -> None:
    spec = next(iter(seeds.records.values())).spec
    folder = StudyFolder(tmp_path / "failing")
    save_record(folder.record(spec.id), failed(spec, "step 3: the loss is <nan>", {}))
    header = read_header(seeds.folder.study) | {"trials": [spec.id]}
    folder.study.write_text(json.dumps(header), encoding="utf-8")
    reading = read(folder.root)
    found = gather(reading, *judged(reading))
    assert found.answer == ("0 of 1 trial finished.",)
    (table,) = [t for t in tables(section(found, "checks")) if "why" in t.columns]
    assert table.rows[0][3].text == "step 3: the loss is <nan>"
    assert "the loss is &lt;nan&gt;" in render(found)


def test_a_mean_of_nothing_is_none_and_of_one_has_no_interval(seeds: Seeds) -> None:
    runs = list(read(seeds.folder.root).study.runs)
    assert mean([]) is None
    (one,) = [mean(runs[:1])]
    assert math.isnan(one.interval.low)
    assert one.text == number(one.value)
    assert Cell("x").trials == ()


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda _: None, "contains no results of a study"),
        (
            lambda root: (root / "study.json").write_text("{"),
            "it is not valid JSON, perhaps because it was cut off",
        ),
        (lambda root: (root / "study.json").write_text("{}"), "it lacks spec, spec.name or trials"),
    ],
)
def test_a_folder_without_a_study_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], make: Callable[[Path], object], said: str
) -> None:
    make(tmp_path)
    assert command.main([str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert said in error
    assert error.count("\n") == 1
    assert not (tmp_path / "report.html").exists()


def test_the_command_says_where_the_files_are(
    finished_study: Finished, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "elsewhere" / "page.html"
    assert command.main([str(finished_study.folder.root), "--output", str(target)]) == 0
    assert capsys.readouterr().out.splitlines()[-2:] == [
        f"report    {target}",
        f"verdicts  {target.with_name('page-verdicts.md')}",
    ]
    assert target.exists()
    assert command.main([str(finished_study.folder.root), "--output", str(tmp_path / "page.txt")]) == 2


def with_instruction(finished: Finished, root: Path) -> Reading:
    """The finished study with the baseline of a written instruction, which has run."""
    folder = finished.copy(root)
    nothing = next(r.spec for r in finished.records.values() if r.spec.method.name == "none")
    spec = nothing.model_copy(update={"method": METHODS.entry(METHODS["instruction"]())})
    run(spec, folder.root)
    header = read_header(folder.study)
    header["trials"].append(spec.id)
    folder.study.write_text(json.dumps(header), encoding="utf-8")
    return read(folder.root)


def test_the_page_works_in_a_browser(
    browser: Browser, report: Report, finished_study: Finished, tmp_path: Path
) -> None:
    path = tmp_path / "report.html"
    path.write_text(render(report), encoding="utf-8")
    said: list[str] = []
    browser.page.on("console", lambda message: said.append(message.text))
    browser.page.route(
        "**/*", lambda route: route.continue_() if route.request.url.startswith("file:") else route.abort()
    )
    browser.page.goto(path.as_uri())
    page = browser.page
    rows = page.locator("#list tbody tr")
    assert rows.count() == 13
    at = report.trials.columns.index("test loss")

    def column() -> list[float]:
        return [float(text) for text in page.locator(f"#list tbody td:nth-child({at + 1})").all_inner_texts()]

    page.locator("#list thead th").nth(at).click()
    ascending = sorted(column())
    assert column() == ascending
    page.wait_for_timeout(600)  # two clicks at once would be one double click
    page.locator("#list thead th").nth(at).click()
    page.locator("#list thead th.dt-ordering-desc").wait_for()
    assert column() == ascending[::-1]
    prior = f"select[data-column='{report.trials.columns.index('prior')}']"
    page.select_option(prior, "fitted")
    page.get_by_text("6 of 13 trials", exact=True).wait_for()
    assert rows.count() == 6
    assert page.locator("#count").inner_text() == "6 of 13 trials"
    page.select_option(prior, "")
    page.get_by_text("13 of 13 trials", exact=True).wait_for()
    page.fill("#search", "isotropic")
    page.get_by_text("6 of 13 trials", exact=True).wait_for()
    assert rows.count() == 6
    link = rows.first.locator("a.trial")
    trial = link.get_attribute("href").removeprefix("#trial-")
    link.click()
    detail = page.locator("#detail")
    detail.locator("svg").first.wait_for(state="attached")
    assert trial in detail.inner_text()
    assert detail.locator("svg").count() == 1, "the curve; these trials have no posteriors"
    assert detail.locator("polyline").count() == 2
    assert "Answers" in detail.inner_text()
    page.set_viewport_size({"width": 390, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390, "wide tables scroll in their boxes"
    fits = "boxes => boxes.map(box => box.scrollWidth <= box.clientWidth)"
    assert page.eval_on_selector_all("#verdicts .box", fits) == [True]
    page.set_viewport_size({"width": 1280, "height": 900})
    assert all(page.eval_on_selector_all(".box", fits)), "no table scrolls sideways"
    # Another page: a trial with a posterior, beside the instruction; sections are as above and left out.
    reading = with_instruction(finished_study, tmp_path)
    data, problems = trials.details(reading)
    assert problems == []
    whole = replace(
        report,
        sections=(),
        trials=trials.listed(reading),
        filters=(),
        details=data | {"notes": []},
        ids=reading.ids,
    )
    other = tmp_path / "other.html"
    other.write_text(render(whole), encoding="utf-8")
    page.set_viewport_size({"width": 1280, "height": 900})
    page.goto(other.as_uri())
    trained = next(i for i, record in reading.records.items() if record.spec.training is not None)
    page.locator(f"a[href='#trial-{trained}']").first.click()
    detail.locator("svg").nth(1).wait_for(state="attached")
    assert detail.locator("svg").count() == 2, "the curve, and the map of its vectors"
    assert detail.locator("svg").nth(1).locator("polyline").count() == 4, "a path for each vector"
    opened = detail.inner_text()
    assert "Nearest tokens at" in opened
    assert "checks passed" in opened
    heads = detail.locator("th").all_inner_texts()
    assert [name for name in heads if name in ("no prompt", "instruction", "this trial")] == [
        "no prompt",
        "instruction",
        "this trial",
    ]
    instructed = next(r for r in reading.records.values() if r.spec.method.name == "instruction")
    answer = next(found.answer for found in instructed.predictions if found.answer.strip())
    column = heads[heads.index("example") :].index("instruction") + 1
    told = detail.locator(f"tbody tr td:nth-child({column})").all_inner_texts()
    assert any(answer.strip() in text for text in told)
    assert browser.requests == [path.as_uri(), other.as_uri()]
    assert browser.errors == said == []
