"""The results folder of a study: where each file is."""

from __future__ import annotations

from dataclasses import dataclass

from softprior.results.storage import Location

GONE = "copy it there from where the study ran, or run the study again into another folder (--results)"
"""The remedy for a file of a finished trial that is not in the folder, as of published results."""

POSTERIORS = "posteriors"
"""Folder of the vectors of trained prompts, a file per trial under its id."""


@dataclass(frozen=True)
class StudyFolder:
    """Paths inside one study's results folder; ids are hexadecimal, so names are safe.

    Attributes:
        root: `results/<study name>`, absolute (trials run in directories of their own) or in an object store.
    """

    root: Location

    @property
    def study(self) -> Location:
        """Spec, versions, commit and fingerprints."""
        return self.root / "study.json"

    @property
    def table(self) -> Location:
        """One row per trial."""
        return self.root / "trials.parquet"

    @property
    def records(self) -> Location:
        """One JSON file per finished or failed trial."""
        return self.root / "records"

    @property
    def checkpoints(self) -> Location:
        """From which trials go on that were interrupted."""
        return self.root / "checkpoints"

    @property
    def earlier(self) -> StudyFolder:
        """What trials had that are run again, until the new record is whole."""
        return StudyFolder(self.root / "earlier")

    @property
    def lock(self) -> Location:
        """Held by the process that runs the study."""
        return self.root / ".lock"

    @property
    def scratch(self) -> Location:
        """Ray Tune's own files; nothing in it is read again."""
        return self.root / ".tune"

    @property
    def journal(self) -> Location:
        """What a search has proposed and been told: Optuna's storage, where it has no database."""
        return self.root / "optuna.journal"

    @property
    def search(self) -> Location:
        """Figures and tables of a search."""
        return self.root / "search"

    @property
    def summary(self) -> Location:
        """What a search found, once it has ended."""
        return self.search / "summary.json"

    @property
    def dashboard(self) -> Location:
        """A copy of an ended search as SQLite, which Optuna's dashboard in the browser opens."""
        return self.search / "optuna.db"

    @property
    def report(self) -> Location:
        """The page that says what the study shows."""
        return self.root / "report.html"

    @property
    def connectivity(self) -> Location:
        """Losses along the lines between posteriors, where they were measured."""
        return self.root / "connectivity.json"

    def background(self, fingerprint: str) -> Location:
        """A sample of a model's vocabulary, for figures."""
        return self.root / "vocabulary" / f"{fingerprint[:16]}.safetensors"

    def untrained(self, key: str) -> Location:
        """Losses of an untrained sample on a split, by all that decides them."""
        return self.root / "untrained" / f"{key}.json"

    def record(self, trial: str) -> Location:
        return self.records / f"{trial}.json"

    def examples(self, trial: str) -> Location:
        """One row per test example."""
        return self.root / "examples" / f"{trial}.parquet"

    def posterior(self, trial: str) -> Location:
        return self.root / POSTERIORS / f"{trial}.safetensors"

    def figure(self, trial: str) -> Location:
        return self.root / "figures" / f"{trial}.png"

    def vector(self, trial: str) -> Location:
        """The same figure as PDF."""
        return self.root / "figures" / f"{trial}.pdf"

    def error(self, trial: str) -> Location:
        """The traceback of an unexpected failure."""
        return self.root / "errors" / f"{trial}.txt"

    def stalls(self, trial: str) -> Location:
        """The stacks of the trial's threads each time that it hung."""
        return self.root / "errors" / f"{trial}-stalls.txt"

    def kept(self, series: str, steps: int) -> Location:
        """The last checkpoint of a finished trial, if it was to be kept.

        Args:
            series: the id of the same trial with one step, by which all of its lengths are found.
        """
        return self.checkpoints / "kept" / f"{series}-{steps}.safetensors"

    def checkpoint(self, trial: str) -> Location:
        return self.checkpoints / f"{trial}.safetensors"
