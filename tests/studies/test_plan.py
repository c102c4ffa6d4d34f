"""The grid: every combination once, baselines once and always, and the same ids in any order."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from tokenizers.processors import TemplateProcessing
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from softprior.assets.models import known_model
from softprior.errors import UserError
from softprior.inputs.entries import Entry
from softprior.inputs.specs import ModelSpec, StudySpec
from softprior.inputs.validation import validate
from softprior.methods import METHODS
from softprior.models.load import load_local
from softprior.priors import PRIORS
from softprior.prompt import Place
from softprior.results.folder import StudyFolder
from softprior.results.posteriors import Posterior, save_posterior
from softprior.statistics.store import SiteStatistics, save_statistics
from softprior.studies.plan import Plan, plan_study
from softprior.studies.table import write_table
from softprior.tasks import TASKS
from softprior.tasks.prepare import prepare
from softprior.testing.families import save_model


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with room for every text here."""
    return saved(tmp_path_factory.mktemp("model"), positions=2000)


def saved(folder: Path, positions: int, seed: int = 0) -> Path:
    """A random model of 4 blocks of width 8, keys of width 4, and 50 tokens."""
    config = LlamaConfig(
        vocab_size=50,
        hidden_size=8,
        intermediate_size=8,
        num_hidden_layers=4,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=positions,
        bos_token_id=1,
        eos_token_id=2,
    )
    torch.manual_seed(seed)
    return save_model(LlamaForCausalLM(config), folder)


@pytest.fixture
def plan(model: Path):
    """Plans a small study, with top-level keys changed."""

    def plan(**changes: Any) -> Plan:
        study = {
            "name": "small",
            "model": str(model),
            "priors": ["isotropic", "fitted"],
            "methods": ["soft", {"deep": {"tokens": 5}}],
            "tasks": ["arithmetic", {"squad": {"context_tokens": 96}}],
            "rates": [1e-3, {"relative": 0.1}, 1e-2],
            "seeds": [0, 1, 2, 3],
            "training": {"steps": 5, "batch": 2},
        }
        return plan_study(validate(StudySpec, {**study, **changes}, "study.yaml"), "study.yaml")

    return plan


def test_vectors_behind_a_token_need_a_tokenizer_that_adds_it(plan, model, tmp_path):
    behind = {"methods": [{"soft": {"placement": "after_bos"}}, "soft"]}
    with pytest.raises(
        UserError, match=r"study.yaml: methods: placement: after_bos .* has no such token; use"
    ):
        plan(**behind)
    folder = shutil.copytree(model, tmp_path / "bos")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="w1 $A", special_tokens=[("w1", 1)]
    )
    tokenizer.add_special_tokens({"bos_token": "w1"})
    tokenizer.save_pretrained(folder)
    found = plan(model=str(folder), **behind)
    params = {trial.method.params.get("placement") for trial in found.trials if trial.method.name == "soft"}
    assert params == {None, "after_bos"}
    assert len(found.trials) == 2 + 2 * 2 * 2 * 3 * 4
    chat = {"evaluation": {"also": [{"arithmetic": {"template": "chat"}}]}}
    with pytest.raises(UserError, match=r"study.yaml: evaluation\.also: template: chat needs a tokenizer"):
        plan(model=str(folder), **chat)
    turns = "{% for m in messages %}{{ m.role + ': ' + m.content + eos_token }}{% endfor %}"
    tokenizer.chat_template = turns + "{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
    tokenizer.add_special_tokens({"eos_token": "w2"})
    tokenizer.save_pretrained(folder)
    said = r"study.yaml: evaluation\.also: placement: .* texts of task arithmetic without its w1; use"
    with pytest.raises(UserError, match=said):
        plan(model=str(folder), **behind, **chat)
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single="$A", special_tokens=[])
    tokenizer.save_pretrained(folder)
    with pytest.raises(UserError, match=r"texts of task arithmetic without its w1"):
        plan(model=str(folder), **behind)


def test_the_grid_is_the_product_of_its_axes_and_one_baseline_a_task(plan):
    trials = plan().trials
    trained = [trial for trial in trials if trial.prior is not None]
    assert len(trained) == 2 * 2 * 2 * 3 * 4
    assert len(trials) == len(trained) + 2
    assert len({trial.id for trial in trials}) == len(trials)
    axes = {
        (t.prior.name, t.method.name, t.task.name, t.rate.label, t.seed)
        for t in trained
        if t.prior and t.rate
    }
    assert len(axes) == len(trained)


def test_baselines_come_first_and_have_no_prior_rate_seed_or_training(plan):
    trials = plan(methods=["soft", "instruction", "none"]).trials
    assert [(t.method.name, t.task.name) for t in trials[:4]] == [
        *[("instruction", "arithmetic"), ("instruction", "squad"), ("none", "arithmetic"), ("none", "squad")],
    ]
    for trial in trials:
        values = [trial.prior, trial.rate, trial.seed, trial.training]
        assert (values == [None] * 4) is (trial.method.name in ("instruction", "none"))
        assert None not in values or values == [None] * 4


def test_the_baseline_is_added_and_said_or_wanted_and_not_said(plan):
    added, wanted = plan(), plan(methods=["none", "soft", {"deep": {"tokens": 5}}])
    assert added.notes == ("the no-prompt baseline of every task is added",)
    assert wanted.notes == ()
    assert {t.id for t in added.trials} == {t.id for t in wanted.trials}


def test_axes_without_effect_are_said(plan):
    found = plan(methods=["none"])
    assert len(found.trials) == 2
    assert found.notes == ("no method has a trained prompt, so priors, rates and seeds have no effect",)


def test_the_same_thing_said_twice_is_one_trial(plan):
    once = plan(priors=["isotropic"], methods=["soft"], tasks=["arithmetic"], rates=[1e-3], seeds=[0])
    twice = plan(
        priors=["isotropic", {"isotropic": {"scale": 0.02}}],
        methods=["soft", {"soft": {"tokens": 20}}, "none", "none"],
        tasks=["arithmetic", "arithmetic"],
        rates=[1e-3, 0.001, {"value": 0.001}],
        seeds=[0, 0],
        regularisers=["none", "spread", ["spread"]],
    )
    untied = [t.id for t in twice.trials if not t.regularisers]
    assert untied == [t.id for t in once.trials]
    assert len(once.trials) == 2
    pairs = [("priors", 1, 0), ("methods", 1, 0), ("methods", 3, 2), ("tasks", 1, 0), ("regularisers", 2, 1)]
    pairs += [("rates", 1, 0), ("rates", 2, 0), ("seeds", 1, 0)]
    said = [f"{a}[{i}] is the same as {a}[{j}] and counts once; remove it" for a, i, j in pairs]
    assert [note for note in twice.notes if "the same" in note] == said


def test_ids_do_not_depend_on_order_name_description_or_place(plan):
    one = plan()
    other = plan(
        name="other",
        description="text",
        priors=["fitted", "isotropic"],
        methods=[{"deep": {"tokens": 5}}, "soft"],
        tasks=[{"squad": {"context_tokens": 96}}, "arithmetic"],
        rates=[1e-2, 1e-3, {"relative": 0.1}],
        seeds=[3, 2, 1, 0],
        resources={"cpus": 1, "concurrent": 7},
        tracking={"enabled": False},
    )
    assert {t.id for t in one.trials} == {t.id for t in other.trials}
    assert [t.id for t in one.trials] != [t.id for t in other.trials]


def test_what_decides_a_result_changes_every_trained_id(plan):
    ids = {t.id for t in plan().trials if t.prior}
    assert not ids & {t.id for t in plan(training={"steps": 6, "batch": 2}).trials}
    assert not ids & {t.id for t in plan(evaluation={"examples": 7}).trials}


def test_other_weights_under_the_same_name_are_other_trials(plan, tmp_path):
    changes = {"model": str(saved(tmp_path, positions=2000))}
    before = {t.id for t in plan(**changes).trials}
    saved(tmp_path, positions=2000, seed=1)
    assert not before & {t.id for t in plan(**changes).trials}


def test_trials_carry_the_fingerprints_of_model_and_data(plan, model):
    for trial in plan().trials:
        assert trial.model == str(model)
        assert trial.model_fingerprint == known_model(ModelSpec(id=str(model))).fingerprint
        task = TASKS.component(trial.task)
        assert trial.data_fingerprint == task.fingerprint()


def test_every_parameter_is_written_out(plan):
    tables = {"prior": PRIORS, "method": METHODS, "task": TASKS}
    for trial in plan().trials:
        for axis, table in tables.items():
            entry = getattr(trial, axis)
            if entry is not None:
                # These came later, and their defaults stay out of ids.
                later = {"task": {"template", "system"}, "method": {"placement"}}.get(axis, set())
                assert set(entry.params) == set(table[entry.name].model_fields) - later
                assert table.entry(table.component(entry, "test", "entry")) == entry


def test_an_instruction_is_a_trial_of_its_text(plan):
    def texts(*methods: Any) -> dict[str, str]:
        trials = plan(methods=list(methods), tasks=["arithmetic"]).trials
        return {t.method.params["written"]: t.id for t in trials if t.method.name == "instruction"}

    own = TASKS["arithmetic"].instruction
    found = texts("instruction", {"instruction": {"written": "Add."}})
    assert set(found) == {own, "Add."}
    assert texts({"instruction": {"written": own}}) == {own: found[own]}


def test_a_tasks_own_budget_reaches_its_trials_and_no_others(plan):
    training = {"steps": 5, "batch": 2, "by_task": {"squad": {"steps": 9, "batch": 1}}}
    before = {t.id for t in plan().trials}
    for trial in plan(training=training).trials:
        if trial.training is not None:
            steps = {"squad": (9, 1), "arithmetic": (5, 2)}[trial.task.name]
            assert (trial.training.steps, trial.training.batch, trial.training.by_task) == (*steps, {})
        assert (trial.id in before) is (trial.training is None or trial.task.name == "arithmetic")


def test_cloze_has_a_budget_of_its_own_or_that_of_language_whose_mode_it_was(plan):
    def steps(*tasks: Any, **budgets: int) -> list[int]:
        by_task = {name: {"steps": count, "batch": 1} for name, count in budgets.items()}
        training = {"steps": 5, "batch": 2, "by_task": by_task}
        trials = plan(tasks=list(tasks), training=training, priors=["isotropic"], methods=["soft"]).trials
        return list(dict.fromkeys(t.training.steps for t in trials if t.training is not None))

    assert steps("language", "cloze", language=8, cloze=9) == [8, 9]
    assert steps({"language": {"mode": "cloze"}}, language=8) == steps("cloze", language=8) == [8]
    assert steps("cloze", cloze=9) == [9]


def test_tables_name_tasks_as_study_files_do(plan, tmp_path):
    """Trials write cloze as a mode of language."""
    planned, folder = plan(tasks=["language", "cloze"]), StudyFolder(tmp_path / "study")
    write_table(folder, planned.trials, planned.components, {})
    assert pq.read_table(folder.table)["task"].unique().to_pylist() == ["language", "cloze"]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"priors": ["isotropc"]}, "priors[0] = 'isotropc' does not exist; did you mean 'isotropic'?"),
        ({"priors": ["gaussian"]}, "priors[0] = 'gaussian' does not exist; did you mean 'isotropic'?"),
        (
            {"methods": ["prefix_tuning"]},
            "'prefix_tuning' does not exist; did you mean 'prefix'?",
        ),
        ({"priors": ["cube_prior"]}, "a class of one's own needs --code FILE"),
        ({"methods": ["soft", "deeep"]}, "methods[1] = 'deeep' does not exist; did you mean 'deep'?"),
        ({"tasks": ["xyz"]}, f"tasks[0] = 'xyz' does not exist; known: {', '.join(sorted(TASKS))}"),
        (
            {"priors": [{"isotropic": {"scal": 1}}]},
            "unknown key 'priors[0].isotropic.scal'; did you mean 'priors[0].isotropic.scale'",
        ),
        ({"priors": [{"isotropic": {"scale": True}}]}, "priors[0].isotropic.scale = true: must be a number"),
        ({"priors": ["instruction"]}, "the key 'priors[0].instruction.text' is required"),
        (
            {"priors": ["fitted", {"mixture": {"priors": ["fitted", {"isotropic": {"scale": 0}}]}}]},
            "priors[1].mixture.priors[1].isotropic.scale = 0: must be greater than 0",
        ),
        (
            {"priors": [{"mixture": {"priors": ["fitted", {"isotropic": {"scal": 1}}]}}]},
            "unknown key 'priors[0].mixture.priors[1].isotropic.scal'; did you mean 'priors[0].mixture",
        ),
        (
            {"priors": [{"mixture": {"priors": ["fitted", "isotropc"]}}]},
            "priors[0].mixture.priors[1] = 'isotropc': 'isotropc' cannot be used here; did you mean",
        ),
        (
            {"priors": [{"interpolation": {"first": {"part": [0, 2]}}}]},
            "priors[0].interpolation.first.part[1] = 2: must be at most 1",
        ),
        (
            {"priors": [{"interpolation": {"low": 0.5, "high": 0.2}}]},
            "priors[0].interpolation: low = 0.5 is above high = 0.2; swap them",
        ),
        (
            {"priors": [{"by_place": {"default": "fitted", "blocks": {2: {"instruction": {}}}}}]},
            "the key 'priors[0].by_place.blocks.2.instruction.text' is required",
        ),
        (
            {
                "priors": [
                    {"by_place": {"default": {"mixture": {"priors": ["zeros", {"vae": {"beta": 0}}]}}}},
                ]
            },
            "priors[0].by_place.default.mixture.priors[1].vae.beta = 0: must be greater than 0",
        ),
        (
            {"regularisers": [["spread", {"spread": {"weight": -1}}], "none"]},
            "regularisers[0][1].spread.weight = -1: must be at least 0",
        ),
        (
            {"regularisers": ["none", {"spread": {"weight": -1}}]},
            "regularisers[1].spread.weight = -1: must be at least 0",
        ),
        (
            {"methods": [{"instruction": {"written": " "}}]},
            "methods[0].instruction.written = ' ': must not be",
        ),
        (
            {"tasks": [{"arithmetic": {"modules": ["mull"]}}]},
            "modules[0] = 'mull' is not a choice; did you mean 'mul'",
        ),
        (
            {"tasks": [{"squad": {"data": "./no.json"}}]},
            "tasks[0]: the data file or folder no.json does not exist",
        ),
        (
            {"training": {"steps": 1, "batch": 1, "by_task": {"squd": {"steps": 1, "batch": 1}}}},
            "training.by_task.squd is not a task of this study; did you mean 'squad'?",
        ),
        ({"model": "tinyy"}, "model: there is no model 'tinyy'; did you mean 'tiny'?"),
        (
            {"model": "./nowhere"},
            "model: there is no model folder or .gguf file at ./nowhere",
        ),
    ],
)
def test_names_that_do_not_exist_get_one_helpful_sentence(plan, changes, sentence):
    with pytest.raises(UserError, match=re.escape(sentence)) as caught:
        plan(**changes)
    assert str(caught.value).startswith("study.yaml: ")
    assert "\n" not in str(caught.value)


@pytest.fixture(scope="module")
def complete(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model with 60 positions."""
    return saved(tmp_path_factory.mktemp("complete"), positions=60)


SHORT = {"arithmetic": {"modules": ["two_digit_addition"], "max_new_tokens": 5}}


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"methods": [{"soft": {"tokens": 60}}]},
            "methods[0]: soft.tokens = 60 leaves no room for a text in the 60 positions of the model; use",
        ),
        (
            {"methods": ["none", {"soft": {"tokens": 56}}]},
            "methods[1]: soft with 56 prompt vectors, any text and 5 new tokens of the task arithmetic takes "
            "62 positions, but the model has 60; lower the length of the task or the prompt's tokens",
        ),
        (
            {"tasks": [SHORT, {"squad": {"context_tokens": 40, "max_new_tokens": 1}}]},
            "methods[0]: soft with 20 prompt vectors, a text of up to 40 and 1 new token of the task squad "
            "takes 61 positions",
        ),
        (
            {"tasks": [{"language": {"length": 41}}]},
            "a text of up to 41 and 0 new tokens of the task language",
        ),
    ],
)
def test_a_prompt_and_the_longest_text_have_to_fit_the_positions(plan, complete, changes, sentence):
    fitting = {"model": str(complete), "tasks": [SHORT, {"language": {"length": 40}}], "methods": ["soft"]}
    assert plan(**fitting).trials
    with pytest.raises(UserError, match=re.escape(sentence)):
        plan(**{**fitting, **changes})


def posterior(path: Path, model: Path, vectors: dict[Place, torch.Tensor]) -> Path:
    fingerprint = known_model(ModelSpec(id=str(model))).fingerprint
    header = {"trial": path.stem, "model": {"fingerprint": fingerprint}}
    save_posterior(path, Posterior(header, vectors, vectors, {}))
    return path


def test_a_posterior_that_does_not_fit_is_refused_with_its_place(plan, complete, tmp_path):
    path = posterior(tmp_path / "posteriors" / "a.safetensors", complete, {Place(0): torch.zeros(3, 8)})

    def planned(method: dict, file: Path = path) -> Plan:
        priors = ["isotropic", {"posterior": {"file": str(file)}}]
        return plan(model=str(complete), tasks=[SHORT], methods=[method], priors=priors)

    assert planned({"soft": {"tokens": 3}}).trials
    assert planned({"soft": {"tokens": 3}}, tmp_path).trials
    with pytest.raises(
        UserError, match=r"study\.yaml: priors\[1\]: .* contains 3 vectors .* this trial has 4"
    ):
        planned({"soft": {"tokens": 4}})
    with pytest.raises(UserError, match=r"priors\[1\]: .* has no vectors at decoder\.0\.key\.keep"):
        planned({"prefix": {"tokens": 3}})
    posterior(path.with_name("b.safetensors"), complete, {Place(0): torch.ones(3, 8)})
    with pytest.raises(UserError, match=r"priors\[1\]: 2 of the 2 posteriors .* exactly one is needed"):
        planned({"soft": {"tokens": 3}}, tmp_path)
    saved(complete, positions=60, seed=1)
    with pytest.raises(UserError, match=r"priors\[1\]: .* was trained on another model"):
        planned({"soft": {"tokens": 3}})


def test_a_store_that_does_not_fit_is_refused_with_its_place(plan, complete, tmp_path):
    fingerprint = known_model(ModelSpec(id=str(complete))).fingerprint
    classes = {"all": SiteStatistics.of(torch.randn(20, 8))}
    save_statistics(tmp_path, "sums", "resid.0", fingerprint, classes)
    store = {"statistics": str(tmp_path), "task": "sums"}

    def planned(**changes: Any) -> Plan:
        return plan(
            **{
                "model": str(complete),
                "tasks": [SHORT],
                "methods": [{"soft": {"tokens": 3}}],
                "priors": ["isotropic"],
                **changes,
            }
        )

    assert planned(priors=[{"fitted": store}], regularisers=[{"domain": store}]).trials
    with pytest.raises(UserError, match=r"priors\[0\]: .* has no token class 'answer'"):
        planned(priors=[{"fitted": {**store, "tokens": "answer"}}])
    with pytest.raises(UserError, match=r"regularisers\[0\]: .* has no token class 'answer'"):
        planned(regularisers=[{"domain": {**store, "tokens": "answer"}}])
    with pytest.raises(UserError, match=r"priors\[0\]: the statistics of sums .* have no site 'resid\.3'"):
        planned(priors=[{"fitted": store}], methods=[{"deep": {"tokens": 3, "last": 1}}])
    with pytest.raises(
        UserError, match=r"priors\[0\]: .* 8 dimensions, but the place decoder\.0\.key.* has 4"
    ):
        planned(priors=[{"fitted": {**store, "site": "resid.0"}}], methods=[{"prefix": {"tokens": 3}}])


def test_a_part_with_too_few_tokens_is_refused_with_its_place(plan):
    with pytest.raises(
        UserError, match=r"priors\[0\]: part = \[0\.0, 0\.02\] of 50 tokens contains 1; a fit needs"
    ):
        plan(tasks=[SHORT], priors=[{"fitted": {"part": [0, 0.02]}}])


def test_too_few_examples_are_said_once_they_are_known(plan, tmp_path):
    texts = tmp_path / "texts.jsonl"
    rows = [{"text": f"One line of {number}. " * 9} for number in range(40)]
    texts.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    few = {"validation_examples": 1, "test_examples": 1, "train_examples": 2000}
    task = {"language": {"data": str(texts), **few}}
    changes = {"model": "tiny", "tasks": [task, task], "methods": [{"soft": {"tokens": 3}}]}
    before = [note for note in plan(**changes).notes if "limit" in note]
    loaded = load_local(ModelSpec(id="tiny", device="cpu"))
    prepared = prepare(TASKS["language"](**task["language"]), loaded.tokenizer, loaded.fingerprint)
    after = plan(**changes).notes
    assert before == []
    assert f"language has {len(prepared.train):,} train examples (limit 2,000)" in after


def test_numbers_larger_than_the_number_of_steps_are_said(plan):
    own = {"steps": 5, "batch": 8, "curve": 50, "warmup": 6}
    said = plan(model="tiny", training=own).notes
    more = "is more than the 5 steps of arithmetic"
    assert f"training.curve = 50 {more}: each step has its validation loss" in said
    assert f"training.warmup = 6 {more}: the full rate is never reached" in said
    quiet = plan(model="tiny", training=own | {"curve": 5, "warmup": 5}).notes
    assert not any("training." in note for note in quiet)


def test_a_batch_larger_than_the_task_is_said(plan):
    sums = {"arithmetic": {"train_examples": 32}}
    large = plan(model="tiny", tasks=[sums], training={"steps": 5, "batch": 64})
    assert "arithmetic: batches have 32 rows, as the task has no more, in place of batch = 64" in large.notes
    own = {"steps": 5, "batch": 64, "by_task": {"arithmetic": {"steps": 5, "batch": 32}}}
    assert not any("batches" in note for note in plan(model="tiny", tasks=[sums], training=own).notes)


@pytest.mark.parametrize("table", [PRIORS, METHODS, TASKS], ids=["priors", "methods", "tasks"])
def test_every_component_of_every_table_is_named_by_its_entry(table):
    required = {
        "instruction": {"text": "a"} if table is PRIORS else {},
        "posterior": {"file": "a.safetensors"},
        "mixture": {"priors": ["isotropic", "fitted"]},
        "by_place": {"default": "isotropic"},
        "pairs": {"data": "a.jsonl", "input": "q", "answer": "a"},
        "choices": {"data": "a.jsonl", "input": "q", "answer": "a", "labels": ["x", "y"]},
    }
    for name in table:
        component = table.component(Entry(name=name, params=required.get(name, {})), "test", "entry")
        entry = table.entry(component)
        assert table.component(entry) == component
        if name not in table.written_as:
            assert entry.name == name
            assert json.loads(entry.canonical())["params"] == component.model_dump(mode="json")


ZEROS = (
    "zeros is only for keys and values (no gradient comes through the norms of a vector of zeros in the "
    "residual stream), but soft has vectors in the residual stream"
)


def test_a_prior_is_left_out_for_methods_it_cannot_start_and_the_plan_says_so(plan):
    found = plan(priors=["zeros", "isotropic"], methods=["soft", {"prefix": {"tokens": 2}}])
    pairs = {(t.prior.name, t.method.name) for t in found.trials if t.prior is not None}
    assert pairs == {("isotropic", "soft"), ("isotropic", "prefix"), ("zeros", "prefix")}
    assert f"{ZEROS}; left out there" in found.notes


@pytest.mark.parametrize(
    ("priors", "said"),
    [
        (["zeros"], ZEROS),
        ([{"mixture": {"priors": ["fitted", "zeros"]}}], f"priors[0].mixture.priors[1]: {ZEROS}"),
        ([{"by_place": {"default": "isotropic", "blocks": {0: "zeros"}}}], f"by_place: {ZEROS}"),
    ],
)
def test_a_study_that_would_train_nothing_is_refused_with_the_rule_and_the_remedy(plan, priors, said):
    with pytest.raises(UserError) as caught:
        plan(priors=priors, methods=["soft"], tasks=["language"])
    remedy = "use the method prefix, or another prior, such as isotropic"
    assert str(caught.value) == f"study.yaml: priors: {said}; {remedy}"


def test_regularisers_are_an_axis_of_single_terms_lists_and_none(plan):
    found = plan(
        priors=["isotropic"],
        methods=["soft"],
        regularisers=["none", {"towards_prior": {"weight": 2}}, ["spread", "norm_ball"]],
    )
    lists = {tuple(e.name for e in t.regularisers) for t in found.trials if t.prior is not None}
    assert lists == {(), ("towards_prior",), ("norm_ball", "spread")}
    turned = plan(priors=["isotropic"], methods=["soft"], regularisers=[["norm_ball", "spread"]])
    assert {t.id for t in turned.trials} <= {t.id for t in found.trials}


def test_a_missing_store_is_blamed_on_whoever_names_it(plan, tmp_path):
    lost = {"statistics": str(tmp_path / "none"), "task": "squad"}
    with pytest.raises(UserError, match=r"regularisers\[0\]: there is no statistics store"):
        plan(priors=["isotropic"], regularisers=[{"domain": lost}])
    with pytest.raises(UserError, match=r"priors\[1\]: there is no statistics store"):
        plan(priors=["isotropic", {"fitted": lost}])
