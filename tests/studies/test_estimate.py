"""What the dry run says, against counting by hand."""

from dataclasses import replace
from pathlib import Path
from statistics import fmean

import pytest

from softprior.assets.models import known_model, tokenizer_here
from softprior.inputs.entries import Entry
from softprior.inputs.specs import EvaluationSpec, ModelSpec, Rate, StudySpec, TrainingSpec, TrialSpec
from softprior.inputs.study_files import load_grid
from softprior.methods import METHODS
from softprior.studies.components import Components
from softprior.studies.estimate import (
    BLOCK_SECONDS,
    GPU_FLOPS,
    WIDE,
    Cost,
    hours,
    total_cost,
    trial_cost,
    work_in_words,
)
from softprior.studies.plan import plan_study
from softprior.tasks import TASKS
from softprior.tasks.base import Example
from softprior.tasks.prepare import prepared_here
from softprior.testing.families import random_model, save_model
from softprior.training.threads import CORE_FLOPS

SUMS = TASKS["arithmetic"](modules=("two_digit_addition",), test_examples=10, max_new_tokens=6)
"""20 positions an example, by its own account."""


def trial(method: str = "soft", task=SUMS, training: TrainingSpec | None = None, **evaluation) -> TrialSpec:
    trained = METHODS[method].trained
    return TrialSpec(
        model="m",
        model_fingerprint="f",
        dtype="float32",
        method=METHODS.entry(METHODS[method]()),
        prior=Entry(name="isotropic") if trained else None,
        task=TASKS.entry(task),
        data_fingerprint="d",
        rate=Rate(value=1) if trained else None,
        seed=0 if trained else None,
        training=(training or TrainingSpec(steps=7, batch=3)) if trained else None,
        evaluation=EvaluationSpec(**{"examples": 8, "generate": 4, **evaluation}),
    )


def cost(spec: TrialSpec) -> Cost:
    return trial_cost(spec, Components.of([spec]))


def test_training_counts_texts_and_one_prompt_a_pass():
    assert cost(trial()).trained == 7 * (3 * 20 + 20)
    assert cost(trial(training=TrainingSpec(steps=7, batch=3, accumulate=2))).trained == 2 * 7 * 80
    assert cost(trial("none")).trained == 0


def test_evaluation_counts_curve_test_control_and_answers():
    loss, answers = 8 * 20, 4 * (20 + 3)
    # First and last point of validation, the test with and without training, and with contexts shuffled.
    assert cost(trial()).evaluated == 2 * loss + 2 * loss + loss + answers
    assert cost(trial(context_shuffle=False)).evaluated == 4 * loss + answers
    assert cost(trial(generate=0)).evaluated == 5 * loss
    more = TrainingSpec(steps=7, batch=3, curve=5)
    assert cost(trial(training=more)).evaluated == (1 + 5) * loss + 2 * loss + loss + answers
    often = TrainingSpec(steps=7, batch=3, curve=1000)
    assert cost(trial(training=often)).evaluated == (1 + 7) * loss + 2 * loss + loss + answers
    assert cost(trial("none")).evaluated == 2 * loss + loss + answers
    # All of 256 validation examples and of 10 test examples.
    assert cost(trial(examples=10_000)).evaluated == 2 * 256 * 20 + 3 * 10 * 20 + answers


def test_passes_are_counted_in_batches():
    """A step is a pass and its way back, which counts as two; an answer is a pass per token that it has."""
    assert cost(trial("none", batch=3)).passes == 3 + 3 + 3 + 2 * (1 + 3)
    assert cost(trial("none", batch=3, generate=0)).passes == 3 + 3 + 3
    more = TrainingSpec(steps=7, batch=3, accumulate=2)
    assert cost(trial(training=more, generate=0, batch=8)).passes == 3 * 7 * 2 + 2 + 3
    probed = cost(trial(generate=0, batch=3, probes=("removal", "attention"))).passes
    assert probed - cost(trial(generate=0, batch=3)).passes == 3 * (10 + 3)


def test_only_examples_that_exist_are_counted():
    """Of a task that lacks examples, also as another task: in batches, on the curve, in tests and answers."""
    other = TASKS["language"](length=32)
    spec = trial(examples=100, generate=50, also=(TASKS.entry(other),))
    known = Components.of([spec])
    lacking = {
        TASKS.entry(SUMS).canonical(): {"train_short": 1998, "validation_short": 251, "test_short": 7},
        TASKS.entry(other).canonical(): {"test_short": 250},
    }
    found = trial_cost(spec, replace(known, data=lacking))
    assert found.trained == 7 * (2 * 20 + 20)
    assert found.evaluated == 2 * 5 * 20 + 3 * 3 * 20 + 3 * (20 + 3) + 6 * 32
    begun = trial_cost(spec, replace(known, data=lacking), begun=6)
    assert begun.trained == found.trained // 7


def test_tokenised_examples_are_counted_as_they_are(finished_study):
    """What was trained differs by which rows were drawn."""
    plan = plan_study(load_grid(finished_study.file))
    known = [spec for spec in plan.trials if spec.training is not None]
    assert "estimate" not in work_in_words(total_cost(known, plan.components), known, plan.components)
    for spec in known:
        task, training = plan.components.task(spec), spec.training
        lengths = sorted(prepared_here(task, plan.model.fingerprint).train.lengths)
        prompts = training.steps * training.accumulate * plan.components.method(spec).count()
        found = trial_cost(spec, plan.components).trained - prompts
        rows = training.steps * training.accumulate * min(training.batch, len(lengths))
        assert found == round(rows * sum(lengths) / len(lengths))
        drawn = max(lengths) - min(lengths)
        assert abs(found - finished_study.records[spec.id].cost.positions) < drawn * rows / 2
    empty = Components.of(known)
    assert work_in_words(total_cost(known, empty), known, empty).endswith("until the texts are tokenised")


def test_own_rows_are_counted_by_a_sample_until_they_are_tokenised(tmp_path: Path):
    """Digits and signs are tokens of their own: the number of letters alone says a third of them."""
    file = tmp_path / "sums.csv"
    file.write_text("q,a\n" + "".join(f"{i} + {7 * i} + {i * i} = ?,{i * i + 8 * i}\n" for i in range(40)))
    pairs = {"data": str(file), "input": "{q}", "answer": "{a}", "test_examples": 5}
    study = StudySpec.model_validate(
        {
            "name": "sums",
            "model": "tiny",
            "tasks": [{"pairs": pairs}],
            "priors": ["isotropic"],
            "methods": [{"soft": {"tokens": 8}}],
            "rates": [0.1],
            "seeds": [0],
            "training": {"steps": 4, "batch": 4},
        }
    )
    plan = plan_study(study)
    spec = plan.trials[-1]
    task, tokenizer = plan.components.task(spec), tokenizer_here(study.model)
    rows = [task.row(Example.of(one), tokenizer) for one in task.splits().train]
    mean = fmean(len(row.tokens) for row in rows)
    assert plan.components.positions(task, "train") == pytest.approx(mean)
    assert trial_cost(spec, plan.components).trained == round(4 * (4 * mean + 8))
    assert work_in_words(Cost(1, 1), [spec], plan.components).endswith("until the texts are tokenised")
    assert 0.5 < task.positions() / mean < 1.5


def test_tasks_without_contexts_have_none_swapped(tmp_path: Path):
    file = tmp_path / "rows.csv"
    file.write_text("q,a\n" + "".join(f"what is {i}?,{i}\n" for i in range(30)))
    pairs = {"data": str(file), "input": "{q}", "answer": "{a}", "test_examples": 3}
    with_context, without = (
        TASKS["pairs"].model_validate(pairs | {"context": context}) for context in ("q", None)
    )
    one, other = (cost(trial(task=task)).evaluated for task in (with_context, without))
    assert one - other == 3 * without.positions()


def test_a_task_that_generates_nothing_costs_only_its_loss():
    task = TASKS["language"](length=32)
    assert cost(trial(task=task)).evaluated == 4 * 8 * 32


def test_costs_add_up():
    trials = (trial(), trial("deep"), trial("none"))
    total = total_cost(trials, Components.of(trials))
    assert total == tuple(map(sum, zip(*map(cost, trials), strict=True)))
    assert total_cost((), Components.of(())) == Cost(0, 0)


def test_a_trained_position_costs_twice_an_evaluated_one():
    assert Cost(0, 5).flops(1000) == 2 * 1000 * 5
    assert Cost(5, 0).flops(1000) == 2 * Cost(0, 5).flops(1000)


def test_hours_of_a_known_model():
    smol = known_model(ModelSpec(id="smollm2-135m-instruct-q4_1"))
    # The design's figure: 3.2 million positions trained in three hours on two cores.
    assert hours(Cost(3_200_000, 0), smol, 2, 0.0) == pytest.approx(3, rel=0.05)
    assert hours(Cost(10**6, 0), smol, 4, 0.0) == pytest.approx(hours(Cost(10**6, 0), smol, 2, 0.0) / 2)
    gpu = hours(Cost(10**6, 0), smol, 1, 1.0)
    assert gpu == pytest.approx(hours(Cost(10**6, 0), smol, 1, 0.0) * CORE_FLOPS / GPU_FLOPS)
    assert hours(Cost(10**6, 0), smol, 1, 0.5) == pytest.approx(2 * gpu)
    # A pass takes the same time on top on any number of CPUs; the rate of a GPU has it in it.
    for cpus, gpus, blocks in ((1, 0.0, 30), (4, 0.0, 30), (1, 1.0, 0)):
        more, less = (hours(Cost(10**6, 0, passes), smol, cpus, gpus) for passes in (1000, 0))
        assert more - less == pytest.approx(1000 * blocks * BLOCK_SECONDS / 3600)
    wider = smol._replace(shape=smol.shape._replace(hidden=4 * WIDE))
    assert hours(Cost(10**6, 0), wider, 2, 0.0) == hours(Cost(10**6, 0), smol, 2, 0.0)


def test_hours_of_a_folder_and_of_a_model_of_unknown_size(tmp_path: Path):
    model = random_model("llama")
    here = known_model(ModelSpec(id=str(save_model(model, tmp_path))))
    found = hours(Cost(0, 10**9), here, 1, 0.0)
    count = sum(weight.numel() for weight in model.parameters())
    narrow = (here.shape.hidden / WIDE) ** 0.5
    assert found == pytest.approx(2 * count * 10**9 / (narrow * CORE_FLOPS) / 3600)
    assert hours(Cost(1, 1), here._replace(parameters=None), 1, 0.0) is None
