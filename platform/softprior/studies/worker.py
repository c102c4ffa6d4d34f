"""What runs inside a Ray worker: one trial, its progress reported, its failure recorded."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TypedDict

from softprior.errors import UserError
from softprior.inputs.specs import ModelSpec, TrialSpec
from softprior.results.folder import StudyFolder
from softprior.results.provenance import code
from softprior.results.records import load_record, save_record
from softprior.results.storage import location
from softprior.studies.failures import explain, failed
from softprior.studies.hosts import SharedModel, host_of
from softprior.studies.reporting import Reporter
from softprior.studies.watchdog import watched
from softprior.training.events import Failed, Phase

if TYPE_CHECKING:
    from softprior.training.trial import Trial


class TrialConfig(TypedDict):
    """What Tune hands to a trial.

    Attributes:
        trial, model: as JSON.
        folder: a path.
        cpus, patience: see `ResourcesSpec`.
        code: the names and texts of the user's own files.
    """

    trial: str
    model: str
    folder: str
    cpus: int
    patience: float | None
    code: list[list[str]]


def run_trial(config: TrialConfig, shared: SharedModel | None = None) -> None:
    """The trainable: runs one trial and leaves its record, whatever happens.

    Args:
        config: see `TrialConfig`.
        shared: the model, if the trial is not to load its own.
    """
    from ray import tune

    from softprior.training.as_planned import require_as_planned
    from softprior.training.environment import environment
    from softprior.training.extension import extend, lasting, not_extended
    from softprior.training.own_code import OwnCode, require_origins, use_code
    from softprior.training.setup import Setup
    from softprior.training.threads import limit_threads
    from softprior.training.trial import Trial

    limit_threads(config["cpus"])
    code()  # known before anybody edits it
    spec = TrialSpec.model_validate_json(config["trial"])
    folder = StudyFolder(location(config["folder"]))
    reporter = Reporter(tune.report)
    started = time.monotonic()
    reporter(Phase(0, "loading the model"))
    before = load_record(folder.record(spec.id)) if folder.record(spec.id).exists() else None
    if before is not None and (before.status != "finished" or not lasting(spec)):
        return  # this is a retry of a trial that had ended before its process did
    trial: Trial | None = None
    try:
        for name, text in config["code"]:
            use_code(OwnCode(name, text))
        require_origins(spec.code)
        with (
            watched(config["patience"], folder.stalls(spec.id), reporter.where),
            host_of(ModelSpec.model_validate_json(config["model"]), shared) as given,
        ):
            trial = Trial(Setup(spec, given.host, given.tokenizer, given.fingerprint), folder, reporter)
            require_as_planned(trial.setup)
            if before is None:
                trial.run()
            else:
                extend(trial, before, reporter)
    except Exception as error:
        reason = explain(error, reporter.where(), folder.error(spec.id))
    else:
        reporter.flush()
        return
    if before is None:
        facts = environment(time.monotonic() - started, trial.setup.host.info() if trial else None)
        record = failed(spec, reason, facts, trial.state if trial else None)
    else:
        # Read again: scores on some tasks may have been saved before the next one failed.
        record = not_extended(spec, load_record(folder.record(spec.id)), reason)
    try:
        save_record(folder.record(spec.id), record)
    except (OSError, UserError):  # the driver tries again, and says so if it cannot either
        reporter(Failed(0, reason))
    reporter.flush()
