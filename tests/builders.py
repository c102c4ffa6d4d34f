"""Small real trials and studies on the shipped model, for tests of training, studies and tracking."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from softprior.methods import METHODS
from softprior.models.load import Loaded, load_local
from softprior.priors import PRIORS
from softprior.records import Record
from softprior.regularisers import REGULARISERS
from softprior.results import StudyFolder
from softprior.specs import EvaluationSpec, ModelSpec, Rate, Spec, TrainingSpec, TrialSpec
from softprior.studies.plan import entry_of
from softprior.tasks import TASKS
from softprior.training.trial import Trial

QUESTIONS = Path(__file__).parent / "data" / "questions.json"

SUMS: dict[str, Any] = {
    "modules": ["two_digit_addition"],
    "train_examples": 200,
    "validation_examples": 20,
    "test_examples": 20,
    "max_new_tokens": 5,
}

SIX_STEPS: dict[str, Any] = {"steps": 6, "batch": 8, "checkpoint": 1, "curve": 2}


def tiny() -> Loaded:
    """The shipped model, loaded once a process."""
    return load_local(ModelSpec(id="tiny", device="cpu"))


def trial(
    method: Spec | None = None,
    prior: Spec | None = None,
    task: Spec | None = None,
    rate: Rate | None = None,
    seed: int = 0,
    regularisers: Sequence[Spec] = (),
    **training: Any,
) -> TrialSpec:
    """A trial of six steps on two-digit additions, unless told otherwise."""
    method = method or METHODS["soft"](tokens=4)
    task = task or TASKS["arithmetic"].model_validate(SUMS)
    trained = method.trained
    return TrialSpec(
        model="tiny",
        model_fingerprint=tiny().fingerprint,
        dtype="float32",
        method=entry_of(METHODS, method),
        prior=entry_of(PRIORS, prior or PRIORS["fitted"]()) if trained else None,
        regularisers=tuple(entry_of(REGULARISERS, regulariser) for regulariser in regularisers),
        task=entry_of(TASKS, task),
        data_fingerprint=task.fingerprint(),
        rate=(rate or Rate(value=0.05)) if trained else None,
        seed=seed if trained else None,
        training=TrainingSpec(**{"steps": 6, "batch": 8, "checkpoint": 1, "curve": 2, **training})
        if trained
        else None,
        evaluation=EvaluationSpec(examples=10, generate=4, batch=5),
    )


def run(spec: TrialSpec, root: Path, report: Any = None) -> Record:
    """Runs a trial in this process, without Ray."""
    loaded = tiny()
    return Trial(
        spec, loaded.host, loaded.tokenizer, loaded.fingerprint, StudyFolder(root), report or (lambda _: None)
    ).run()


def study_file(path: Path, **changes: Any) -> Path:
    """Writes a study of two trained trials and a baseline; `changes` replace top-level keys."""
    import yaml

    study: dict[str, Any] = {
        "name": "small",
        "model": {"id": "tiny", "device": "cpu"},
        "priors": ["isotropic", "fitted"],
        "methods": [{"soft": {"tokens": 4}}],
        "tasks": [{"arithmetic": SUMS}],
        "rates": [0.05],
        "seeds": [0],
        "training": {"steps": 6, "batch": 8, "checkpoint": 1},
        "evaluation": {"examples": 10, "generate": 4},
        "resources": {"cpus": 1},
    }
    path.write_text(yaml.safe_dump(study | changes), encoding="utf-8")
    return path
