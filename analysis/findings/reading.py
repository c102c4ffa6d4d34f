"""Reads a study's folder into what claims look at, however incomplete it is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from analysis.findings.design import expected, read_design
from analysis.findings.probed import probed
from analysis.findings.rows import Rows, forgetting, only_text
from analysis.findings.study import Run, Study, is_faulty, runs_of, twins_of
from softprior.errors import UserError
from softprior.inputs.labels import by_number, counted
from softprior.library.results import Results
from softprior.results.background import load_background
from softprior.results.folder import StudyFolder
from softprior.results.posteriors import Posterior, load_posterior
from softprior.results.records import Record, load_record
from softprior.studies.table import CLAIMS, DESIGN


@dataclass(frozen=True)
class Read:
    """A study as far as it could be read.

    Attributes:
        name: of the study, or of all that were read together.
        study: its finished trials.
        notes: what is missing, one sentence each.
    """

    name: str
    study: Study
    notes: tuple[str, ...]


def read_studies(folders: Sequence[str]) -> Read:
    """Reads one study, or several of one model as if they were one.

    Raises:
        UserError: a folder is no study's, none of its trials has finished, or the models are different.
    """
    found = [Results(folder) for folder in folders]
    models = {results.study.get("model_fingerprint"): results for results in found}
    if len(models) > 1:
        named = [f"{one.folder.root} on {one.study['spec']['model']['id']}" for one in models.values()]
        raise UserError(
            f"the studies are of different models ({', '.join(named)}), whose losses do not compare; "
            "give studies of one model"
        )
    records: dict[str, Record] = {}
    notes: list[str] = []
    for results in found:
        own, said = _records(results)
        for trial, record in own.items():
            if trial not in records or records[trial].status != "finished":
                records[trial] = record
        notes += said
    faulty = sum(map(is_faulty, records.values()))
    if faulty:
        notes.append(
            f"{counted(faulty, 'trial')} with a fault in their own checks left out; see Results.sanity"
        )
    runs, baselines = runs_of(records.values())
    _require_comparable(runs)
    if not runs:
        raise UserError(
            f"no trial with a trained prompt has finished in {', '.join(map(str, folders))}; "
            "run the study first"
        )
    twins = twins_of(records.values(), runs)
    everyone = [*runs, *twins.values()]
    homes = {trial: results.folder for results in reversed(found) for trial in results.study["trials"]}
    first = found[0]
    specs = [record.spec for record in records.values()]
    designs = [read_design(results.study.get(DESIGN), results.folder.study) for results in found]
    planned = first.study.get(CLAIMS) if len(found) == 1 else None
    return Read(
        name=" and ".join(results.folder.root.name for results in found),
        study=Study(
            runs=runs,
            baselines=baselines,
            posteriors=_Posteriors(homes),
            vocabulary=load_background(first.folder, runs[0].record.spec.model_fingerprint),
            numbers=forgetting(everyone, baselines) | probed(everyone),
            examples=Rows(homes, {run.id: run.record.spec.task for run in runs}, runs),
            texts=Rows(homes, {run.id: text for run in runs if (text := only_text(run))}, runs),
            twins=twins,
            planned=planned if isinstance(planned, dict) else {},
            design=designs[0] if len(found) == 1 else None,
            expected=expected(filter(None, designs), () if all(designs) else specs),
        ),
        notes=tuple(notes),
    )


def _require_comparable(runs: Sequence[Run]) -> None:
    """Checks that trials of one task differ in the axes of a comparison alone.

    Raises:
        UserError: they were trained or measured in different ways, or two of them differ in nothing that is
            compared.
    """
    ways: dict[str, tuple[object, ...]] = {}
    seen: dict[tuple[object, ...], str] = {}
    for run in runs:
        spec = run.record.spec
        way = (spec.training, spec.evaluation.examples, spec.pairing, spec.data_fingerprint, spec.dtype)
        task = run.axes["task"]
        if ways.setdefault(task, way) != way:
            raise UserError(
                f"trials of {task} differ in training, evaluation, pairing, data or dtype, so their losses "
                "do not compare; give studies that share these"
            )
        other = seen.setdefault((*run.axes.values(), run.seed), run.id)
        if other != run.id:
            raise UserError(
                f"the trials {other[:6]} and {run.id[:6]} have the same {', '.join(run.axes)} and seed, so "
                "they are not told apart; give studies that differ in what is compared"
            )


def _records(results: Results) -> tuple[dict[str, Record], list[str]]:
    """The records that can be read, and what is wrong with the others."""
    trials = list(results.study["trials"])
    notes = []
    try:
        found = dict(results.ended)
    except UserError:
        found = {}
        for trial in trials:
            path = results.folder.record(trial)
            try:
                found |= {trial: load_record(path)} if path.exists() else {}
            except UserError as error:
                notes.append(str(error))
    ended = len(found) + len(notes)
    if ended < len(trials):
        of = f"{ended} of {counted(len(trials), 'trial')} of {results.folder.root.name}"
        notes.append(f"{of} {by_number(ended, 'has', 'have')} ended; run the study to its end for the rest")
    others = [record for record in found.values() if record.status != "finished"]
    if others:
        what = f"{counted(len(others), 'failed or stopped trial')} of {results.folder.root.name}"
        notes.append(f"{what} {by_number(len(others), 'is', 'are')} left out")
    return found, notes


class _Posteriors(Mapping[str, Posterior]):
    """Posterior files of several studies by trial id, read when needed; others are not there."""

    def __init__(self, folders: Mapping[str, StudyFolder]) -> None:
        self._folders = folders
        self._known: dict[str, Posterior | None] = {}

    def __getitem__(self, trial: str) -> Posterior:
        if trial not in self._known:
            try:
                self._known[trial] = load_posterior(self._folders[trial].posterior(trial))
            except UserError:
                self._known[trial] = None
        found = self._known[trial]
        if found is None:
            raise KeyError(trial)
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(self._folders)

    def __len__(self) -> int:
        return len(self._folders)
