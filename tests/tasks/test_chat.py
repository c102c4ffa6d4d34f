"""Rows in chat templates, against transformers' own tokens of the same chats."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from softprior.assets.chat import chat_of, chat_tokens
from softprior.assets.tokens import EncoderTokenizer, NotJointError, in_front
from softprior.errors import UserError
from softprior.inputs.specs import EvaluationSpec, ModelSpec, StudySpec
from softprior.inputs.validation import validate
from softprior.models.local import LocalLM
from softprior.models.packing import ATTENTION
from softprior.studies.plan import plan_study
from softprior.tasks import TASKS, Arithmetic, Choices, Cloze, Pairs, Squad
from softprior.tasks.base import Example
from softprior.tasks.parts import PARTS, parts_of
from softprior.tasks.prepare import prepare
from softprior.testing.tasks import check_cache, check_positions, check_prepared
from softprior.training.evaluation import Evaluator
from tests.builders import SIZES, tiny

REVIEWS = str(Path(__file__).parents[1] / "data" / "reviews.tsv")

CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
TRIMMED = (
    "{{ bos_token }}{% for m in messages %}"
    "{{ '<|im_start|>' + m.role + '\n\n' + m.content | trim + '<|im_end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n\n' }}{% endif %}"
)
DATED = "{{ '<|im_start|>system\nToday is ' + strftime_now('%d %b %Y') + '.<|im_end|>\n' }}" + CHATML
THOUGHT = CHATML.replace(
    "m.content", "('<think>\n\n</think>\n\n' if m.role == 'assistant' else '') + m.content"
)
INSTRUCTED = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}{{ '[INST] ' + m.content + ' [/INST]' }}"
    "{% elif m.role == 'assistant' %}{{ ' ' + m.content + '<|im_end|>' }}{% else %}{{ m.content + '\n' }}"
    "{% endif %}{% endfor %}"
)
BROKEN_LINE = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant' }}{% endif %}"
)
TEMPLATES = {
    "chatml": CHATML,
    "instructed": INSTRUCTED,
    "begun and trimmed": TRIMMED,
    "dated": DATED,
    "with thoughts": THOUGHT,
    "with a line break of its own": BROKEN_LINE,
}

TEXTS = [
    ("What is 12 + 34?\nAnswer:", "46", None),
    ("The old bridge.\nQuestion: when?\nAnswer:", "in 1862, \u00c4pfel", "Answer with a few words."),
    ("  an indented text", '"quoted"', None),
]


def talking(template: str | None) -> Any:
    """The tokenizer of `tiny` with the tokens of chats, which are not those that begin and end its texts."""
    tokenizer: Any = copy.deepcopy(tiny().tokenizer)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    tokenizer.add_special_tokens({"bos_token": "<|begin|>"})
    tokenizer.chat_template = template
    return tokenizer


def ids(tokenizer: Any, messages: list[dict[str, str]], **options: Any) -> list[int]:
    template = tokenizer.chat_template.replace("strftime_now('%d %b %Y')", "'26 Jul 2024'")
    found = tokenizer.apply_chat_template(messages, chat_template=template, return_dict=True, **options)
    return list(found["input_ids"])


@pytest.mark.parametrize("name", TEMPLATES)
@pytest.mark.parametrize(("text", "answer", "system"), TEXTS)
def test_rows_have_the_tokens_of_apply_chat_template(
    name: str, text: str, answer: str, system: str | None
) -> None:
    tokenizer = talking(TEMPLATES[name])
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    turns = [] if system is None else [{"role": "system", "content": system}]
    asked = [*turns, {"role": "user", "content": text}]
    answered = [*asked, {"role": "assistant", "content": answer}]

    task = Arithmetic(template="chat", system=system)
    row = task.row(Example("x", text, None, (answer,), ""), tokenizer)
    whole = ids(tokenizer, answered)
    assert row.tokens == whole[: len(whole) - whole[::-1].index(end)]
    first = row.labels.index(True)
    assert row.labels == [False] * first + [True] * (len(row.tokens) - first)
    assert row.scored == [*row.labels[:-1], False]
    assert row.tokens[:-1] == ids(tokenizer, answered, continue_final_message=True)
    prompt = ids(tokenizer, asked, add_generation_prompt=True)
    assert row.tokens[: len(prompt)] == prompt
    assert (first == len(prompt)) is (name not in ("with thoughts", "with a line break of its own"))
    assert "\n" not in tokenizer.decode(row.tokens[first : first + 1]), "it would end the answer"
    space = " " if name == "instructed" else ""
    assert tokenizer.decode(row.tokens[first:-1]) == f"{space}{answer}"
    assert task.ends(tokenizer) == {end}
    assert end != tokenizer.eos_token_id


OWN: dict[type[Any], dict[str, Any]] = {
    Pairs: {"data": REVIEWS, "input": "{sentence}\nSubject:", "answer": "topic"},
    Choices: {
        "data": REVIEWS,
        "input": "{sentence}\nOpinion:",
        "labels": ["bad", "good"],
        "answer": "label",
        "answer_is": "index",
    },
}
"""What tasks on rows of one's own need."""


@pytest.mark.parametrize("kind", [Squad, Arithmetic, Cloze, *OWN])
def test_the_plain_template_changes_nothing(kind: type[Any]) -> None:
    needed = OWN.get(kind, {})
    plain = kind(**needed)
    assert not {"template", "system"} & set(TASKS.entry(plain).params)
    assert kind(template="plain", system=None, **needed).canonical() == plain.canonical()
    chat = kind(template="chat", system="Be brief.", **needed)
    assert {"template", "system"} <= set(TASKS.entry(chat).params)
    assert validate(kind, json.loads(chat.canonical()), kind.__name__) == chat
    assert chat.canonical() != plain.canonical()
    assert chat.positions() > plain.positions() + 20
    assert plain.lead(tiny().tokenizer) is None
    assert plain.ends(tiny().tokenizer) == frozenset()


@pytest.mark.parametrize("kind", OWN)
def test_rows_of_ones_own_are_chats(kind: type[Any]) -> None:
    """Each is transformers' own chat; of choices, each choice is, behind the input and without it."""
    tokenizer, task = talking(CHATML), kind(template="chat", system="Be brief.", **OWN[kind])
    for check in (check_prepared, check_cache, check_positions):
        check(task, tokenizer)
    prepared, examples = prepare(task, tokenizer, "chat"), map(Example.of, task.splits().test)

    def chat(text: str, answer: str | None) -> list[int]:
        turns = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": text}]
        if answer is None:
            return ids(tokenizer, turns, add_generation_prompt=True)
        return ids(tokenizer, [*turns, {"role": "assistant", "content": answer}], continue_final_message=True)

    for i, example in enumerate(examples):
        row, choices = prepared.test.row(i), prepared.test.choices(i)
        assert row.tokens[:-1] == chat(example.input, example.answers[0])
        assert prepared.test.input_row(i).tokens == chat(example.input, None)
        assert task.asked(example.input, tokenizer) == chat(example.input, None)
        assert (choices is not None) is (kind is Choices)
        if choices is None:
            continue
        for choice, given, alone in zip(choices.texts, choices.given, choices.alone, strict=True):
            assert given.tokens == chat(example.input, choice)
            assert alone.tokens == chat("Opinion:", choice)
            assert given.labels.index(True) == len(chat(example.input, None))


@pytest.mark.parametrize("name", TEMPLATES)
def test_what_a_template_writes_is_no_part_of_the_input(name: str) -> None:
    tokenizer, task = talking(TEMPLATES[name]), Squad(template="chat")
    text = "A bridge from 1862.\nQuestion: What is it?\nAnswer:"
    example = Example("x", text, None, ("bridge",), "")
    row = task.row(example, tokenizer)
    parts = parts_of(task, example, row, tokenizer)

    def read(part: str) -> str:
        marked = list(zip(row.tokens, parts, strict=True))[:-1]  # without the end of the turn
        return tokenizer.decode([token for token, own in marked if PARTS[own] == part])

    assert read("input").strip() == "A bridge from 1862."  # a space may belong to the first word
    assert read("question") == " What is it?"
    assert read("answer").strip() == "bridge"
    roles = {"[INST]", "[/INST]"} if name == "instructed" else {"user", "assistant"}
    assert {"Question:", "Answer:"} | roles <= set(re.split(r"\s|<[^>]*>", read("template")))


class Watched(LocalLM):
    """Keeps what it was asked to continue, and the tokens at which it had to stop."""

    def generate(self, prompt, batch, *, max_new, stop):  # type: ignore[no-untyped-def]
        self.asked, self.stop = batch, stop
        return super().generate(prompt, batch, max_new=max_new, stop=stop)


def test_a_chat_is_evaluated_up_to_the_end_of_its_turn() -> None:
    tokenizer = talking(CHATML)
    sizes = {**SIZES, "vocab_size": len(tokenizer), "num_hidden_layers": 1}
    torch.manual_seed(0)
    network = LlamaForCausalLM._from_config(LlamaConfig(**sizes), attn_implementation=ATTENTION)
    host = Watched(network, "weights")
    few = {"train_examples": 2, "validation_examples": 2, "test_examples": 3, "max_new_tokens": 2}
    task = Arithmetic(modules=("two_digit_addition",), template="chat", **few)
    prepared = prepare(task, tokenizer, "chat")
    words = in_front(tokenizer, "Work it out.")
    evaluator = Evaluator(host, tokenizer, task, EvaluationSpec(batch=4), words)
    score = evaluator.full(None, prepared.test, 0).score
    assert (score.examples, score.generated) == (3, 3)
    assert host.stop >= {tokenizer.convert_tokens_to_ids("<|im_end|>"), tokenizer.eos_token_id}

    example = Example.of(next(iter(task.splits().test)))
    turns = [{"role": "user", "content": f"Work it out.\n{example.input}"}]
    expected = ids(tokenizer, turns, add_generation_prompt=True)
    lengths = host.asked.lengths.tolist()
    rows = [tokens[:n] for tokens, n in zip(host.asked.tokens.tolist(), lengths, strict=True)]
    assert expected in rows


def test_what_has_no_chat_is_refused_in_one_sentence() -> None:
    def refused(call: Any, *arguments: Any) -> str:
        with pytest.raises(UserError) as error:
            call(*arguments)
        assert "\n" not in str(error.value)
        assert ". " not in str(error.value)
        return str(error.value)

    assert "chat template, and this model's has none" in refused(chat_of, talking(None), None)
    assert "for decoder-only models" in refused(chat_of, EncoderTokenizer(talking(CHATML)), None)
    refusing = "{% if messages[0].role == 'system' %}{{ raise_exception('no system turn here.') }}{% endif %}"
    strict = refusing + CHATML
    assert chat_of(talking(strict), None)
    assert "(no system turn here); write template: plain, or leave system out" in refused(
        chat_of, talking(strict), "Be brief."
    )
    bare = "{% for m in messages %}{{ m.role + ': ' + m.content + '\n' }}{% endfor %}"
    assert "no special token ends" in refused(chat_of, talking(bare), None)
    with pytest.raises(NotJointError, match="where it would end"):
        chat_tokens(talking(CHATML), "a", "b<|im_end|>c", None)
    with pytest.raises(NotJointError, match="changes the answer"):
        chat_tokens(talking(CHATML.replace("m.content", "m.content | replace('b', 'c')")), "a", "b", None)
    shortened = CHATML.replace("m.content", "m.content[:20]")
    with pytest.raises(NotJointError, match="changes the input"):
        chat_tokens(talking(shortened), "What is 12 + 34, and why?", "b", None)
    silent = CHATML.replace("in messages %}", "in messages if m.role != 'system' %}")
    assert "leaves the text of the system's turn out" in refused(chat_of, talking(silent), "Be brief.")
    assert chat_of(talking(silent), None)
    with pytest.raises(UserError, match="has no effect with template: plain"):
        validate(Squad, {"system": "Be brief."}, "study.yaml")


def test_todays_date_is_a_fixed_day_in_the_templates_own_form() -> None:
    dated = DATED.replace("%d %b %Y", "%Y-%m-%d")
    assert "Today is 2024-07-26." in chat_of(talking(dated), None).lead


def test_a_plan_says_that_a_model_has_no_chat_template() -> None:
    study = {
        "name": "chat",
        "model": "tiny",
        "priors": ["isotropic"],
        "methods": ["soft"],
        "tasks": [{"arithmetic": {"template": "chat"}}],
        "rates": [1e-3],
        "seeds": [0],
        "training": {"steps": 1, "batch": 1},
    }
    with pytest.raises(UserError, match=r"study: tasks: template: chat needs a tokenizer with a chat"):
        plan_study(validate(StudySpec, study, "study"))


@pytest.mark.faults  # for its minute; the templates above have tokens of their own that end a turn
@pytest.mark.network("smollm2-135m-instruct-q4_1")
def test_smollm2_ends_its_turn_with_its_own_token() -> None:
    from softprior.models.load import load_tokenizer

    tokenizer: Any = load_tokenizer(ModelSpec(id="smollm2-135m-instruct-q4_1")).tokenizer
    chat = chat_tokens(tokenizer, "What is 12 + 34?", "46", None)
    turns = [{"role": "user", "content": "What is 12 + 34?"}, {"role": "assistant", "content": "46"}]
    whole = tokenizer.apply_chat_template(turns)["input_ids"]
    assert [*chat.before, *chat.after, chat.end] == list(whole)[: len(whole) - 1]  # a line break follows
    assert chat.end == tokenizer.eos_token_id
