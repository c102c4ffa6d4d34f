"""The one reader of studies: what claims, figures and the report look at, however incomplete a folder is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from analysis.findings.design import expected, read_design
from analysis.findings.posteriors import Posteriors
from analysis.findings.probed import probed
from analysis.findings.rows import ExampleFiles, Rows, forgetting, only_text
from analysis.findings.study import Run, Study, is_faulty, repeats_of, runs_of
from softprior.errors import InUseError, UserError
from softprior.inputs.labels import Axes, axes, by_number, counted, in_line, short_ids
from softprior.inputs.specs import REPEATS
from softprior.library.reading import has_posterior, read_table, table_problem
from softprior.library.results import Results
from softprior.results.background import load_background
from softprior.results.files import file_lock
from softprior.results.folder import StudyFolder
from softprior.results.records import Record
from softprior.results.storage import Location, listed
from softprior.studies.table import CLAIMS, DESIGN

Folder = str | Path | Location | Results


@dataclass(frozen=True, kw_only=True)
class Reading:
    """One study, or several that are read as one, as far as they can be read.

    Attributes:
        results: of every study.
        records: of trials that have ended, by id, in the studies' order, without repeated ones.
        ended: the same with them: what ran and what it cost, but no numbers to compare.
        missing: ids of trials that have no record that can be read.
        damaged: records that cannot be read, and samples of the vocabulary, one sentence each.
        study: finished trials as comparisons take them.
        rows: losses of single examples.
    """

    results: tuple[Results, ...]
    records: Mapping[str, Record]
    ended: Mapping[str, Record]
    missing: tuple[str, ...]
    damaged: tuple[str, ...]
    study: Study
    rows: ExampleFiles

    @property
    def name(self) -> str:
        return " and ".join(results.folder.root.name for results in self.results)

    @property
    def folder(self) -> StudyFolder:
        """The folder of the first study."""
        return self.results[0].folder

    @property
    def header(self) -> Mapping[str, Any]:
        """study.json of the first study."""
        return self.results[0].study

    @property
    def finished(self) -> list[Record]:
        """All trials that have finished, repeated ones among them."""
        return [record for record in self.ended.values() if record.status == "finished"]

    @cached_property
    def axes(self) -> Mapping[str, Axes]:
        """The axes of every trial that has ended, repeated ones too, in words that tell them apart."""
        return axes([record.spec for record in self.ended.values()])

    @cached_property
    def labels(self) -> Mapping[str, str]:
        """What each of these trials is called."""
        return {trial: in_line(own) for trial, own in self.axes.items()}

    @cached_property
    def ids(self) -> Mapping[str, str]:
        """The short form of every trial id."""
        known = [*self.ended, *self.missing]
        return short_ids(known) if known else {}

    @cached_property
    def running(self) -> bool:
        """Whether another process works in the folder of a study that lacks trials."""
        return any(
            any(trial in self.missing for trial in results.study["trials"]) and _running(results.folder)
            for results in self.results
        )

    @property
    def lost(self) -> list[str]:
        """Files of trials that could not be read so far, the first in a sentence of each kind.

        They are read when claims and figures need them.
        """
        posteriors = self.study.posteriors
        kinds = [self.rows.lost, posteriors.lost if isinstance(posteriors, Posteriors) else {}]
        return [first_of(list(lost.values())) for lost in kinds if lost]

    @property
    def notes(self) -> list[str]:
        """What is missing from comparisons, one sentence each."""
        found = list(self.damaged)
        for results in self.results:
            trials, name = results.study["trials"], results.folder.root.name
            ended = sum(trial not in self.missing for trial in trials) + len(results.sound.damaged)
            if ended < len(trials):
                of = f"{ended} of {counted(len(trials), 'trial')} of {name}"
                found.append(
                    f"{of} {by_number(ended, 'has', 'have')} ended; run the study to its end for the rest"
                )
            others = sum(record.status != "finished" for record in results.sound.ended.values())
            if others:
                what = f"{counted(others, 'failed or stopped trial')} of {name}"
                found.append(f"{what} {by_number(others, 'is', 'are')} left out")
        faulty = sum(map(is_faulty, self.ended.values()))
        if faulty:
            found.append(
                f"{counted(faulty, 'trial')} with a fault in their own checks left out; see Results.sanity"
            )
        return found

    @property
    def table_problem(self) -> str:
        """What is wrong with trials.parquet, which is not read here; empty if nothing is."""
        problem = table_problem(self.folder.table)
        return f"{problem}; every number here comes from the records" if problem else ""


def read(*folders: Folder) -> Reading:
    """Reads one study, or several as if they were one; what is damaged is left out and named.

    Raises:
        UserError: a folder is not a study's, study.json is damaged, or the models are different.
    """
    found = tuple(folder if isinstance(folder, Results) else Results(folder) for folder in folders)
    _require_one_model(found)
    ended: dict[str, Record] = {}
    homes: dict[str, StudyFolder] = {}
    for results in found:
        for trial, record in results.sound.ended.items():
            if trial not in ended or ended[trial].status != "finished":
                ended[trial], homes[trial] = record, results.folder
    trials = list(dict.fromkeys(trial for results in found for trial in results.study["trials"]))
    records = {trial: record for trial, record in ended.items() if record.spec.repeat is None}
    runs, baselines = runs_of(records.values())
    twins, reordered = (repeats_of(ended.values(), runs, kind) for kind in REPEATS)
    everyone = [*runs, *twins.values()]
    rows = ExampleFiles(homes, ended)
    planned = found[0].study.get(CLAIMS) if len(found) == 1 else None
    designs = [read_design(results.study.get(DESIGN), results.folder.study) for results in found]
    specs = [record.spec for record in records.values()]
    vocabulary, problem = _vocabulary(found[0].folder, runs)
    return Reading(
        results=found,
        records=records,
        ended=ended,
        missing=tuple(trial for trial in trials if trial not in ended),
        damaged=(*(said for results in found for said in results.sound.damaged), *problem),
        study=Study(
            runs=runs,
            baselines=baselines,
            posteriors=Posteriors({i: homes[i] for i, record in ended.items() if has_posterior(record)}),
            vocabulary=vocabulary,
            numbers=forgetting(everyone, baselines) | probed(everyone),
            examples=Rows(rows, {run.id: run.record.spec.task for run in (*runs, *reordered.values())}),
            texts=Rows(rows, {run.id: text for run in runs if (text := only_text(run))}),
            twins=twins,
            reordered=reordered,
            planned=planned if isinstance(planned, dict) else {},
            design=designs[0] if len(found) == 1 else None,
            expected=expected(filter(None, designs), () if all(designs) else specs),
        ),
        rows=rows,
    )


def read_studies(folders: Sequence[Folder]) -> Reading:
    """Reads one study, or several of one model, to compare their trials.

    Raises:
        UserError: a folder is not a study's, none of its trials has finished, or they do not compare.
    """
    reading = read(*folders)
    require_comparable(reading)
    return reading


def require_comparable(reading: Reading) -> None:
    """Checks that there are trials, and that those of one task differ in the axes of a comparison alone.

    Raises:
        UserError: there are none, they were trained or measured in different ways, or two of them differ in
            nothing that is compared.
    """
    runs = reading.study.runs
    ways: dict[str, tuple[object, ...]] = {}
    seen: dict[tuple[object, ...], str] = {}
    for run in runs:
        spec = run.record.spec
        way = (spec.training, spec.evaluation.examples, spec.pairing, spec.data_fingerprint, spec.dtype)
        task = run.axes["task"]
        if ways.setdefault(task, way) != way:
            raise UserError(
                f"trials of {task} differ in training, evaluation, pairing, data or dtype, so their losses "
                "cannot be compared; give studies that share these"
            )
        other = seen.setdefault((*run.axes.values(), run.seed), run.id)
        if other != run.id:
            raise UserError(
                f"the trials {other[:6]} and {run.id[:6]} have the same {', '.join(run.axes)} and seed, so "
                "they cannot be told apart; give studies that differ in what is compared"
            )
    if not runs:
        for results in reading.results:
            require_records(results.folder)
        folders = ", ".join(str(results.folder.root) for results in reading.results)
        raise UserError(f"no trial with a trained prompt has finished in {folders}; run the study first")


def require_records(folder: StudyFolder) -> None:
    """Refuses a study of which only the table is left, as one is published, or no trial of which has ended.

    Raises:
        UserError: it has a table and no records.
    """
    if folder.table.exists() and not listed(folder.records, "*.json"):
        if set(read_table(folder.table).get("status", [""])) <= {"pending"}:
            raise UserError(f"no trial of {folder.root} has ended yet; run the study again to continue it")
        raise UserError(
            f"{folder.root} has a table of trials but no records, from which all else is computed; read "
            f"the table with sp.Results('{folder.root}').trials, or run the study again"
        )


def _require_one_model(found: Sequence[Results]) -> None:
    models = {results.study.get("model_fingerprint"): results for results in found}
    if len(models) > 1:
        named = [f"{one.folder.root} on {one.study['spec']['model']['id']}" for one in models.values()]
        raise UserError(
            f"the studies are of different models ({', '.join(named)}), whose losses cannot be compared; "
            "give studies of one model"
        )


def _vocabulary(
    folder: StudyFolder, runs: Sequence[Run]
) -> tuple[Float[np.ndarray, "N H"] | None, tuple[str, ...]]:
    """The study's sample of the vocabulary, and a sentence if it is damaged."""
    if not runs:
        return None, ()
    try:
        return load_background(folder, runs[0].record.spec.model_fingerprint), ()
    except UserError as error:
        return None, (str(error),)


def first_of(sentences: Sequence[str]) -> str:
    """The first of several alike."""
    more = len(sentences) - 1
    return sentences[0] + (f" (and {more:,} more like it)" if more else "")


def _running(folder: StudyFolder) -> bool:
    """Whether a process holds the folder's lock; of a bucket, whether there is a lease."""
    if not isinstance(folder.lock, Path):
        return folder.lock.exists()
    if not folder.lock.exists():
        return False
    try:
        with file_lock(folder.lock):
            return False
    except InUseError:
        return True
    except UserError:
        return False  # a folder that cannot be written: nobody runs a study in it from here
