"""The searcher that Ray Tune asks: Optuna's proposals, each reported once all its trials have records."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Sequence

from optuna import Study, Trial
from optuna.trial import TrialState
from ray.tune.search import Searcher

from softprior.errors import UserError
from softprior.inputs.specs import TrialSpec
from softprior.results.folder import StudyFolder
from softprior.results.records import Record, load_record
from softprior.studies.search.objective import values
from softprior.studies.search.optuna_private import store_attribute, store_loss, taken_up
from softprior.studies.search.plan import SearchPlan
from softprior.studies.search.storage import REASON, TRIALS
from softprior.studies.table import write_study
from softprior.training.events import Event, Observer

NOT_FINITE = "an objective is not finite"


class Proposals(Searcher, Observer):
    """Hands out trials: what a kill left over, baselines, what is measured further, what Optuna proposes.

    It learns of ends as an observer of the study, not through Tune's `on_trial_complete`: that is called
    before a trial whose process died has its record, and without a record of a trial that raised.
    """

    def __init__(
        self,
        study: Study,
        plan: SearchPlan,
        folder: StudyFolder,
        added: Callable[[Sequence[TrialSpec]], None],
        extended: Collection[str] = (),
    ) -> None:
        """Resumes from the state of an earlier run.

        Args:
            added: called with all trials whenever there are new ones.
            extended: finished trials that are to be measured on other tasks or probed.
        """
        super().__init__()
        self._study = study
        self._plan = plan
        self._folder = folder
        self._added = added
        self._queue: deque[TrialSpec] = deque()
        self._live: set[str] = set()
        self._open: dict[int, tuple[str, ...]] = {}
        self._over = False
        self.error: Exception | None = None
        """Why an end could not be reported; the proposal stays open for the next run."""
        self._take_up()
        self._queue.extend(trial for trial in plan.trials if trial.id in extended)

    def __reduce__(self) -> tuple[object, ...]:
        # Tune pickles its searcher and scheduler for a restore that softprior never uses.
        return Searcher, ()

    @property
    def finished(self) -> bool:
        """Whether there is nothing left to run or to propose."""
        return not self._queue and not self._open and self._room() <= 0

    def suggest(  # type: ignore[override]  # Tune takes the word FINISHED too
        self,
        trial_id: str,  # noqa: ARG002
    ) -> dict[str, object] | str | None:
        """The next trial for Tune, None while it has to wait for one to end, or `FINISHED`."""
        if self._over:
            return str(Searcher.FINISHED)
        while not self._queue:
            if self._room() <= 0:
                return str(Searcher.FINISHED)
            if len(self._open) >= self._plan.search.concurrent:
                return None
            self._propose(self._study.ask())
        return {"trial": self._queue.popleft().canonical()}

    def on_trial_complete(
        self, trial_id: str, result: dict[str, object] | None = None, error: bool = False
    ) -> None:
        """Nothing: see `ended`."""

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the storage and the records contain everything."""

    def progress(self, trial: TrialSpec, events: Sequence[Event]) -> None:
        """Nothing: rungs read reports before Tune continues."""

    def ended(self, record: Record) -> None:
        """Reports to Optuna every proposal of which this was the last open trial.

        If that fails, or the trial could not leave its record, nothing more is handed out.
        """
        self._live.discard(record.id)
        try:
            self._over |= not self._folder.record(record.id).exists()
            for number in self.numbers(record.id):
                self._settle(number)
        except Exception as error:  # whatever a storage raises; the study's events would swallow it
            self.give_up(error)

    def give_up(self, error: Exception) -> None:
        """Stops handing out trials; those that are running continue to their end."""
        self._over, self.error = True, self.error or error

    def numbers(self, trial: str) -> list[int]:
        """Optuna's numbers of the proposals that wait for a trial."""
        return [number for number, ids in self._open.items() if trial in ids]

    def report(self, number: int, step: int, loss: float) -> None:
        """Stores a point of a validation curve with its proposal, except that of the untrained sample."""
        if step:
            store_loss(self._study, number, step, loss)

    def curves(self) -> dict[str, dict[int, float]]:
        """The losses reported so far by each trial: by trial id, then by step."""
        found: dict[str, dict[int, float]] = {}
        for proposal in self._study.get_trials(deepcopy=False):
            for trial in proposal.user_attrs.get(TRIALS, ()):  # which proposals of the same point share
                found.setdefault(trial, {}).update(proposal.intermediate_values)
        return found

    def _room(self) -> int:
        """Number of points that may still be proposed."""
        asked = sum(t.state != TrialState.WAITING for t in self._study.get_trials(deepcopy=False))
        return self._plan.search.trials - asked

    def _take_up(self) -> None:
        for found in self._study.get_trials(deepcopy=False):
            if found.state == TrialState.RUNNING:
                # The same parameters: what was drawn is stored, and what was not follows from the seed.
                self._propose(taken_up(self._study, found))
            elif found.state != TrialState.WAITING and TRIALS in found.user_attrs:
                known = [self._folder.record(i) for i in found.user_attrs[TRIALS]]
                trials = [load_record(path).spec for path in known if path.exists()]
                self._plan.add(self._plan.recalled(trials, found.params))
        for baseline in self._plan.baselines:
            path = self._folder.record(baseline.id)
            if path.exists() and load_record(path).status == "failed":
                path.unlink()
            if not path.exists():
                self._queue.append(baseline)
        self._tell()

    def _tell(self) -> None:
        """Names all trials in study.json, where a prior looks for posteriors that count, and to `added`."""
        write_study(self._folder, self._plan.spec, self._plan.trials)
        self._added(self._plan.trials)

    def _propose(self, trial: Trial) -> None:
        try:
            data = self._plan.space.point(trial)
            trials = self._plan.at(data)
        except UserError as error:
            self._fail(trial.number, str(error))
            return
        self._open[trial.number] = tuple(t.id for t in trials)
        trial.set_user_attr(TRIALS, list(self._open[trial.number]))
        self._plan.add(trials)
        self._tell()
        for one in trials:
            if one.id not in self._live and not self._folder.record(one.id).exists():
                self._live.add(one.id)
                self._queue.append(one)
        self._settle(trial.number)

    def _settle(self, number: int) -> None:
        """Reports a proposal to Optuna once all its trials have ended."""
        paths = [self._folder.record(i) for i in self._open[number]]
        if not all(path.exists() for path in paths):
            return
        records = [load_record(path) for path in paths]
        reasons = [record.error or "" for record in records if record.status == "failed"]
        found = values(self._plan.search.objective, records)
        if reasons or found is None:
            self._fail(number, reasons[0] if reasons else NOT_FINITE)
        elif any(record.status == "stopped" for record in records):
            self._stop(number, records[0])
        else:
            self._study.tell(number, list(found))
        self._open.pop(number, None)

    def _stop(self, number: int, record: Record) -> None:
        """Reports a trial stopped early with its curve, even if another proposal has the same trial."""
        for score in record.validation:
            self.report(number, score.step, score.loss)
        self._study.tell(number, state=TrialState.PRUNED)

    def _fail(self, number: int, reason: str) -> None:
        store_attribute(self._study, number, REASON, reason)
        self._study.tell(number, state=TrialState.FAIL)
        self._open.pop(number, None)
