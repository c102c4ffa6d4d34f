"""Gathers a report from a study's folder and renders it as one HTML file."""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

import softprior
from analysis.figures.left_out import Drawn
from analysis.findings.judging import judge
from analysis.findings.reading import Folder, Reading, read, require_comparable, require_records
from analysis.findings.values import Finding
from analysis.report import checks, costs, grid, overall, pictures, reproduce, trials, verdicts
from analysis.report.answer import answer
from analysis.report.values import Code, Items, Picture, Report, Table, Words, sentence
from softprior.errors import UserError
from softprior.inputs.labels import by_number, counted
from softprior.results.files import write_atomically
from softprior.results.storage import Location

TEMPLATES = Path(__file__).parent / "templates"

KINDS = {Words: "words", Items: "items", Code: "code", Table: "table", Picture: "picture"}


class ReportFiles(NamedTuple):
    """Where a report is.

    Attributes:
        page: the HTML file.
        verdicts: the verdict table in Markdown.
        notes: what is not in it, one sentence each.
        claims: how often each verdict was given, see `verdicts.counts`.
    """

    page: Location
    verdicts: Location
    notes: tuple[str, ...]
    claims: str


def write_report(
    folder: Folder, target: Location | None = None, figures: Callable[[], Drawn | None] = lambda: None
) -> ReportFiles:
    """Writes the report of a study, `report.html` and `verdicts.md` in its folder.

    Args:
        folder: of the study, or its results where they have been read already.
        target: another place for the page; the Markdown goes beside it.
        figures: gives those that have just been drawn, and may wait for them.

    Raises:
        UserError: no study has been run in the folder, or only its table is left.
    """
    reading = read(folder)
    if not reading.ended:
        require_records(reading.folder)
    page = reading.folder.report if target is None else target
    beside = page.parent / f"{'verdicts' if target is None else page.stem + '-verdicts'}.md"
    findings, reason = judged(reading)
    report = gather(reading, findings, reason, figures)
    text = render(report)
    table = verdicts.markdown(findings)
    write_atomically(page, lambda temporary: temporary.write_text(text, encoding="utf-8"))
    write_atomically(beside, lambda temporary: temporary.write_text(table, encoding="utf-8"))
    return ReportFiles(
        page,
        beside,
        (*report.partial, *(sentence(text) for text in checks.problems(reading))),
        verdicts.counts(findings),
    )


def partial(reading: Reading) -> list[str]:
    """Why the report is not that of a whole study, one sentence each; nothing if it is."""
    found = []
    total, lost = len(reading.header["trials"]), len(reading.missing)
    if lost:
        have = f"{counted(lost, 'trial')} of {total:,} {by_number(lost, 'has', 'have')} no record yet"
        why = "the study is still running" if reading.running else "run the study again to continue it"
        found.append(f"This is a partial report: {have}; {why}.")
    if not reading.records:
        found.append("No trial has ended, so there are no results.")
    return found


def judged(reading: Reading) -> tuple[tuple[Finding, ...], str]:
    """What the study says about each claim, or why it says nothing."""
    try:
        require_comparable(reading)
        return judge(reading.study), ""
    except UserError as error:
        return (), str(error)


def gather(
    reading: Reading,
    findings: Sequence[Finding],
    reason: str = "",
    figures: Callable[[], Drawn | None] = lambda: None,
) -> Report:
    """Everything that the report says.

    Args:
        reason: why there are no findings, if there are none.
        figures: see `write_report`.
    """
    details, problems = trials.details(reading)
    sections = (
        verdicts.section(findings, reason),
        pictures.section(reading, figures()),
        grid.section(reading),
        overall.section(reading),
        checks.section(reading),
        costs.section(reading),
        reproduce.section(reading),
    )
    spec, shown = reading.header["spec"], trials.listed(reading)
    made = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    return Report(
        name=str(spec.get("name", reading.folder.root.name)),
        made=f"Made by softprior {softprior.__version__} on {made} from {reading.folder.root.name}/.",
        question=str(spec.get("description") or ""),
        answer=tuple(answer(reading, findings)),
        partial=tuple(partial(reading)),
        sections=sections,
        trials=shown,
        filters=tuple(i for i, name in enumerate(shown.columns) if name in trials.FILTERS),
        details=details | {"notes": [sentence(text) for text in problems]},
        ids=reading.ids,
    )


def render(report: Report) -> str:
    """The page. Every text is escaped, by the template engine or, in the data, for use in a script."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.policies["json.dumps_kwargs"] = {
        "separators": (",", ":"),
        "ensure_ascii": False,
        "allow_nan": False,
    }
    environment.filters["kind"] = lambda block: KINDS[type(block)]
    environment.filters["inlined"] = _inlined
    environment.globals["source"] = _source
    return environment.get_template("report.html").render(report=report)


def _inlined(image: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(image).decode()}"


def _source(name: str) -> Markup:
    """A style sheet or script of ours, or a library's, as it stands: text of no user."""
    return Markup((TEMPLATES / name).read_text(encoding="utf-8"))  # noqa: S704
