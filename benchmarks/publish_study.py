"""Publishes a finished study: python -m benchmarks.publish_study results/NAME

`docs/studies/NAME` becomes what is committed of the study (see `benchmarks.published`), and `docs/images`
gets its figures. Verdicts are then computed from that folder alone, and have to be those of the study. The
tables in docs/findings.md follow with `python -m benchmarks.study_tables`, which also names sentences there
whose numbers are other ones now.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

from analysis.findings.judging import judge
from analysis.findings.reading import Reading, read_studies
from analysis.report.verdicts import markdown
from benchmarks.published import (
    DOCS,
    EVIDENCE,
    PACKED,
    STUDIES,
    VERDICTS,
    pack,
    published_findings,
    save_evidence,
)
from jobs.support.exits import FINISHED, status_of
from softprior.errors import UserError
from softprior.inputs.labels import by_number, counted

LARGEST = 5_000_000
"""Bytes of all published studies together."""

FIGURES = ("test-loss", "forgetting")
"""The figures of a study that docs/findings.md shows."""


def main(arguments: list[str] | None = None) -> int:
    """Runs the command; returns 2 where the study cannot be published."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.publish_study",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("results", type=Path, help="the folder of a study that has ended")
    options = parser.parse_args(arguments)
    return status_of(lambda: _main(options.results))


def _main(results: Path) -> int:
    folder = publish(results, STUDIES)
    print(f"study     {folder}")
    for name in FIGURES:
        figure = results / "figures" / "study" / f"{name}.png"
        if figure.exists():
            print(f"figure    {shutil.copy(figure, DOCS / 'images' / f'{folder.name}-{name}.png')}")
    print("python -m benchmarks.study_tables renews the tables of docs/findings.md")
    return FINISHED


def publish(results: Path, studies: Path) -> Path:
    """Writes what is committed of a study, and checks that its verdicts come from that alone.

    Args:
        results: the study's folder.
        studies: the folder of all published studies.

    Returns:
        The study's own folder among them; what was there of an earlier publication is replaced.

    Raises:
        UserError: the study has not ended, lacks files, has grown since it was planned, or is too large.
    """
    reading = read_studies([results])
    findings = judge(reading.study)  # which reads the posteriors
    _require_whole(reading)
    if any(finding.added for finding in findings):
        raise UserError(
            f"{results} has seeds or priors that were added later, without which claims are judged too, and "
            "a published study has no posteriors for that; publish the study as it was planned"
        )
    folder = studies / results.resolve().name
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    for path in (reading.folder.study, reading.folder.table):
        shutil.copy(str(path), folder)
    pack(results, list(reading.ended), folder / PACKED)
    save_evidence(reading.study, folder / EVIDENCE)
    verdicts = markdown(findings)
    (folder / VERDICTS).write_text(verdicts, encoding="utf-8")
    if markdown(published_findings(folder)) != verdicts:
        raise UserError(
            f"{folder} gives other verdicts than {results}: a claim needs more than is published; add its "
            "evidence to benchmarks/published.py"
        )
    size = sum(path.stat().st_size for path in studies.rglob("*") if path.is_file())
    if size > LARGEST:
        raise UserError(
            f"the studies in {studies} take {size:,} bytes together, and {LARGEST:,} is the most; publish a "
            "smaller study"
        )
    return folder


def _require_whole(reading: Reading) -> None:
    """Checks that nothing of a study is missing.

    Raises:
        UserError: trials have no record, a file is missing or damaged, or scores on other tasks are.
    """
    name = reading.folder.root
    if reading.missing:
        lost = counted(len(reading.missing), "trial")
        has = by_number(len(reading.missing), "has", "have")
        raise UserError(f"{lost} of {name} {has} no record; run the study to its end")
    if problems := [*reading.damaged, *reading.lost]:
        raise UserError(f"{name} is not whole ({problems[0]}); run the study again")
    others = [other for record in reading.finished for other in record.also]
    if lacking := [other.error for other in others if other.score is None]:
        raise UserError(
            f"{name} lacks scores on other tasks, {len(lacking):,} in all ({lacking[0]}); run the study "
            "again where they can be measured"
        )


if __name__ == "__main__":
    sys.exit(main())
