"""Where Optuna keeps a search: a journal in the results folder, or a database."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import optuna
from optuna.exceptions import ExperimentalWarning, OptunaError
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

from softprior.errors import UserError, without_mask
from softprior.inputs.labels import counted
from softprior.results.folder import StudyFolder
from softprior.results.records import read_study
from softprior.results.storage import location
from softprior.studies.search.optuna_private import contains
from softprior.studies.search.plan import SearchPlan
from softprior.studies.search.sampler import Seeded

SQLITE, BEGINS = "sqlite:///", b"SQLite format 3\0"
"""How the address of a database file begins, and such a file."""

IDENTITY = "softprior.search"
"""Attribute of the Optuna study: what it searches over."""

RESULTS = "softprior.results"
"""Attribute of the Optuna study: the folder that has its trials' records."""

WARM = "softprior.warm"
"""Attribute of the Optuna study: the earlier search's points have been enqueued."""

TRIALS = "softprior.trials"
"""Attribute of an Optuna trial: the ids of its trials, in order."""

REASON = "softprior.reason"
"""Attribute of an Optuna trial that failed: why."""


def open_search(plan: SearchPlan, folder: StudyFolder) -> Study:
    """The Optuna study of a search: a new one, or the existing one.

    Raises:
        UserError: the storage has another search of this name, or this one with results elsewhere, or cannot
            be opened.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    search = plan.search
    sampler = Seeded(search.sampler, search.seed, search.concurrent > 1)
    if search.storage is None and isinstance(folder.journal, Path):
        _mend(folder.journal)
    storage = _storage(search.storage, folder)
    study = optuna.create_study(
        storage=storage,
        sampler=sampler,
        pruner=optuna.pruners.NopPruner(),
        study_name=plan.study.name,
        directions=[StudyDirection.MINIMIZE] * len(search.objective),
        load_if_exists=True,
    )
    found = study.user_attrs.get(IDENTITY)
    if found is None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            study.set_metric_names([objective.label for objective in search.objective])
        study.set_user_attr(IDENTITY, plan.identity())
    elif found != plan.identity():
        where = search.storage or folder.journal
        raise UserError(
            f"the search '{plan.study.name}' in {where} was started with other ranges, objectives or "
            "weights; choose another name, or restore them"
        )
    _require_folder(study, plan, folder)
    if search.warm_start is not None and WARM not in study.user_attrs:
        _warm(study, plan, search.warm_start.study, search.warm_start.points)
    return study


def begun(plan: SearchPlan, folder: StudyFolder) -> Study | None:
    """The Optuna study of a search that has begun in a folder, for reading; None before it begins.

    Raises:
        UserError: the storage cannot be opened.
    """
    known = read_study(folder.study)["spec"].get("search") if folder.study.exists() else None
    url = plan.search.storage
    if known is None or known.get("storage") != plan.search.model_dump(mode="json")["storage"]:
        return None
    if url is None and not folder.journal.exists():
        return None
    storage = _storage(url, folder)
    if plan.study.name not in optuna.get_all_study_names(storage):
        return None
    return optuna.load_study(study_name=plan.study.name, storage=storage)


def ids_of(study: Study) -> Iterator[str]:
    """The ids of the trials of every proposal, one after another; two proposals may have the same trial."""
    for proposal in study.get_trials(deepcopy=False):
        yield from proposal.user_attrs.get(TRIALS, ())


def begin_anew(study: Study, plan: SearchPlan, folder: StudyFolder) -> Study:
    """A new Optuna study of this name; the storage keeps the old one under the name `... before N`."""
    storage = _storage(plan.search.storage, folder)
    taken = optuna.get_all_study_names(storage)
    names = (f"{plan.study.name} before {number}" for number in count(1))
    kept = next(name for name in names if name not in taken)
    optuna.copy_study(
        from_study_name=study.study_name, from_storage=storage, to_storage=storage, to_study_name=kept
    )
    optuna.delete_study(study_name=study.study_name, storage=storage)
    return open_search(plan, folder)


def _require_folder(study: Study, plan: SearchPlan, folder: StudyFolder) -> None:
    """A database may serve several results folders, but the records of a search are in one of them."""
    if plan.search.storage is None:
        return
    here, known = str(folder.root), study.user_attrs.get(RESULTS)
    if known is None:
        study.set_user_attr(RESULTS, here)
    elif known != here:
        raise UserError(
            f"the search '{plan.study.name}' in {plan.search.storage} has its results in {known}, "
            f"not in {here}; give that folder's parent as --results, or choose another name"
        )


def read_search(folder: str | Path) -> Study:
    """The Optuna study of a results folder, for reading.

    Raises:
        UserError: the folder has no search.
    """
    found = StudyFolder(location(folder))
    header = read_study(found.study) if found.study.exists() else {}
    spec = header.get("spec", {}).get("search")
    if spec is None or (spec.get("storage") is None and not found.journal.exists()):
        raise UserError(f"{folder} contains no search; give the results folder of one")
    address = None if spec.get("storage") is None else without_mask(spec["storage"])
    return optuna.load_study(study_name=header["spec"]["name"], storage=_storage(address, found))


def require_storage(url: str | None, folder: StudyFolder) -> None:
    """Checks that a search can keep its state where the study file and the results folder say.

    Raises:
        UserError: results are in a bucket, which cannot contain a database, and no database address is given;
            or the address is of a file that cannot be a database.
    """
    if url is None and not isinstance(folder.journal, Path):
        raise UserError(
            f"a search with results in {folder.root} needs a database, but search.storage is not set; "
            "give its address, such as postgresql://USER@HOST/optuna"
        )
    if url is not None and url.startswith(SQLITE):
        path = Path(make_url(url).database or "")
        try:
            there, fits = os.path.isdir(path.parent), _may_be_a_database(path)
        except OSError as error:
            raise UserError(
                f"search.storage = {url} cannot be opened ({error.strerror}); name another file"
            ) from None
        if not there:
            raise UserError(
                f"search.storage = {url} cannot be opened: there is no folder {path.parent}; make it, or "
                "correct the address"
            )
        if not fits:
            raise UserError(
                f"search.storage = {url} cannot be opened: it is not an SQLite database; name another file"
            )


def _may_be_a_database(path: Path) -> bool:
    """Whether SQLite could open or create it."""
    try:
        with path.open("rb") as file:
            return file.read(len(BEGINS)) in (b"", BEGINS)
    except FileNotFoundError:
        return True
    except IsADirectoryError:
        return False


def _storage(url: str | None, folder: StudyFolder) -> BaseStorage:
    require_storage(url, folder)
    if url is None:
        journal = folder.journal
        assert isinstance(journal, Path)
        journal.parent.mkdir(parents=True, exist_ok=True)
        return JournalStorage(JournalFileBackend(str(journal)))
    try:
        return RDBStorage(url)
    except (SQLAlchemyError, OptunaError, ImportError) as error:
        first = str(error).splitlines()[0]
        raise UserError(
            f"search.storage = {url} cannot be opened ({first}); start it or correct the address"
        ) from None


def _mend(journal: Path) -> None:
    """Removes a last line that a kill or a full disk left incomplete: Optuna would append to it."""
    if not journal.exists():
        return
    with journal.open("rb+") as file:
        content = file.read()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            file.truncate(whole)


def _warm(study: Study, plan: SearchPlan, folder: str, points: int) -> None:
    """Puts the best points of an earlier search first; each is evaluated again.

    Raises:
        UserError: there is no such search, or none of its points lies in this space.
    """
    found = read_search(folder)
    earlier = found.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    front = {trial.number for trial in found.best_trials}
    order = sorted(earlier, key=lambda trial: (trial.number not in front, trial.values, trial.number))
    fits = [trial.params for trial in order if _contained(trial, plan)]
    if not fits:
        raise UserError(
            f"search.warm_start: {folder} has {counted(len(earlier), 'point')}, none of which lies inside "
            "this study's ranges; widen them, or leave warm_start out"
        )
    for params in fits[:points]:
        study.enqueue_trial(params, skip_if_exists=True)
    study.set_user_attr(WARM, folder)


def _contained(trial: FrozenTrial, plan: SearchPlan) -> bool:
    """Whether a point has a value inside the range of every parameter that exists there."""
    params = trial.params
    for name, distribution, condition in plan.space.parameters:
        if condition is not None and params.get(condition[0]) != condition[1]:
            continue
        if name not in params:
            return False
        try:
            inside = contains(distribution, params[name])
        except (TypeError, ValueError):
            return False
        if not inside:
            return False
    return True
