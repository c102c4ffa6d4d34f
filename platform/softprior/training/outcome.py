"""What a finished trial leaves in the results folder: rows of examples, a posterior and a record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from softprior.results.examples import save_examples
from softprior.results.folder import StudyFolder
from softprior.results.posteriors import Posterior, Vectors, save_posterior
from softprior.results.records import PlaceGeometry, Record, save_record
from softprior.training.also import OtherScore
from softprior.training.checkpoint import TrialState
from softprior.training.environment import environment
from softprior.training.evaluation import Evaluation
from softprior.training.recognised import own_label
from softprior.training.setup import Setup


def record_of(
    setup: Setup,
    state: TrialState,
    facts: Mapping[str, object],
    geometry: dict[str, PlaceGeometry],
    test: Evaluation,
    also: Sequence[OtherScore],
) -> Record:
    """The record of a trial that has been tested.

    Args:
        facts: of the prior's fit, by place.
        also: its scores on other tasks.
    """
    spec, prepared = setup.spec, setup.prepared
    data: dict[str, object] = {name: len(getattr(prepared, name)) for name in ("train", "validation", "test")}
    return Record(
        id=spec.id,
        label=own_label(spec),
        spec=spec,
        status="finished",
        steps=tuple(state.steps),
        validation=tuple(state.validation),
        untrained=test.untrained,
        test=test.score,
        also=tuple(other.found for other in also),
        examples=len(test.rows) + sum(len(other.rows) for other in also),
        continued=state.continued,
        geometry=geometry,
        prior=facts,
        data=data | prepared.facts(),
        predictions=tuple(test.predictions),
        environment=environment(state.seconds, setup.host.info(), state.sources),
    )


def save_posterior_of(
    folder: StudyFolder,
    setup: Setup,
    record: Record,
    initial: Vectors,
    final: Vectors,
    snapshots: dict[int, Vectors],
) -> None:
    """Writes the posterior: the vectors at the start, on the way and at the end."""
    spec = setup.spec
    header: dict[str, object]
    header = {"trial": spec.id, "spec": spec.model_dump(mode="json"), "prior": record.prior}
    header |= {"model": setup.host.info()._asdict(), "environment": record.environment}
    save_posterior(folder.posterior(spec.id), Posterior(header, initial, final, snapshots))


def save_record_and_rows(
    folder: StudyFolder, record: Record, test: Evaluation, also: Sequence[OtherScore]
) -> None:
    """Writes the rows of examples, then the record, which says how many there are."""
    rows = {record.spec.task.canonical(): test.rows}
    rows |= {other.found.task.canonical(): other.rows for other in also}
    save_examples(folder.examples(record.id), record.id, rows)
    save_record(folder.record(record.id), record)
