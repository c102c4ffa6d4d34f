"""Small real trials and studies on the shipped model, for tests of training, studies and tracking."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tokenizers.processors import TemplateProcessing
from transformers import AutoTokenizer

from softprior.assets.models import resolve_model
from softprior.inputs.base import Spec
from softprior.inputs.specs import EvaluationSpec, ModelSpec, Rate, TrainingSpec, TrialSpec
from softprior.inputs.study_files import load_grid
from softprior.methods import METHODS
from softprior.models.load import Loaded, load_local
from softprior.priors import PRIORS
from softprior.regularisers import REGULARISERS
from softprior.results.digested import read_header
from softprior.results.folder import StudyFolder
from softprior.results.records import Record, save_record
from softprior.studies.plan import Plan, plan_study
from softprior.studies.table import write_study, write_table
from softprior.tasks import TASKS
from softprior.training.setup import Setup
from softprior.training.trial import Trial

QUESTIONS = Path(__file__).parent / "data" / "questions.json"

SUMS: dict[str, Any] = {
    "modules": ["two_digit_addition"],
    "train_examples": 200,
    "validation_examples": 20,
    "test_examples": 20,
    "max_new_tokens": 5,
}

SIZES: dict[str, Any] = {
    "vocab_size": 97,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
"""Of a random decoder of most families."""

SIX_STEPS: dict[str, Any] = {"steps": 6, "batch": 8, "checkpoint": 1, "curve": 2}


def tiny() -> Loaded:
    """The shipped model, loaded once a process."""
    return load_local(ModelSpec(id="tiny", device="cpu"))


def with_bos(folder: Path) -> Path:
    """The shipped model with a tokenizer that begins every text with its special token; a folder to load."""
    shutil.copytree(resolve_model(ModelSpec(id="tiny")).folder, folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    first = tokenizer.eos_token
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single=f"{first} $A", special_tokens=[(first, tokenizer.eos_token_id)]
    )
    tokenizer.bos_token = first
    tokenizer.save_pretrained(folder)
    return folder


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
        method=METHODS.entry(method),
        prior=PRIORS.entry(prior or PRIORS["fitted"]()) if trained else None,
        regularisers=tuple(REGULARISERS.entry(regulariser) for regulariser in regularisers),
        task=TASKS.entry(task),
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
        Setup(spec, loaded.host, loaded.tokenizer, loaded.fingerprint),
        StudyFolder(root),
        report or (lambda _: None),
    ).run()


class Finished(NamedTuple):
    """A study that has ended: its file, its plan, its folder `results/small` and its records by trial."""

    file: Path
    plan: Plan
    folder: StudyFolder
    records: dict[str, Record]

    def copy(self, root: Path) -> StudyFolder:
        """The folder again in `root/results`, with a file in place of each figure."""
        folder = StudyFolder(root / "results" / "small")
        shutil.copytree(self.folder.root, folder.root)
        for trial in self.records:
            folder.figure(trial).parent.mkdir(exist_ok=True)
            folder.figure(trial).write_bytes(b"a picture")
        return folder


def finish_study(root: Path) -> Finished:
    """Runs the study of `study_file` in this process, without Ray."""
    file = study_file(root / "small.yaml")
    plan = plan_study(load_grid(file))
    folder = StudyFolder(root / "results" / "small")
    records = {trial.id: run(trial, folder.root) for trial in plan.trials}
    write_study(folder, plan.spec, plan.trials)
    write_table(folder, plan.trials, plan.components, records)
    return Finished(file, plan, folder, records)


def with_repeats(finished_study: Finished, root: Path, *overrides: str) -> Finished:
    """The finished study with `evaluation.twin` or `reordered` on: only the trials that it adds run."""
    plan = plan_study(load_grid(finished_study.file, overrides))
    folder = finished_study.copy(root)
    records = dict(finished_study.records)
    for one in plan.trials:
        if one.id not in records:
            records[one.id] = run(one, folder.root)  # type: ignore[arg-type]
    write_study(folder, plan.spec, plan.trials)
    write_table(folder, plan.trials, plan.components, records)
    return Finished(finished_study.file, plan, folder, records)


def with_seeds(finished_study: Finished, root: Path, seeds: int) -> StudyFolder:
    """The finished study with further seeds, whose losses differ by known amounts."""
    folder = finished_study.copy(root)
    header = read_header(folder.study)
    losses = np.random.default_rng(0).normal(0, 0.01, (2, seeds))
    known = finished_study.records.values()
    trained = [record for record in known if record.spec.seed is not None and record.spec.repeat is None]
    for seed in range(1, seeds):
        for i, record in enumerate(trained):
            spec = record.spec.model_copy(update={"seed": seed})
            assert record.test is not None
            test = record.test.model_copy(update={"loss": 2.0 + i + float(losses[i, seed])})
            own = record.model_copy(update={"id": spec.id, "spec": spec, "test": test})
            save_record(folder.record(own.id), own)
            header["trials"].append(own.id)
    folder.study.write_text(json.dumps(header), encoding="utf-8")
    return folder


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


def questions(folder: Path, answer: Callable[[int], str]) -> Path:
    """Twelve articles of one question."""
    articles = [
        {
            "title": f"Article {i}",
            "paragraphs": [
                {
                    "context": f"Of article {i} one may {answer(i)} read.",
                    "qas": [
                        {
                            "id": f"q{i}",
                            "question": "What?",
                            "answers": [{"text": answer(i), "answer_start": 0}],
                        }
                    ],
                }
            ],
        }
        for i in range(12)
    ]
    path = folder / "questions.json"
    path.write_text(json.dumps({"data": articles}), encoding="utf-8")
    return path
