"""What a plan says before it runs: how trials share the machine, what is fitted, what a task lacks."""

from __future__ import annotations

import gzip
import json
import re
from dataclasses import replace
from math import inf
from pathlib import Path
from typing import Any

import pytest
import torch

from jobs.support.beginnings import FEW
from softprior.activations.task_texts import TaskTexts
from softprior.assets.models import known_model
from softprior.inputs.entries import Entry
from softprior.inputs.specs import ModelSpec, ResourcesSpec
from softprior.inputs.study_files import load_grid
from softprior.methods import METHODS
from softprior.models.load import load_tokenizer
from softprior.priors import PRIORS
from softprior.priors.domain import SAMPLE
from softprior.prompt import Place, Shape
from softprior.results.records import load_records
from softprior.statistics.store import SiteStatistics, save_statistics
from softprior.studies.describe import at_hand, closing_notes, data_notes, describe, listed
from softprior.studies.estimate import total_cost, trials_at_once
from softprior.studies.fits import Fits, fits
from softprior.studies.memory import HEAP, HEAP_BESIDE
from softprior.studies.plan import Plan, plan_study
from softprior.tasks import TASKS, Squad
from softprior.training.threads import CORE_FLOPS
from tests.builders import SUMS, questions, run, study_file, trial


@pytest.fixture(autouse=True)
def _four_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("estimate", "describe"):
        monkeypatch.setattr(f"softprior.studies.{module}.machine_cpus", lambda: 4)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)


@pytest.fixture
def plan(tmp_path: Path):
    def plan(**changes: Any) -> Plan:
        file = study_file(tmp_path / "study.yaml", **changes)
        return plan_study(load_grid(file, ()), str(file))

    return plan


def line(plan: Plan, start: str) -> str:
    (found,) = [line.strip() for line in describe(plan, plan.trials) if line.strip().startswith(start)]
    return found


def needed(plan: Plan) -> Fits:
    return fits(plan.trials, plan.components, plan.model.shape)


@pytest.mark.parametrize(
    ("resources", "room"),
    [
        ({"cpus": 1}, 4),
        ({"cpus": 2}, 2),
        ({"cpus": 3}, 1),
        ({"cpus": 5}, 0),
        ({"cpus": 1, "concurrent": 3}, 3),
        ({"cpus": 2, "concurrent": 3}, 2),
    ],
)
def test_as_many_trials_run_at_once_as_there_is_room_for(resources, room):
    assert trials_at_once(ResourcesSpec(**resources)) == room


def test_gpus_are_shared_out_too(monkeypatch):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    assert trials_at_once(ResourcesSpec(cpus=1, gpus=0.5)) == 2
    assert trials_at_once(ResourcesSpec(cpus=1, gpus=1)) == 1
    assert trials_at_once(ResourcesSpec(cpus=1, gpus=2)) == 0


@pytest.mark.parametrize(
    ("resources", "sentence"),
    [
        ({"cpus": 3}, "each trial takes 3 CPUs, so they run one at a time here: less than a minute"),
        ({"cpus": 1, "concurrent": 1}, "each trial takes 1 CPU, so they run one at a time here: less than a"),
        ({"cpus": 2}, "each trial takes 2 CPUs, so up to 2 run at a time here: less than a minute"),
        # More would have room, but there are a baseline and two trained trials.
        (
            {"cpus": 1},
            "each trial takes 1 CPU, so up to 3 run at a time here: less than a minute; starting up",
        ),
        (
            {"cpus": 5},
            "each trial takes 5 CPUs, but this machine has 4 CPUs and 0 GPUs, so a run here is refused",
        ),
    ],
)
def test_the_plan_says_what_will_run_at_once(plan, resources, sentence):
    assert line(plan(resources=resources), "each trial").startswith(sentence)


def test_on_a_cluster_the_plan_promises_nothing(plan, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "ray://head:10001")
    assert line(plan(resources={"cpus": 1, "concurrent": 2}), "each trial").startswith(
        "each trial takes 1 CPU; the cluster decides how many run at a time, at most 2: less than a minute"
    )


def test_time_falls_with_the_trials_at_once(plan):
    long = {"training": {"steps": 200_000, "batch": 64}, "seeds": [*range(8)]}

    def hours_of(**resources: int) -> float:
        found = re.search("about ([0-9.]+) hours", line(plan(**long, resources=resources), "each trial"))
        assert found
        return float(found[1])

    assert hours_of(cpus=1) == pytest.approx(hours_of(cpus=1, concurrent=1) / 4, rel=0.02)


def test_a_study_of_blind_priors_fits_what_radii_are_measured_in(plan):
    found = needed(plan(priors=["isotropic"]))
    assert (found.priors, found.number, found.tokens) == ((), 1, 1024)
    assert found.flops == 2 * 128**2 * 3 * 1024
    assert needed(plan(methods=["none"])).number == 0
    alone = plan(methods=["none"])
    assert not [text for text in describe(alone, alone.trials) if "not counted: " in text]


def test_equal_fits_count_once_and_others_by_what_they_are_fitted_to(plan):
    exclusion = {"exclusion": {"quantile": 0.9}}
    assert needed(plan(priors=["fitted", exclusion, "isotropic"])).number == 1
    assert needed(plan(priors=["fitted", exclusion, "isotropic"])).priors == ("fitted", "exclusion")
    assert needed(plan(priors=["interpolation"])).number == 3  # two halves, and the whole for radii
    assert needed(plan(priors=[{"vae": {"steps": 5}}, {"vae": {"steps": 6}}])).number == 3
    # Keys and values of four blocks, which the mixture's part at block 0 is fitted to as well.
    prefix = {"methods": [{"prefix": {"tokens": 2}}]}
    assert needed(plan(priors=["fitted"], **prefix)).number == 8
    by_place = {
        "by_place": {"default": "isotropic", "blocks": {0: {"mixture": {"priors": ["vae", "zeros"]}}}}
    }
    found = needed(plan(priors=[by_place], **prefix))
    assert (found.priors, found.number) == (("mixture",), 10)


def test_costs_of_fits_are_near_those_measured():
    """docs/log.md, two threads: a Gaussian of 128,256 x 2,048 in 12.6 s, a VAE of 20,000 x 576 in 25 s."""
    llama, smol = Shape(16, hidden=2048, vocabulary=128_256), Shape(30, hidden=576, vocabulary=SAMPLE)
    for prior, shape, seconds in ((PRIORS["fitted"](), llama, 12.6), (PRIORS["vae"](), smol, 25)):
        (flops,) = prior.work(Place(0), shape).values()
        assert flops / (2 * CORE_FLOPS) == pytest.approx(seconds, rel=0.2)


def test_fits_are_said_with_their_priors(plan):
    found = line(plan(priors=["isotropic", "fitted", {"vae": {"steps": 1}}]), "not counted")
    assert found == (
        "not counted: 2 fits to vectors of 1,024 tokens (radii, fitted, vae), made once for all trials, then "
        "cached: less than a minute"
    )


def test_of_a_model_that_is_not_here_the_priors_are_said(plan):
    here = plan(priors=["fitted"])
    assert line(here, "the model") == "the model: 869,504 parameters, 4 blocks, 128 dimensions"
    elsewhere = here._replace(model=here.model._replace(shape=None, parameters=None))
    assert line(elsewhere, "not counted").endswith(
        "1 fit (radii, fitted), made once for all trials, then cached: time unknown, as the model's size is"
    )
    said = "\n".join(describe(elsewhere, here.trials))
    assert "the model: " not in said
    assert "memory of" not in said


def test_the_memory_of_the_largest_step_is_said(plan, monkeypatch):
    task = {"squad": {"context_tokens": 64}}
    both = {"tasks": [task], "training": {"steps": 2, "batch": 16}}
    assert line(plan(**both), "memory").startswith("memory of each trial: about 3 MB of weights and ")
    beside = "; Python and its libraries take about 0.6 GB besides"
    assert line(plan(**both), "memory").endswith(f" for a step of 16 rows of up to 64 tokens{beside}")
    for batch, factor in ((16, HEAP_BESIDE / HEAP), (8, 1), (4, 1)):  # two small passes take as much as one
        both["training"] = {"steps": 2, "batch": batch}
        one, two = (
            int(
                line(plan(**both, resources={"cpus": cpus}), "memory")
                .split("weights and ")[1]
                .split(" MB")[0]
            )
            for cpus in (1, 2)
        )
        assert two / one == pytest.approx(factor, abs=0.08)
    both["training"] = {"steps": 2, "batch": 16}
    # Two of 16 rows and a prompt each fit 2,200 positions, and one replica serves more.
    shared = {"placement": {"hosts": "shared", "tokens": 2200}, "seeds": [0, 1, 2]}
    assert line(plan(**both, **shared), "memory").endswith(f"32 rows of up to 64 tokens of 2 trials{beside}")
    every = {"placement": {"hosts": "shared", "tokens": None}, "seeds": [0, 1]}  # the baseline is not trained
    assert line(plan(**both, **every), "memory").endswith(f"64 rows of up to 64 tokens of 4 trials{beside}")
    assert line(plan(**both, placement={"hosts": "shared", "tokens": 600}), "memory").endswith(
        f"9 rows of up to 64 tokens{beside}"
    )
    for nobody_measured in (
        {"model": {"id": "tiny", "dtype": "bfloat16"}},
        {"model": {"id": "tiny", "dtype": "float16"}, "resources": {"gpus": 1}},
        {"placement": {"hosts": "shared", "ranks": 2}},
        {"methods": ["none"]},
    ):
        found = plan(**{**both, **nobody_measured})
        assert not [text for text in describe(found, found.trials) if "memory of" in text]

    monkeypatch.setattr("softprior.studies.memory._gpu_here", lambda gpus: int(gpus * 80e6))
    on_gpu = {**both, "model": {"id": "tiny", "dtype": "bfloat16"}}
    half = plan(**on_gpu, resources={"gpus": 0.1})
    assert line(half, "note: the GPU here").startswith(
        "note: the GPU here has 8 MB for that; lower training.batch"
    )
    whole = plan(**on_gpu, resources={"gpus": 1})
    assert not [text for text in describe(whole, whole.trials) if "the GPU here" in text]


def test_what_a_task_lacks_stands_in_its_records(tmp_path):
    task = TASKS["arithmetic"].model_validate({**SUMS, "train_examples": 9000})
    whole = run(trial(METHODS["none"]()), tmp_path)
    lacks = whole.model_copy(
        update={
            "spec": trial(METHODS["none"](), task=task),
            "data": whole.data
            | {"train_short": 900, "dropped": 7, "not_joint": 5}
            | {"firsts": {"not_joint": "q7 ('What'): why; remedy"}},
        }
    )
    name = "arithmetic(train_examples=9000)"
    assert data_notes([lacks, whole]) == [
        f"{name}: 2 examples left out, which do not fit",
        f"{name}: 5 examples left out, whose answer cannot follow its input in this tokenizer's tokens, "
        "the first q7 ('What'): why; remedy",
        f"{name} has 8,100 of the 9,000 train_examples asked for",
    ]
    few = trial(task=task)
    few = few.model_copy(update={"training": few.training.model_copy(update={"batch": 8192})})
    assert data_notes([lacks.model_copy(update={"spec": few})])[-1] == (
        "arithmetic: batches have 8,100 rows, as the task has no more, in place of batch = 8,192"
    )


def test_malformed_rows_stand_in_the_closing_lines(tmp_path):
    path = tmp_path / "some.jsonl"
    rows = [json.dumps({"text": f"Document {i} says {i} and so on, at some length."}) for i in range(12)]
    path.write_text("\n".join([*rows[:5], '{"body": "x"}', "{", *rows[5:]]))
    counts = {"train_examples": 2, "validation_examples": 1, "test_examples": 1, "length": 16}
    task = TASKS["language"].model_validate({"data": str(path), **counts})
    other = TASKS["cloze"].model_validate({"data": str(path), **counts, "length": 64})
    spec = trial(METHODS["none"](), task=task)
    evaluation = spec.evaluation.model_copy(update={"also": (TASKS.entry(other),)})
    run(spec.model_copy(update={"evaluation": evaluation}), tmp_path)
    (record,) = load_records(tmp_path / "records").values()
    record = record.model_copy(update={"spec": record.spec.model_copy(update={"evaluation": evaluation})})
    left_out = "2 malformed rows left out, the first in some.jsonl, line 6: no 'text'; it has body"
    assert data_notes([record]) == [f"language: {left_out}", f"cloze: {left_out}"]
    (measured,) = record.also
    unnamed = {key: value for key, value in measured.data.items() if key != "quarantine"}
    before = record.model_copy(update={"also": (measured.model_copy(update={"data": unnamed}),)})
    assert data_notes([before])[1:] == ["cloze: 2 malformed rows left out"], "earlier records name no row"
    no_more = spec.model_copy(update={"evaluation": spec.evaluation})
    assert data_notes([record.model_copy(update={"spec": no_more})]) == [f"language: {left_out}"]


def test_ids_and_titles_that_were_made_are_told_before_and_after(plan, tmp_path):
    path = questions(tmp_path, lambda i: f"word{i}")
    data = json.loads(path.read_text())
    for i, article in enumerate(data["data"]):
        if i < 3:
            del article["title"]
        if i < 1:
            del article["paragraphs"][0]["qas"][0]["id"]
    data["data"].append({"title": "None"})
    path.write_text(json.dumps(data))
    squad = {"data": str(path), "train_examples": 2, "validation_examples": 1, "test_examples": 1}
    changes = {"tasks": [{"squad": squad}], "training": {"steps": 5, "batch": 2}}
    said = [
        "squad: 1 malformed row left out, the first in questions.json, data[12]: the article has no list "
        "'paragraphs'; it has title",
        "squad: 1 question without a unique id; the position in the file serves as one",
        "squad: 3 questions without a title; the document or the paragraph serves as one",
    ]
    few = (
        "squad: accuracy on 1 answer has a 95% interval of up to ±0.50; for 16 or more raise "
        "test_examples and evaluation.examples and evaluation.generate"
    )
    assert [note for note in plan(**changes).notes if note.startswith("squad")] == [*said, few]
    run(trial(METHODS["none"](), task=TASKS["squad"].model_validate(squad)), tmp_path)
    assert closing_notes(load_records(tmp_path / "records").values()) == [*said, few]
    tiny = load_tokenizer(ModelSpec(id="tiny"))
    assert TaskTexts.of(Squad(**squad), "squad", "train", None, tiny).notes == tuple(said)


def test_a_plan_says_what_a_vae_will_be_trained_on(plan, tmp_path):
    """Of the first place, and how many are alike; wherever in another prior it is."""
    model = known_model(ModelSpec(id="tiny")).fingerprint
    kept = replace(SiteStatistics.of(torch.zeros(300, 128)), sample=torch.zeros(200, 128))
    for block in (0, 2, 3):
        save_statistics(tmp_path, "text", f"resid.{block}", model, {"all": kept})
    vae = {"vae": {"statistics": str(tmp_path), "task": "text"}}
    mixture = {"mixture": {"priors": ["isotropic", vae]}}
    methods = [{"deep": {"tokens": 4, "last": 2}}]
    notes = plan(priors=["fitted", vae, mixture], methods=methods).notes
    start = (
        "the vae will be trained on 200 of the 300 vectors of text all at resid.0, since the store keeps no"
    )
    told = [note for note in notes if start in note]
    assert [note.partition(": ")[0] for note in told] == ["priors[1]", "priors[2]"]
    assert all(note.endswith("; 2 other fits alike") for note in told)


def test_the_rest_of_a_damaged_file_is_no_row(tmp_path):
    """It is told apart, also where more rows in front of it are malformed than a record names."""
    path = tmp_path / "some.jsonl.gz"
    good = [
        json.dumps({"text": f"Document {i * 7919 % 10007} says {i}, at some length."}) for i in range(600)
    ]
    whole = gzip.compress("\n".join([*['{"body": "x"}'] * 110, *good]).encode())
    path.write_bytes(whole[: len(whole) // 2])
    counts = {"train_examples": 400, "validation_examples": 1, "test_examples": 1, "length": 16}
    task = TASKS["language"].model_validate({"data": str(path), **counts})
    run(trial(METHODS["none"](), task=task), tmp_path)
    rows, lost, *_ = closing_notes(load_records(tmp_path / "records").values())
    assert rows.startswith("language: 110 malformed rows left out, the first in some.jsonl.gz, line 1: no")
    assert re.fullmatch(r"language: in some\.jsonl\.gz, line \d+: .* lost; mend it or fetch it again", lost)


def test_the_cluster_at_hand_is_told_by_what_it_has_room_for(plan):
    nodes = [{"CPU": 4.0, "GPU": 1.0}, {"CPU": 3.0}]
    own = plan(resources={"cpus": 2}).study
    assert (
        at_hand(nodes, own.resources, own.placement)
        == "the cluster has 2 nodes with 7 CPUs and 1 GPU: room for 3 trials at a time"
    )
    copies = plan(placement={"hosts": "shared", "cpus": 1, "gpus": 0.5, "replicas": 2}).study
    assert at_hand(nodes, copies.resources, copies.placement).endswith("room for 2 copies of the model")


def test_a_dry_run_of_many_trials_is_a_summary_unless_all_are_asked_for(plan) -> None:
    whole = plan(seeds=list(range(21)))
    cost = total_cost([t for t in whole.trials if t.seed is not None], whole.components)
    said = listed(whole.trials, whole.components, FEW)
    positions = cost.trained + cost.evaluated
    assert f"arithmetic · soft: 42 trials (2 priors, 21 seeds), {positions:,} positions" in said
    assert sum(line.startswith("arithmetic · none: 1 trial, ") for line in said) == 1
    assert "--all lists every trial" in said
    every = listed(whole.trials, whole.components, inf)
    assert all(sum(trial.id in line for line in every) == 1 for trial in whole.trials)
    few = plan()
    assert listed(few.trials, few.components, FEW) == listed(few.trials, few.components, inf)


def test_seeds_of_copied_vectors_differ_in_the_order_alone(plan):
    whole = plan(seeds=[0, 1])
    copy = {"posterior": {"file": "a"}}
    for name, params, told in (
        ("posterior", {"file": "a"}, "trials of `posterior` start from the same vectors for all seeds"),
        ("posterior", {"file": "a", "spread": 0.1}, None),
        ("by_place", {"default": copy, "blocks": {"0": copy}}, "trials of `by_place` start from the same"),
        ("by_place", {"default": copy, "values": "fitted"}, "what `by_place` takes from `posterior` is"),
        ("mixture", {"priors": [copy, "fitted"]}, "what `mixture` takes from `posterior` is the same for"),
    ):
        prior = PRIORS.entry(PRIORS.component(Entry(name=name, params=params)))
        trials = tuple(t if t.prior is None else t.model_copy(update={"prior": prior}) for t in whole.trials)
        said = [line for line in describe(whole._replace(trials=trials), whole.trials) if "the same" in line]
        assert len(said) == (told is not None)
        assert all(line.startswith(f"  {told}") for line in said)
