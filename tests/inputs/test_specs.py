"""Study files: what they may say, what they mean, and one helpful sentence for everything else."""

import json
import math
import re
import shlex
import string
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from softprior.errors import UserError
from softprior.inputs.entries import Entry
from softprior.inputs.specs import EvaluationSpec, ModelSpec, Rate, StudySpec, TrainingSpec, TrialSpec
from softprior.inputs.study_files import load_grid, parse_value
from softprior.inputs.validation import validate

STUDY = """\
name: small
model: tiny
priors: [isotropic, {fitted: {jitter: 1e-3}}]
methods: [soft]
tasks: [arithmetic]
rates: [1e-3, {relative: 0.1}]
seeds: [0, 1]
training: {steps: 5, batch: 2}
"""

TRIAL = TrialSpec(
    model="tiny",
    model_fingerprint="f" * 64,
    dtype="float32",
    method=Entry(name="soft", params={"tokens": 20}),
    prior=Entry(name="isotropic", params={"scale": 0.02}),
    task=Entry(name="arithmetic", params={"modules": ["mul"]}),
    data_fingerprint="d" * 64,
    rate=Rate(value=1e-3),
    seed=0,
    training=TrainingSpec(steps=5, batch=2),
    evaluation=EvaluationSpec(),
)


@pytest.fixture
def load(tmp_path: Path):
    """Reads a study from text, with overrides."""

    def load(text: str = STUDY, *overrides: str) -> StudySpec:
        path = tmp_path / "study.yaml"
        path.write_text(text, encoding="utf-8")
        return load_grid(path, overrides)

    return load


# Identity


def test_the_serialised_form_of_a_trial_is_frozen():
    """Whoever changes this form gives every finished trial another id: all results are run again."""
    assert json.loads(TRIAL.canonical()) == {
        "model": "tiny",
        "model_fingerprint": "f" * 64,
        "dtype": "float32",
        "method": {"name": "soft", "params": {"tokens": 20}},
        "prior": {"name": "isotropic", "params": {"scale": 0.02}},
        "prior_fingerprint": None,
        "regularisers": [],
        "task": {"name": "arithmetic", "params": {"modules": ["mul"]}},
        "data_fingerprint": "d" * 64,
        "rate": {"value": 0.001, "relative": False},
        "seed": 0,
        "pairing": "noise",
        "training": {
            "steps": 5,
            "batch": 2,
            "accumulate": 1,
            "normalisation": "expected",
            "schedule": "constant",
            "warmup": 0,
            "clip": 1.0,
            "weight_decay": 0.0,
            "betas": [0.9, 0.999],
            "epsilon": 1e-8,
            "snapshots": 4,
            "curve": 1,
            "checkpoint": 5,
            "by_task": {},
        },
        "evaluation": {"examples": 256, "generate": 128, "batch": 16, "context_shuffle": True},
    }
    assert TRIAL.id == "568ed61cfedd2a89"


def test_a_study_file_without_a_choice_has_the_default(load):
    assert load().training.normalisation == "expected"
    assert load().pairing == "noise"
    assert load(STUDY, "training.normalisation=step").training.normalisation == "step"


def test_canonical_text_has_sorted_keys_and_no_spaces():
    assert Rate(value=0.5).canonical() == '{"relative":false,"value":0.5}'
    one, two = Entry(name="a", params={"x": 1, "y": 2}), Entry(name="a", params={"y": 2, "x": 1})
    assert one.canonical() == two.canonical()
    assert one.model_copy(update={"name": "b"}).canonical() == '{"name":"b","params":{"x":1,"y":2}}'


def test_a_trial_survives_its_own_json():
    loaded = validate(TrialSpec, json.loads(TRIAL.canonical()), "test")
    assert loaded == TRIAL
    assert loaded.id == TRIAL.id


def test_every_difference_gives_another_id():
    changes = {
        "model_fingerprint": "e" * 64,
        "corrections": ("joint tokens",),
        "code": ("ring-prior 1.2",),
        "dtype": "bfloat16",
        "method": Entry(name="soft", params={"tokens": 21}),
        "prior": Entry(name="isotropic", params={"scale": 0.03}),
        "prior_fingerprint": "e" * 64,
        "regularisers": (Entry(name="spread"),),
        "task": Entry(name="arithmetic", params={"modules": ["div"]}),
        "data_fingerprint": "e" * 64,
        "rate": Rate(value=1e-3, relative=True),
        "seed": 1,
        "pairing": "none",
        "training": TrainingSpec(steps=5, batch=2, normalisation="step"),
        "evaluation": EvaluationSpec(batch=8),
        "twin": 1e-6,
        "reordered": 1,
    }
    assert set(changes) == set(TrialSpec.model_fields) - {"model", "paths"}
    ids = {TRIAL.id} | {TRIAL.model_copy(update={key: value}).id for key, value in changes.items()}
    assert len(ids) == len(changes) + 1


def test_names_paths_and_checkpoints_are_no_part_of_the_id():
    """The fingerprints say which model and which data; where they stand decides nothing."""
    moved = Entry(name="squad", params={"data": "/there/x.json", "context_tokens": 9})
    here = Entry(name="squad", params={"data": "./x.json", "context_tokens": 9})
    assert TRIAL.model_copy(update={"model": "./elsewhere"}).id == TRIAL.id
    assert TRIAL.model_copy(update={"task": moved}).id == TRIAL.model_copy(update={"task": here}).id
    for there, here in (("/there", "./here"), ("./here", "/there")):
        priors = [
            Entry(name="fitted", params={"statistics": path, "task": "squad"}) for path in (there, here)
        ]
        assert len({TRIAL.model_copy(update={"prior": prior}).id for prior in priors}) == 1
    read = Entry(name="fitted", params={"statistics": "./here"})
    own = Entry(name="fitted", params={"statistics": None})
    assert TRIAL.model_copy(update={"prior": read}).id != TRIAL.model_copy(update={"prior": own}).id
    assert TRIAL.training is not None
    often = TRIAL.training.model_copy(update={"checkpoint": 1})
    assert TRIAL.model_copy(update={"training": often}).id == TRIAL.id


def test_a_trial_says_which_parameters_are_paths_and_its_id_stays():
    mixed = {"priors": [{"name": "fitted", "params": {"statistics": "./here", "task": "squad"}}]}
    data = Entry(name="squad", params={"data": "./x.json", "context_tokens": 9})
    before = TRIAL.model_copy(update={"prior": Entry(name="mixture", params=mixed), "task": data})
    paths = ("task.params.data", "prior.params.priors.0.params.statistics")
    assert before.model_copy(update={"paths": paths}).id == before.id
    assert before.model_copy(update={"paths": paths[:1]}).id != before.id
    assert "paths" not in before.canonical()


def test_what_all_trials_once_had_is_no_part_of_the_id():
    """Ids of before there was a choice: of a trial, and of one without a prompt."""
    assert TRIAL.training is not None
    step = TRIAL.training.model_copy(update={"normalisation": "step"})
    assert TRIAL.model_copy(update={"training": step}).id == "d41ee03eb5b5de3b"
    untrained = {"prior": None, "rate": None, "seed": None, "training": None}
    assert TRIAL.model_copy(update=untrained).id == "5f6aa9bf7f3733cf"


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_value_without_a_stable_form_has_no_identity(value):
    with pytest.raises(ValueError, match="not JSON compliant"):
        Entry(name="a", params={"x": [value]}).canonical()


def test_specs_are_frozen():
    with pytest.raises(ValueError, match="frozen"):
        TRIAL.seed = 3


# Meaning


def test_short_forms_mean_the_long_ones(load):
    study = load()
    assert study.model == ModelSpec(id="tiny")
    assert study.priors == (Entry(name="isotropic"), Entry(name="fitted", params={"jitter": 1e-3}))
    assert study.rates == (Rate(value=1e-3), Rate(value=0.1, relative=True))
    assert study.training.for_task("arithmetic").steps == 5
    again = validate(StudySpec, json.loads(study.canonical()), "test")
    assert again == study


def test_a_parameterless_name_may_end_in_a_colon(load):
    assert load(STUDY, "priors=[{isotropic: null}]").priors == (Entry(name="isotropic"),)
    assert load(STUDY, "regularisers=[{none: null}, none]").regularisers == ((), ())


def test_rates_in_words():
    assert [Rate(value=5e-3).label, Rate(value=0.1, relative=True).label] == ["0.005", "0.1 relative"]


def test_a_tasks_own_budget_replaces_only_steps_and_batch(load):
    training = load(STUDY, "training.by_task={squad: {steps: 7, batch: 3}}", "training.warmup=2").training
    own = training.for_task("squad")
    assert (own.steps, own.batch, own.warmup, own.by_task) == (7, 3, 2, {})
    other = training.for_task("arithmetic")
    assert (other.steps, other.batch, other.by_task) == (5, 2, {})


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *[
            ("1e-3", 1e-3),
            ("1E3", 1e3),
            ("-2.5e+1", -25.0),
            (".5", 0.5),
            ("5.", 5.0),
            ("+3", 3),
            ("1_000", 1000),
        ],
        *[("0", 0), ("-7", -7), ("1:30", "1:30"), ("2024-01-01", "2024-01-01")],
        *[("1e", "1e"), ("e3", "e3"), ("1e3x", "1e3x"), (".", "."), ("1-2", "1-2"), ("1.2.3", "1.2.3")],
        *[
            ("'1e-3'", "1e-3"),
            ("true", True),
            ("null", None),
            ("", None),
            ("~", None),
            ("[1, 2e1]", [1, 20.0]),
        ],
    ],
)
def test_numbers_are_those_of_yaml_1_2(text, value):
    found = parse_value(text)
    assert found == value
    assert isinstance(found, type(value))
    assert isinstance(found, bool) == isinstance(value, bool)


def test_both_halves_of_an_escape_are_one_character(load):
    assert load(STUDY + 'description: "\\ud83d\\ude00"\n').description == "\U0001f600"


def test_a_padded_number_is_refused_and_a_text_of_digits_is_not(load):
    with pytest.raises(UserError, match=r"'seeds=\[-07\]' .* not valid YAML: -07 begins with a zero"):
        load(STUDY, "seeds=[-07]")
    assert load(STUDY, "model={id: ./x, revision: '0123'}").model.revision == "0123"


def test_not_a_number_is_read_and_then_refused(load):
    assert math.isnan(parse_value(".nan"))
    assert parse_value("-.inf") == -math.inf
    with pytest.raises(UserError, match=r"rates\[0\] = \.nan: must be a finite number"):
        load(STUDY, "rates=[.nan]")


@given(st.floats(allow_nan=False, allow_infinity=False))
@example(1e16)
@example(5e-324)
def test_every_float_that_python_prints_is_read_back(number):
    assert parse_value(repr(number)) == number


def test_anchors_and_merged_mappings_work(load):
    text = STUDY.replace(
        "training: {steps: 5, batch: 2}",
        "training:\n  <<: &few {steps: 5, batch: 2}\n  steps: 6\n  by_task: {arithmetic: *few}",
    )
    training = load(text).training
    assert (training.steps, training.batch, training.by_task["arithmetic"].steps) == (6, 2, 5)


# Overrides


def test_overrides_reach_everywhere(load):
    study = load(
        STUDY,
        "training.steps=60",
        "evaluation.generate=0",
        "seeds=[7, 8]",
        "seeds.1=9",
        "priors[1].fitted.jitter=0.5",
        "description=a=b",
        "model=./folder",
    )
    assert study.training.steps == 60
    assert study.evaluation.generate == 0
    assert study.seeds == (7, 9)
    assert study.priors[1].params == {"jitter": 0.5}
    assert study.description == "a=b"
    assert study.model.id == "./folder"


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("training.steps", "must have the form key.path=value, such as training.steps=5"),
        ("=5", "must have the form key.path=value"),
        ("training..steps=5", "must have the form key.path=value"),
        ("training.steps.x=5", "has no place: training.steps is 5; set training.steps as a whole"),
        ("training.rate=1", "did you mean 'rates', which is not within training?"),
        ("seeds.2=5", "has no place: seeds is a list with the entries 0 to 1; set seeds as a whole"),
        ("seeds.first=5", "has no place: seeds is a list"),
        ("seeds[2]=5", "has no place: seeds is a list with the entries 0 to 1; set seeds as a whole"),
        ("seeds[-1]=5", "has no place: seeds is a list with the entries 0 to 1; set seeds as a whole"),
        ("priors[0].isotropic.scale=1", "has no place: priors[0] is 'isotropic'; set priors[0] as a whole"),
        ("[0]=5", "must have the form key.path=value"),
        ("seeds[first]=5", "unknown key 'seeds[first]'"),
        (
            "seeds=[1",
            "not valid YAML: expected ',' or ']', but got '<stream end>'; write a text as 'seeds=\"[1\"'",
        ),
        ("seeds=range(4)", "seeds = 'range(4)': must be a list, such as [0, 1]"),
        (
            "training={steps: 5, batch: 2, warmup: 1, schedule: cosine, keep_checkpoint: true}",
            "training: keep_checkpoint: true is for more steps later, but with schedule: cosine",
        ),
        ("rates=[1e-400]", "rates[0] = 1e-400: is so small that it is rounded to 0; write a larger number"),
        ("training.steps=9999999999", "training.steps = 9999999999: must be less than 2147483648"),
        ("training={steps: 1, steps: 2}", "has a value that is not valid YAML"),
        ("training.steps=", "training.steps = null: must be a whole number"),
    ],
)
def test_wrong_overrides(load, override, sentence):
    with pytest.raises(UserError, match=re.escape(sentence)) as caught:
        load(STUDY, override)
    assert "\n" not in str(caught.value)
    assert override in str(caught.value) or "study.yaml: " in str(caught.value)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("seeds=[0]", "seeds=[1]"),
        ("training.steps=5", "training={steps: 6, batch: 2}"),
        ("priors.1.fitted.jitter=0.25", "priors[1].fitted.jitter=0.5"),
    ],
)
def test_an_override_does_not_undo_another(load, first, second):
    said = f"the override '{second}' undoes '{first}' before it; keep one of them"
    with pytest.raises(UserError, match=f"^{re.escape(said)}$"):
        load(STUDY, first, second)


def test_an_override_reaches_into_a_model_that_is_an_id(load):
    model = load(STUDY, "model.device=cpu", "model.dtype=float16").model
    assert (model.id, model.device, model.dtype) == ("tiny", "cpu", "float16")


def test_an_override_finds_keys_that_are_numbers(load):
    text = STUDY.replace("[isotropic,", "[by_place: {default: zeros, blocks: {3: {fitted: {jitter: 1}}}},")
    blocks = load(text, "priors[0].by_place.blocks.3.fitted.shrinkage=0.5").priors[0].params["blocks"]
    assert blocks == {"3": {"fitted": {"jitter": 1, "shrinkage": 0.5}}}


# Wrong files

WRONG = {
    "trainin.steps: 5": ["unknown key 'trainin'; did you mean 'training'?", "Known: description, evaluation"],
    "learning_rate: 1": ["unknown key 'learning_rate'; did you mean 'rates'?"],
    "epochs: 1": ["unknown key 'epochs'; did you mean 'training.steps'?"],
    "training.stepps: 5": ["unknown key 'training.stepps'", "did you mean 'training.steps'?"],
    "resources: {cpu: 2}": ["unknown key 'resources.cpu'", "did you mean 'resources.cpus'?"],
    "rates: [{relatve: 1}]": ["unknown key 'rates[0].relatve'", "did you mean 'rates[0].relative'?"],
    "model: {idd: tiny}": ["unknown key 'model.idd'", "did you mean 'model.id'?"],
    "training: {steps: 5}": ["the key 'training.batch' is required", "add it"],
    "training.by_task: {squad: {steps: 1}}": ["the key 'training.by_task.squad.batch' is required"],
    "training.by_task: {squad: {steps: 1, batch: 1, x: 1}}": ["unknown key 'training.by_task.squad.x'"],
    "training: 3": ["training = 3", "must be a mapping with keys among steps, batch"],
    "training: null": ["training = null", "must be a mapping"],
    "training.steps: true": ["training.steps = true", "must be a whole number"],
    "training.steps: 5.0": [
        "training.steps = 5.0",
        "must be a whole number, written without a point or exponent",
    ],
    "training.steps: '5'": ["training.steps = '5'", "whole number", "write it without quotes"],
    "training.steps: 0": ["training.steps = 0", "must be at least 1"],
    "training.clip: 0": ["training.clip = 0", "must be greater than 0"],
    "training.betas: [0.9]": ["training.betas = [0.9]", "must have 2 entries"],
    "training.betas: []": ["training.betas = []", "must have 2 entries; add entries"],
    "training.betas: [0.9, 0.9, 0.9]": ["training.betas = ", "must have at most 2 entries"],
    "training.betas: [0.9, 1]": ["training.betas[1] = 1", "must be less than 1"],
    "training.schedule: cosin": ["training.schedule = 'cosin'", "did you mean 'cosine'?", "linear"],
    "training.schedule: 3": ["training.schedule = 3", "must be 'constant', 'linear' or 'cosine'"],
    "evaluation.context_shuffle: 1": ["evaluation.context_shuffle = 1", "must be true or false"],
    "model: 3": ["model = 3", "must be an id or a path, such as tiny"],
    "model: {id: tiny, device: gpu}": ["model.device = 'gpu'", "Known: auto, cpu, cuda"],
    "name: mlflow-artifacts": ["name = 'mlflow-artifacts'", "MLflow's own files", "choose another name"],
    "name: mlflow.db-mine": ["name = 'mlflow.db-mine'", "MLflow's own files", "choose another name"],
    "name: ../x": ["name = '../x'", "lower-case letters, digits", "folder"],
    "name: ''": ["name = ''", "1 to 64"],
    "name: 3": ["name = 3", "must be a text; put it in quotes"],
    "priors: [{a: 1, b: 2}]": ["priors[0] = {'a': 1, 'b': 2}", "one name with its parameters, as {NAME: "],
    "priors: [{isotropic: 3}]": ["priors[0] = {'isotropic': 3}", "one name with its parameters"],
    "priors: [null]": ["priors[0] = null", "must be a name"],
    "priors: isotropic": ["priors = 'isotropic'", "must be a list, such as ['isotropic']"],
    "priors: []": ["priors = []", "must have 1 or more entries; add entries"],
    "rates: [a]": ["rates[0] = 'a'", "must be a number, such as 1e-3, or {relative: NUMBER}"],
    "rates: [true]": ["rates[0] = true", "must be a number, such as 1e-3"],
    "rates: [{relative: a}]": ["rates[0] = {'relative': 'a'}", "must be a number"],
    "rates: [-1]": ["rates[0] = -1: must be greater than 0"],
    "rates: [{relative: -1}]": ["rates[0] = {'relative': -1}: must be greater than 0"],
    "rates: [{value: -1}]": ["rates[0].value = -1: must be greater than 0"],
    "rates: [1e400]": ["rates[0] = 1e400", "must be a finite number"],
    "regularisers: [[none, spread]]": [
        "regularisers[0] = ['none', 'spread']: none ",
        "list with others; leave it",
    ],
    "regularisers: [[spread, {none: {}}]]": ["regularisers[0] = ", "leave it out"],
    "regularisers: [null]": ["regularisers[0] = null: must be a name", "for no regulariser write none"],
    "regularisers: [3]": ["regularisers[0] = 3: must be a name, one name with its parameters, or a list"],
    "regularisers: [[spread, 3]]": ["regularisers[0][1] = 3: must be a name"],
    "regularisers: null": ["regularisers = null: must be a list; write its entries in brackets"],
    "seeds: 0": ["seeds = 0", "must be a list, such as [0]"],
    "seeds: 0,1": ["seeds = '0,1'", "must be a list, such as [0, 1]"],
    "seeds: null": ["seeds = null: must be a list, such as [0, 1]"],
    "seeds: [true]": ["seeds[0] = true", "must be a whole number"],
    "seeds: [-1]": ["seeds[0] = -1", "must be at least 0"],
    "seeds: [9223372036854775808]": [
        "seeds[0] = 9223372036854775808",
        "must be less than 9223372036854775808",
    ],
    "tracking.uri: mlflow.db": ["tracking.uri = 'mlflow.db'", "sqlite:////absolute/path.db"],
    "tracking.uri: sqlite:///relative.db": ["tracking.uri = ", "sqlite:////absolute/path.db"],
}
"""A key with a wrong value, and what the sentence about it must contain: key, value, rule or remedy."""


@pytest.mark.parametrize("line", list(WRONG))
def test_a_wrong_value_gets_one_helpful_sentence(load, tmp_path, line):
    key, value = line.split(": ", 1)
    with pytest.raises(UserError) as caught:
        load(STUDY, f"{key}={value}")
    sentence = str(caught.value)
    assert sentence.startswith(f"{tmp_path / 'study.yaml'}: ")
    assert "\n" not in sentence
    for part in WRONG[line]:
        assert part in sentence


BROKEN = {
    "key twice": (STUDY + "name: other\n", "study.yaml, line 9: the key 'name' appears twice"),
    "inner key twice": (STUDY.replace("batch: 2", "steps: 6"), "line 8: the key 'steps' appears twice"),
    "key is a list": (STUDY + "? [a, b]\n: 3\n", "line 9: a key must be a word"),
    "unclosed list": (STUDY + "x: [1, 2\n", "line 10, column 1: not valid YAML"),
    "tab": (STUDY + "\tx: 1\n", "line 9, column 1: not valid YAML"),
    "two documents": (
        STUDY + "---\nname: x\n",
        "line 9, column 1: not valid YAML: a second document",
    ),
    "padded number": (
        STUDY.replace("[0, 1]", "[010]"),
        "study.yaml, line 7: 010 begins with a zero",
    ),
    "exponent": (
        STUDY.replace("steps: 5", "steps: 1e3"),
        "training.steps = 1e3 (line 8): must be a whole number, written without a point or exponent",
    ),
    "no-break space": (
        STUDY.replace("training: {", "training:\n\u00a0\u00a0steps: 2\nx: {"),
        r"line 9: the key '\xa0\xa0steps' contains an invisible character, U+00A0 (no-break space)",
    ),
    "zero-width space": (
        STUDY.replace("seeds:", "see\u200bds:"),
        "line 7: the key 'see\\u200bds'",
    ),
    "half an escape": (
        STUDY + 'description: "half \\ud83d emoji"\n',
        r"study.yaml, line 9: 'half \ud83d emoji' contains half a character; write the character",
    ),
    "unknown escape": (
        STUDY + 'description: "C:\\qux"\n',
        "line 9, column 18: not valid YAML",
    ),
    "unknown anchor": (STUDY + "x: *foo\n", "not valid YAML: found undefined alias 'foo'"),
    "anchor within itself": (
        STUDY.replace("[0, 1]", "&s [*s]"),
        "line 7: the alias *s is inside",
    ),
    "control character": (
        STUDY + "description: \x00\n",
        "line 9: not valid YAML: it contains the",
    ),
    "a list": ("- name\n", "study.yaml must be a mapping with the keys name, description, model"),
    "a word": ("study\n", "study.yaml must be a mapping with the keys"),
    "nothing": ("", "study.yaml is empty; start from a copy of jobs/studies/demo.yaml"),
}


@pytest.mark.parametrize("case", list(BROKEN))
def test_a_file_that_is_no_study_gets_one_helpful_sentence(load, case):
    text, part = BROKEN[case]
    with pytest.raises(UserError, match=re.escape(part)) as caught:
        load(text)
    assert "study.yaml" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_names_its_nearest_neighbour(load, tmp_path):
    load()
    with pytest.raises(UserError, match=r"no study file .*/stdy.yaml; did you mean 'study.yaml'\?"):
        load_grid(tmp_path / "stdy.yaml")
    with pytest.raises(UserError, match="there are no study files in that folder"):
        load_grid(tmp_path / "nowhere" / "study.yaml")


def test_a_home_folder_is_resolved(load, tmp_path, monkeypatch):
    study = load()
    monkeypatch.setenv("HOME", str(tmp_path))
    assert load_grid(Path("~/study.yaml")) == study
    with pytest.raises(
        UserError, match=r"no home folder for '~no-such-user/study\.yaml'; write out the path"
    ):
        load_grid(Path("~no-such-user/study.yaml"))


def test_a_folder_and_a_binary_file_are_no_studies(tmp_path):
    with pytest.raises(UserError, match="is a folder, not a study file; there are no study files in that"):
        load_grid(tmp_path)
    (tmp_path / "binary.yaml").write_bytes(b"name: \xff\xfe")
    with pytest.raises(UserError, match="cannot be read as a study file: it is not UTF-8 text"):
        load_grid(tmp_path / "binary.yaml")


def test_files_of_data_are_no_studies(load, tmp_path):
    study = load()
    (tmp_path / "study.txt").write_text((tmp_path / "study.yaml").read_text())
    (tmp_path / "cluster-local.yaml").touch()
    assert load_grid(tmp_path / "study.txt") == study
    with pytest.raises(UserError, match=r"is a folder, not a study file; known: study\.yaml$"):
        load_grid(tmp_path)
    for name in ("own.jsonl", "own.csv", "own.json", "own.txt"):
        (tmp_path / name).write_text('[{"a": 1}]')
        with pytest.raises(
            UserError, match=rf"{name} .*; data are named in a study file, as the data of a task"
        ):
            load_grid(tmp_path / name)


ADVICE = {
    "tasks.0.pairs.input={q} A:": 'tasks.0.pairs.input="{q} A:"',
    "description=a: b: c": 'description="a: b: c"',
    "description=@it's": 'description="@it\'s"',
    "description=*x": 'description="*x"',
    "description=010": 'description="010"',
    "description=!x y": 'description="!x y"',
    "seeds=[1": "seeds=[0, 1]",
    "priors[0].isotropic.scale=0.1": "priors[0]={isotropic: {scale: 0.1}}",
    "priors.0.isotropic.scale=1": "priors[0]={isotropic: {scale: 1}}",
}
"""Wrong overrides, and one that the error advises."""


@pytest.mark.parametrize("override", list(ADVICE))
def test_advice_on_overrides_works_when_it_is_followed(load, override):
    """Through a shell, which takes the outer quotes away."""
    study = STUDY.replace("[arithmetic]", "[{pairs: {data: a.csv, answer: b, input: c}}]")
    with pytest.raises(UserError) as caught:
        load(study, override)
    advised = [shlex.split(one) for one in re.findall(r" as ('.+?')(?=, and |$)", str(caught.value))]
    assert [ADVICE[override]] in advised
    found = load(study, ADVICE[override])
    if '="' in ADVICE[override]:
        assert override.partition("=")[2] in (found.description, found.tasks[0].params["input"])


@pytest.mark.parametrize(
    ("override", "advised"),
    [
        ("description={a}", 'description="{a}"'),
        ("description=10", 'description="..."'),
        ("training={steps:5}", "a space has to follow the colon: steps: 5"),
    ],
)
def test_a_value_of_another_kind_says_how_to_write_it(load, override, advised):
    with pytest.raises(UserError, match=re.escape(advised)):
        load(STUDY, override)
    corrected = re.sub(r":(?=[\d{])", ": ", override) if ":" in override else advised.replace("...", "{a} 10")
    corrected = corrected.replace("5}", "5, batch: 2}")
    assert load(STUDY, corrected)


def refusal(read: Callable[[], object]) -> str:
    """The sentence of the user error that reading ends in; empty where it succeeds."""
    try:
        read()
    except UserError as error:
        return str(error)
    return ""


@given(st.text(alphabet=string.printable, max_size=40))
def test_no_text_ends_in_anything_but_a_user_error(tmp_path_factory, text):
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_text(STUDY + text, encoding="utf-8")
    assert "\n" not in refusal(lambda: load_grid(path))


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@given(st.sampled_from(sorted(StudySpec.model_fields)), values)
@example("evaluation", {"\n": None})
@example("rates", [10**400])
def test_no_value_ends_in_anything_but_a_user_error(key, value):
    study = {**parse_value(STUDY), key: value}
    sentence = refusal(lambda: validate(StudySpec, study, "file.yaml"))
    assert sentence.startswith("file.yaml: ") or sentence == ""
    assert "\n" not in sentence
