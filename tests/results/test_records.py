"""Records survive their files, and a damaged one is named with the remedy."""

import json
import shutil

import pytest
import torch
from safetensors.torch import save_file

from softprior.errors import UserError
from softprior.inputs.entries import Entry
from softprior.inputs.specs import EvaluationSpec, Rate, TrainingSpec, TrialSpec
from softprior.results.background import TOKENS, load_background, save_background
from softprior.results.folder import StudyFolder
from softprior.results.records import (
    RECORD_FORMAT,
    PlaceGeometry,
    Prediction,
    Record,
    Score,
    StepPoint,
    load_record,
    load_records,
    read_study,
    save_record,
)
from softprior.seeding import torch_generator

SPEC = TrialSpec(
    model="tiny",
    model_fingerprint="f",
    dtype="float32",
    method=Entry(name="soft", params={"tokens": 2}),
    prior=Entry(name="fitted", params={"shrinkage": "oas", "jitter": 0.0}),
    task=Entry(name="arithmetic"),
    data_fingerprint="d",
    rate=Rate(value=0.1, relative=True),
    seed=3,
    training=TrainingSpec(steps=2, batch=1, betas=(0.8, 0.9)),
    evaluation=EvaluationSpec(),
)
SCORE = Score(step=2, loss=1 / 3, accuracy=None, metrics={"f1": 0.1 + 0.2}, examples=5, tokens=9, generated=2)
RECORD = Record(
    id=SPEC.id,
    label="arithmetic · soft",
    spec=SPEC,
    status="finished",
    steps=(StepPoint(step=1, loss=1e-300, rate=0.1, gradient=2.0, moved=0.0),),
    validation=(SCORE,),
    test=SCORE,
    geometry={
        "decoder.0.residual.keep": PlaceGeometry(
            moved=1.0,
            reach=2.0,
            moved_over_reach=0.5,
            initial_norm=1.0,
            final_norm=1.0,
            cosine=None,
            participation=1.5,
        )
    },
    prior={"count": 60, "source": "vocabulary"},
    data={"train": 5},
    predictions=(Prediction(example="a", answer=" ä\n"),),
    environment={"versions": {"torch": "2"}, "seconds": 1.5},
)


def test_a_record_survives_its_file_to_the_last_bit(tmp_path):
    path = tmp_path / "records" / f"{RECORD.id}.json"
    save_record(path, RECORD)
    assert load_record(path) == RECORD
    assert load_record(path).spec.id == SPEC.id
    assert load_records(path.parent) == {RECORD.id: RECORD}


def test_a_record_from_before_a_choice_keeps_its_meaning_and_its_id(tmp_path):
    """Each step then divided by its own number of labels, which nobody wrote down."""
    value = RECORD.model_dump(mode="json")
    del value["spec"]["pairing"], value["spec"]["training"]["normalisation"], value["steps"][0]["labels"]
    for later in ("also", "probes", "examples", "cost", "sanity"):
        del value[later]
    path = tmp_path / f"{value['id']}.json"
    path.write_text(json.dumps(value))
    read = load_record(path)
    assert (read.also, read.probes, read.examples, read.cost, read.sanity) == ((), (), None, None, ())
    assert (read.spec.training.normalisation, read.spec.pairing) == ("step", "noise")
    assert read.spec.id == "f0aa22e67a1c4498" != SPEC.id
    assert read.steps == RECORD.steps
    save_record(path, read)
    assert load_record(path) == read


def test_a_check_that_found_fault_with_good_trials_is_read_no_more(tmp_path):
    checks = (
        {"name": "shifted_label", "number": 3e-5, "verdict": "fault"},
        {"name": "labels", "number": 1.0, "verdict": "passed"},
    )
    path = tmp_path / f"{RECORD.id}.json"
    path.write_text(json.dumps(RECORD.model_dump(mode="json") | {"sanity": checks}))
    assert [check.name for check in load_record(path).sanity] == ["labels"]


def test_a_failed_trials_record_survives_too(tmp_path):
    failed = Record(id="a", label="b", spec=SPEC, status="failed", error="step 3: the loss is nan")
    save_record(tmp_path / "a.json", failed)
    assert load_record(tmp_path / "a.json") == failed


def test_the_top_level_of_a_record_is_frozen():
    """Other programs read these keys; any change but another optional key raises the format."""
    assert RECORD_FORMAT == 1
    assert set(RECORD.model_dump(mode="json")) == {
        *("format", "id", "label", "spec", "status", "error", "steps", "validation", "untrained"),
        *("test", "also", "probes", "examples", "cost", "sanity", "geometry", "prior", "data", "predictions"),
        *("environment", "continued"),
    }


def test_a_folder_without_records_has_none(tmp_path):
    assert load_records(tmp_path / "nowhere") == {}


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ("empty", "it is not valid JSON"),
        ("cut", "it is not valid JSON"),
        ("format", "format is missing, unknown or has a wrong value"),
        ("key", "colour is missing, unknown or has a wrong value"),
        ("status", "status is missing, unknown or has a wrong value"),
        ("list", "it is not a JSON object"),
    ],
)
def test_a_damaged_record_is_named_with_the_remedy(tmp_path, change, fault):
    path = tmp_path / "a.json"
    save_record(path, RECORD)
    text = path.read_text()
    value = RECORD.model_dump(mode="json")
    path.write_text(
        {
            "empty": "",
            "cut": text[: len(text) // 2],
            "format": json.dumps({**value, "format": 2}),
            "key": json.dumps({**value, "colour": "red"}),
            "status": json.dumps({**value, "status": "running"}),
            "list": json.dumps([value]),
        }[change]
    )
    with pytest.raises(UserError) as refused:
        load_record(path)
    said = f"{path} is not a record of format 1 ({fault}); restore it, or delete it to run the trial again"
    assert str(refused.value) == said
    path.write_bytes(b"\xff")
    with pytest.raises(UserError, match=r"format 1 \(it is not UTF-8 text\); restore it"):
        load_record(path)


def test_a_damaged_study_has_a_remedy(tmp_path):
    path = tmp_path / "study.json"
    whole = {"spec": {"name": "small"}, "trials": []}
    path.write_text(json.dumps(whole))
    assert read_study(path) == whole
    for wrong in ("{", "{}", '{"spec": {}, "trials": []}', '{"spec": {"name": "small"}}'):
        path.write_text(wrong)
        remedy = (
            "restore it, or delete it and run the study again, which keeps finished trials but no longer "
        )
        with pytest.raises(UserError, match=rf"study\.json is damaged: .*; {remedy}"):
            read_study(path)


def test_the_figures_background_is_a_fixed_sample_of_rows(tmp_path):
    folder = StudyFolder(tmp_path)
    vocabulary = torch.randn(TOKENS + 50, 3, generator=torch_generator(0, "vocabulary"))
    assert load_background(folder, "f" * 64) is None
    save_background(folder, "f" * 64, vocabulary)
    found = torch.from_numpy(load_background(folder, "f" * 64))
    assert found.shape == (TOKENS, 3)
    assert len(found.unique(dim=0)) == TOKENS
    assert {tuple(row) for row in found.tolist()} <= {tuple(row) for row in vocabulary.tolist()}
    save_background(StudyFolder(tmp_path / "other"), "f" * 64, vocabulary)
    again = load_background(StudyFolder(tmp_path / "other"), "f" * 64)
    assert torch.equal(torch.from_numpy(again), found)
    save_background(folder, "f" * 64, vocabulary + 1)  # kept once a model
    assert torch.equal(torch.from_numpy(load_background(folder, "f" * 64)), found)
    other = "e" * 64
    assert load_background(folder, other) is None
    shutil.copy(folder.background("f" * 64), folder.background(other))
    with pytest.raises(UserError, match="is of another model \\(ffffffffffff\\); delete it"):
        load_background(folder, other)
    save_file({"vocabulary": vocabulary}, folder.background(other))
    old = load_background(folder, other)
    assert torch.equal(torch.from_numpy(old), vocabulary), "the oldest have no header"


def test_paths_of_a_study_folder_are_frozen(tmp_path):
    """Documented in docs/; other programs look there."""
    folder = StudyFolder(tmp_path)
    found = [folder.study, folder.table, folder.record("a"), folder.posterior("a"), folder.figure("a")]
    assert [str(path.relative_to(tmp_path)) for path in [*found, folder.examples("a")]] == [
        *("study.json", "trials.parquet", "records/a.json", "posteriors/a.safetensors", "figures/a.png"),
        "examples/a.parquet",
    ]
