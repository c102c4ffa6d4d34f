"""The results of a study, for people and notebooks: tidy tables, records, curves and posteriors."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from softprior.assets.cache import place
from softprior.assets.fingerprints import combined
from softprior.errors import UserError, suggestion
from softprior.inputs.labels import SHORTEST, counted, labels
from softprior.inputs.specs import REPEATS, Repeat
from softprior.library.examples import examples_table
from softprior.library.geometry import geometry_table
from softprior.library.reading import (
    has_posterior,
    labelled,
    read_posterior,
    read_table,
    require_table_of,
    sound_records,
)
from softprior.library.repeats import pairs_table
from softprior.library.sanity import sanity_table
from softprior.results.folder import StudyFolder
from softprior.results.records import Record, read_study
from softprior.results.storage import Location, location

if TYPE_CHECKING:
    import pandas as pd

    from softprior.results.posteriors import Posterior
    from softprior.studies.search.summary import Summary


class Tracked(NamedTuple):
    """How writing to MLflow went.

    Attributes:
        uri: where to, without a password.
        problem: what could not be sent; None if nothing is missing.
        notes: what a user should know, one sentence each.
        page: the address of the view that compares the trials, from the server's on; None if it is not known.
    """

    uri: str
    problem: str | None
    notes: tuple[str, ...]
    page: str | None = None


class Sound(NamedTuple):
    """The trials of a study that have ended.

    Attributes:
        records: those that can be read, by trial id, in the study's order, without repeated trials.
        ended: the same with them.
        damaged: a sentence for each of the others.
    """

    records: Mapping[str, Record]
    ended: Mapping[str, Record]
    damaged: tuple[str, ...]


ValueT = TypeVar("ValueT")


WHOLE = 16
"""Characters of a whole id, which begins no other: a loop over many ids looks for none that it begins."""


class UnknownTrialError(UserError, KeyError):
    """No trial, or more than one, has such an id; a `KeyError` where mappings need one."""

    __str__ = Exception.__str__  # a KeyError shows its text in quotes


class ByTrial(dict[str, ValueT]):
    """Values by trial id.

    Brackets, `in` and `get` also take the first characters of an id, as printed tables show them, where they
    are of one id alone.
    """

    def __missing__(self, trial: str) -> ValueT:
        return self[full_id(trial, self.keys())]

    def __contains__(self, trial: object) -> bool:
        try:
            return isinstance(trial, str) and full_id(trial, self.keys()) in self.keys()
        except UnknownTrialError:
            return False

    def get(self, trial: str, default: Any = None) -> Any:
        """The value of a trial; `default` if there is none, or more than one whose id begins so."""
        try:
            return self[trial]
        except UnknownTrialError:
            return default


def full_id(trial: str, known: Collection[str]) -> str:
    """The id that a text is, or begins.

    Raises:
        UnknownTrialError: it begins none of the known ones, or several, or is shorter than in any table.
    """
    if not isinstance(trial, str):
        raise UnknownTrialError(
            f"{trial!r} is not the id of a trial; Results.table lists the ids, which are texts"
        )
    if trial in known:
        return trial
    found = [i for i in known if i.startswith(trial)] if SHORTEST <= len(trial) < WHOLE else []
    if len(found) == 1:
        return found[0]
    if found:
        raise UnknownTrialError(
            f"{counted(len(found), 'trial')} have ids that begin with '{trial}'; give more of it"
        )
    raise UnknownTrialError(
        f"'{trial}' is not the id of one of these {counted(len(known), 'trial')}, nor its first {SHORTEST} "
        "or more characters; Results.table lists the ids, also of twins and of trials that have not ended"
    )


class Results:
    """A study's results folder. Tables and records are read when first asked for, and once.

    Attributes:
        folder: what is where.
        tracked: how writing to MLflow went, if this process has just run the study.
    """

    def __init__(
        self,
        folder: str | Path | Location,
        records: Mapping[str, Record] | None = None,
        tracked: Tracked | None = None,
    ) -> None:
        """Opens `results/<study name>`, a path or an address in a bucket.

        Args:
            records: of the study's trials, if they have been read already.

        Raises:
            UserError: no study has been run there.
        """
        self.folder = StudyFolder(location(folder) if isinstance(folder, str) else folder)
        self.tracked = tracked
        self._known = records
        if not self.folder.study.exists():
            raise UserError(
                f"{self.folder.root} contains no results of a study (it has no study.json); "
                f"{_instead(self.folder.root)}"
            )

    @classmethod
    def from_mlflow(cls, uri: str, study: str, folder: str | Path | None = None) -> Results:
        """The results of a study that MLflow has, copied to this machine; progress bars are MLflow's.

        Args:
            uri: of a tracking server (`http://...`), or `sqlite:///PATH` of a database.
            study: its name.
            folder: becomes the study's results folder; by default a folder in softprior's cache.

        Raises:
            UserError: MLflow cannot be read, does not have the study, or has no end of a run of it.
        """
        from softprior.tracking.fetched import fetch_study

        where = Path(folder).expanduser() if folder else place(f"tracked/{combined(str(uri))[:16]}/{study}")
        fetch_study(uri, study, where)
        return cls(where)

    def __repr__(self) -> str:
        return f"Results({str(self.folder.root)!r})"

    @cached_property
    def study(self) -> dict[str, Any]:
        """study.json: spec, trial ids, fingerprints, versions and commit.

        Raises:
            UserError: it is damaged, or of another study than the table beside it.
        """
        found = read_study(self.folder.study)
        if isinstance(self.folder.table, Path):  # from a bucket the whole table would be fetched
            require_table_of(found["spec"]["name"], self.folder.table)
        return found

    @cached_property
    def trials(self) -> pd.DataFrame:
        """One row per trial, repeated ones left out; docs/results.md says what each column means.

        Raises:
            UserError: the first run of the study has not ended.
        """
        return self.table[self.table[list(REPEATS)].isna().all(axis=1)].reset_index(drop=True)

    @cached_property
    def table(self) -> pd.DataFrame:
        """trials.parquet as it is: one row per trial, repeated ones among them.

        Of these the column `twin` or `reordered` is not null.

        Raises:
            UserError: the first run of the study has not ended.
        """
        _ = self.study  # which the table must be of
        try:
            found = read_table(self.folder.table)
        except FileNotFoundError:
            raise UserError(
                f"{self.folder.table} does not exist yet; wait for the run to end, or read the records"
            ) from None
        # Tables from before there were such trials have no such column.
        return found.assign(**{kind: None for kind in REPEATS if kind not in found})

    @cached_property
    def sound(self) -> Sound:
        """The records that can be read, and what is wrong with the others."""
        wanted = self.study["trials"]
        if self._known is None:
            found, damaged = sound_records(self.folder, wanted)
        else:
            found, damaged = {trial: self._known[trial] for trial in wanted if trial in self._known}, ()
        ended = labelled(found, self.study, self.folder)
        return Sound(_without_repeats(ended), ByTrial(ended), damaged)

    @cached_property
    def records(self) -> Mapping[str, Record]:
        """Everything that is known about each trial that has ended, by trial id (see `ByTrial`).

        Their specs are shown under the labels of the study file as it was last run. Repeated trials are left
        out: they are not further seeds, and in a mean over seeds they would count as such.

        Raises:
            UserError: a record is damaged; `sound` has the others.
        """
        return _without_repeats(self.ended)

    @cached_property
    def twins(self) -> Mapping[str, Record]:
        """The records of twins that have ended, by their own ids; `spec.original` is the trial repeated.

        Raises:
            UserError: a record is damaged; `sound` has the others.
        """
        return _repeats(self.ended, "twin")

    @cached_property
    def reordered(self) -> Mapping[str, Record]:
        """The same of the trials that repeat others with another order of the data.

        Raises:
            UserError: a record is damaged; `sound` has the others.
        """
        return _repeats(self.ended, "reordered")

    @property
    def ended(self) -> Mapping[str, Record]:
        """The records of all trials that have ended, repeated ones among them, in the study's order.

        Raises:
            UserError: a record is damaged; `sound` has the others.
        """
        if self.sound.damaged:
            raise UserError(self.sound.damaged[0])
        return self.sound.ended

    @cached_property
    def pairs(self) -> pd.DataFrame:
        """One row per trial and its twin, if both have finished: what rounding does to this study's numbers.

        Columns: trial, twin, label (the trial's), test_loss, twin_test_loss, apart (the absolute difference).
        """
        return pairs_table(self.records, self.twins, self.labels, "twin")

    @cached_property
    def reordered_pairs(self) -> pd.DataFrame:
        """One row per trial and its reordered repetition, if both have finished: what the data's order does.

        Columns: trial, reordered, label (the trial's), test_loss, reordered_test_loss, apart.
        """
        return pairs_table(self.records, self.reordered, self.labels, "reordered")

    @cached_property
    def labels(self) -> Mapping[str, str]:
        """The label of each trial within the study, by trial id, as in `table`.

        While a study runs, its table is missing or that of its last run, and only trials that have ended
        have labels.
        """
        try:
            found = dict(zip(self.table.trial, self.table.label, strict=True))
        except UserError:
            found = {}
        if not found.keys() >= self.ended.keys():
            found = labels([record.spec for record in self.ended.values()])
        return ByTrial(found)

    @cached_property
    def curves(self) -> pd.DataFrame:
        """One row per trial and step: loss, gradient, distance moved, and validation if any.

        Columns: trial, label, step, loss, rate, gradient, moved, validation_loss, validation_accuracy. Step 0
        has only the untrained sample's validation.
        """
        import pandas as pd

        rows = [row for record in self.records.values() for row in _curve(record, self.labels[record.id])]
        return pd.DataFrame(rows, columns=list(_COLUMNS))

    @cached_property
    def predictions(self) -> pd.DataFrame:
        """The generated answers of the test split: columns trial, label, example, answer."""
        import pandas as pd

        rows = [
            (record.id, self.labels[record.id], found.example, found.answer)
            for record in self.records.values()
            for found in record.predictions
        ]
        return pd.DataFrame(rows, columns=["trial", "label", "example", "answer"])

    @cached_property
    def examples(self) -> pd.DataFrame:
        """One row per trial, task and test example, baselines included; docs/results.md has the columns.

        Trials from before such rows were kept are left out. So are those whose files are missing or damaged,
        with a warning that names the first.
        """
        return examples_table(self.folder, self.records, self.labels)

    @cached_property
    def geometry(self) -> pd.DataFrame:
        """One row per trained trial and place: how far its vectors moved, and where they ended.

        Columns: trial, label, place, and the fields of `softprior.results.records.PlaceGeometry`.
        """
        return geometry_table(self.records, self.labels)

    @cached_property
    def sanity(self) -> pd.DataFrame:
        """One row per finished trial, repeated ones among them, and check; docs/results.md explains each.

        Columns: trial, label, check, number, verdict (`passed`, `alarm` or `fault`), words (what is wrong;
        null if it passed). Trials from before there were checks have no rows.
        """
        return sanity_table(self.ended, self.labels)

    @cached_property
    def posteriors(self) -> Mapping[str, Posterior]:
        """Where each trained trial's vectors started, passed and ended, by trial id; read when needed."""
        records = self.sound.records
        return _Posteriors(self.folder, [i for i in records if has_posterior(records[i])], records.keys())

    @cached_property
    def summary(self) -> Summary | None:
        """What a search found; None for a grid, or until the search has ended."""
        from softprior.studies.search.summary import load_summary

        return load_summary(self.folder) if self.folder.summary.exists() else None


_COLUMNS = (
    "trial",
    "label",
    "step",
    "loss",
    "rate",
    "gradient",
    "moved",
    "validation_loss",
    "validation_accuracy",
)


def _instead(root: Location) -> str:
    """What to give in place of a path that is not a study's folder."""
    if isinstance(root, Path):
        if root.is_file():
            return "give the folder of the study, not a file"
        inside = sorted(path.parent.name for path in root.glob("*/study.json"))
        if inside:
            more = f" and {len(inside) - 3:,} more" if len(inside) > 3 else ""
            return f"give the folder of a study in it: {', '.join(inside[:3])}{more}"
        beside = sorted(path.parent.name for path in root.parent.glob("*/study.json"))
        if beside and not root.exists():
            return suggestion(root.name, beside)
    return "give the folder results/NAME of a study that was run"


def _curve(record: Record, label: str) -> Iterator[dict[str, object]]:
    points = {point.step: point for point in record.steps}
    scores = {score.step: score for score in record.validation}
    for step in sorted({*points, *scores}):
        row: dict[str, object] = {"trial": record.id, "label": label, "step": step}
        if step in points:
            point = points[step]
            row |= {name: getattr(point, name) for name in ("loss", "rate", "gradient", "moved")}
        if step in scores:
            row |= {"validation_loss": scores[step].loss, "validation_accuracy": scores[step].accuracy}
        yield row


def _without_repeats(ended: Mapping[str, Record]) -> ByTrial[Record]:
    return ByTrial({i: record for i, record in ended.items() if record.spec.repeat is None})


def _repeats(ended: Mapping[str, Record], kind: Repeat) -> ByTrial[Record]:
    return ByTrial({i: record for i, record in ended.items() if record.spec.repeat == kind})


class _Posteriors(Mapping[str, "Posterior"]):
    """Posterior files by trial id."""

    def __init__(self, folder: StudyFolder, trials: list[str], every: Collection[str]) -> None:
        """Of `trials`, among all whose ids are known."""
        self._folder = folder
        self._trials = trials
        self._all = every

    def __getitem__(self, trial: str) -> Posterior:
        known = full_id(trial, self._all)
        if known not in self._trials:
            raise UnknownTrialError(
                f"the trial '{known}' has no posterior, as it has no trained prompt or has not finished; "
                "list(Results.posteriors) has the ids of those that have one"
            )
        return read_posterior(self._folder, known)

    def __iter__(self) -> Iterator[str]:
        return iter(self._trials)

    def __len__(self) -> int:
        return len(self._trials)
