"""Rows against the joint tokenisation, for tokenizers of every kind; reserved tokens, chunks, table rows."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from softprior.assets.examination import read_tokenizer
from softprior.assets.tokens import (
    EncoderTokenizer,
    NotJointError,
    answers_changed,
    around,
    chunks,
    in_front,
    require_rows,
    reserved,
    stopping,
    vocabulary_ids,
)
from softprior.errors import UserError
from softprior.inputs.specs import EvaluationSpec
from softprior.models.encoder_decoder import EncoderDecoderLM
from softprior.prompt import Row, collate
from softprior.tasks import Arithmetic, Language, Squad
from softprior.tasks.base import Example, answer_row
from softprior.tasks.parts import PARTS, parts_of
from softprior.tasks.prepare import prepare
from softprior.testing.families import ENCODER_DECODERS, random_model
from softprior.training.corrections import TokenizerFacts
from softprior.training.evaluation import Evaluator
from tests.builders import questions, tiny

TEXT = (Path(__file__).parents[1] / "data" / "questions.json").read_text(encoding="utf-8")
SPECIAL = ["<unk>", "<s>", "</s>"]
INPUT = "The old bridge was built in 1862.\nAnswer:"
ANSWERS = ("46", "-3/4", "bridge", "the old bridge", '"quoted"', "(a) b", "Äpfel", "1862.")


def trained(model, trainer, normalizer=None, pre=None, decoder=None, post=None) -> PreTrainedTokenizerFast:
    inner = Tokenizer(model)
    if normalizer is not None:
        inner.normalizer = normalizer
    if pre is not None:
        inner.pre_tokenizer = pre
    if decoder is not None:
        inner.decoder = decoder
    inner.train_from_iterator([TEXT, *ANSWERS], trainer)
    if post is not None:
        pairs = [(token, inner.token_to_id(token)) for token in post.split() if token != "$A"]
        inner.post_processor = processors.TemplateProcessing(single=post, special_tokens=pairs)
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, unk_token="<unk>", bos_token="<s>", eos_token="</s>"
    )


def byte_level(post: str | None = None, pattern: str | None = None) -> PreTrainedTokenizerFast:
    """As GPT-2's; with a pattern as Llama 3's."""
    own = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=pattern is None)
    pre = own
    if pattern is not None:
        pre = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(pattern), "isolated"), own])
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    return trained(models.BPE(), trainer, None, pre, decoders.ByteLevel(), post)


LLAMA_3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)
SPACE = "\u2581"


def llama_2(post: str | None = "<s> $A") -> PreTrainedTokenizerFast:
    """SentencePiece BPE whose normalizer puts a mark in front of every text, with bytes to fall back on."""
    marks = normalizers.Sequence([normalizers.Prepend(SPACE), normalizers.Replace(" ", SPACE)])
    trainer = trainers.BpeTrainer(
        vocab_size=900,
        special_tokens=[*SPECIAL, *(f"<0x{byte:02X}>" for byte in range(256))],
        show_progress=False,
    )
    decoder = decoders.Sequence(
        [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    # Trained on words, as SentencePiece does, and used without a split.
    split = pre_tokenizers.Split(SPACE, "merged_with_next")
    model = models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True)
    return trained(model, trainer, marks, split, decoder, post)


def gemma() -> PreTrainedTokenizerFast:
    """Marks for spaces, and none in front."""
    trainer = trainers.BpeTrainer(
        vocab_size=900,
        special_tokens=[*SPECIAL, *(f"<0x{byte:02X}>" for byte in range(256))],
        show_progress=False,
    )
    decoder = decoders.Sequence([decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()])
    split = pre_tokenizers.Split(SPACE, "merged_with_next")
    model = models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True)
    return trained(model, trainer, normalizers.Replace(" ", SPACE), split, decoder, "<s> $A")


def t5(words: bool = True) -> PreTrainedTokenizerFast:
    """Unigram with a mark in front of every word, or of the text alone; every text is ended."""
    mark = pre_tokenizers.Metaspace(SPACE, prepend_scheme="always")
    pre = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), mark]) if words else mark
    trainer = trainers.UnigramTrainer(
        vocab_size=500, special_tokens=SPECIAL, unk_token="<unk>", show_progress=False
    )
    return trained(models.Unigram(), trainer, None, pre, decoders.Metaspace(SPACE), "$A </s>")


def bert() -> PreTrainedTokenizerFast:
    """Words and their pieces between [CLS] and [SEP], which stand for beginning and end here."""
    trainer = trainers.WordPieceTrainer(vocab_size=600, special_tokens=SPECIAL, show_progress=False)
    return trained(
        models.WordPiece(unk_token="<unk>"),
        trainer,
        None,
        pre_tokenizers.BertPreTokenizer(),
        decoders.WordPiece(),
        "<s> $A </s>",
    )


KINDS: dict[str, Callable[[], PreTrainedTokenizerFast]] = {
    "byte level": byte_level,
    "byte level, begun": lambda: byte_level("<s> $A"),
    "byte level, ended": lambda: byte_level("$A </s>"),
    "byte level, begun and ended": lambda: byte_level("<s> $A </s>"),
    "begun and ended by the same token": lambda: byte_level("</s> $A </s>"),
    "llama 3": lambda: byte_level("<s> $A", LLAMA_3),
    "llama 2": llama_2,
    "llama 2, ended": lambda: llama_2("<s> $A </s>"),
    "gemma": gemma,
    "t5": t5,
    "t5, a mark a text": lambda: t5(words=False),
    "bert": bert,
}
AS_BEFORE = {"byte level", "byte level, begun", "llama 3", "gemma"}
"""Kinds whose rows two texts made as well as one."""

every_kind = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture(scope="module")
def made() -> Callable[[str], PreTrainedTokenizerFast]:
    found: dict[str, PreTrainedTokenizerFast] = {}

    def make(kind: str) -> PreTrainedTokenizerFast:
        if kind not in found:
            found[kind] = KINDS[kind]()
        return found[kind]

    return make


def whole(tokenizer: PreTrainedTokenizerFast, text: str) -> list[int]:
    """The tokens of a text without those that end it, by the tokenizer's own marking of special tokens."""
    found = tokenizer(text, return_special_tokens_mask=True)
    ids, special = found["input_ids"], found["special_tokens_mask"]
    while special[len(ids) - 1]:
        ids = ids[:-1]
    return ids


@every_kind
@pytest.mark.parametrize("answer", ANSWERS)
def test_a_row_is_the_joined_text_and_one_end(made, kind, answer):
    tokenizer = made(kind)
    row = answer_row("x", INPUT, answer, tokenizer)
    assert row.tokens == [*whole(tokenizer, f"{INPUT} {answer}"), tokenizer.eos_token_id]
    start = row.labels.index(True)
    assert row.tokens[:start] == whole(tokenizer, INPUT)
    assert row.labels == [False] * start + [True] * (len(row.tokens) - start)
    assert row.scored == [*row.labels[:-1], False]
    words = row.tokens[len(around(tokenizer).opening) :]
    assert words.count(tokenizer.eos_token_id) == 1
    before = tokenizer(INPUT)["input_ids"], tokenizer(f" {answer}", add_special_tokens=False)["input_ids"]
    if kind in AS_BEFORE:
        assert row.tokens == [*before[0], *before[1], tokenizer.eos_token_id]


@every_kind
def test_which_tokenizers_made_other_rows_of_two_texts(made, kind):
    assert answers_changed(made(kind)) is (kind not in AS_BEFORE)


@every_kind
def test_what_is_generated_from_the_input_is_the_answer(made, kind):
    """The labels, decoded as generated tokens are, are the answer, up to what the kind has no tokens for."""
    tokenizer = made(kind)
    for answer in ("46", "bridge", "the old bridge"):
        row = answer_row("x", INPUT, answer, tokenizer)
        labels = row.tokens[row.labels.index(True) :]
        assert tokenizer.decode(labels, skip_special_tokens=True).strip() == answer


def test_an_encoder_reads_an_input_that_is_ended(made):
    """T5's rows stay as they are: its inputs end with </s>, its answers with another, in the decoder."""
    tokenizer = EncoderTokenizer(made("t5"))
    row = answer_row("x", INPUT, "the old bridge", tokenizer)
    start = row.labels.index(True)
    assert row.tokens[:start] == tokenizer(INPUT)["input_ids"]
    assert row.tokens[start - 1] == row.tokens[-1] == tokenizer.eos_token_id
    assert row.tokens[start:] == tokenizer("the old bridge")["input_ids"]
    assert not answers_changed(tokenizer)


def test_a_model_with_an_encoder_has_a_tokenizer_that_says_so(made, tmp_path):
    model = random_model("t5")
    model.config.save_pretrained(tmp_path)
    made("t5").save_pretrained(tmp_path)
    tokenizer = read_tokenizer(tmp_path)
    assert isinstance(tokenizer, EncoderTokenizer)
    again = pickle.loads(pickle.dumps(tokenizer))
    for one in (tokenizer, again):
        assert isinstance(one, EncoderTokenizer)
        assert one("A text")["input_ids"] == made("t5")("A text")["input_ids"]
        assert (len(one), one.eos_token_id) == (len(made("t5")), made("t5").eos_token_id)
    assert "t5" in ENCODER_DECODERS


def test_an_answer_that_the_tokenizer_joins_with_its_input_is_refused_by_name():
    """Without a split into words a merge may reach over the colon."""
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    inner.train_from_iterator(["Answer: 46"] * 40, trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, bos_token="<s>", eos_token="</s>")
    with pytest.raises(
        NotJointError,
        match=r"encodes the end of .*Answer:' differently when the answer '46' follows, as "
        r"'.*' becomes '.*46'; end the input with other characters",
    ):
        answer_row("x", INPUT, "46", tokenizer)
    assert answers_changed(tokenizer)
    task = Arithmetic(modules=("two_digit_addition",), train_examples=3)
    with pytest.raises(UserError, match=r"for train fits .*; the first left out is .* keeps words"):
        prepare(task, tokenizer, "merges")


def test_examples_whose_answer_cannot_be_joined_are_left_out_and_counted(tokenizer, tmp_path):
    """Here because an answer spells the end of sequence, at which it would end."""
    path = questions(tmp_path, lambda i: "see </s> here" if i == 5 else f"word {i}")
    task = Squad(data=str(path), train_examples=50, validation_examples=5, test_examples=5)
    prepared = prepare(task, tokenizer, "t")
    splits = (prepared.train, prepared.validation, prepared.test)
    assert sum(map(len, splits)) == 11
    assert prepared.notes["not_joint"] == prepared.dropped == 1
    path = questions(tmp_path, lambda i: f"see </s> here {i}")
    with pytest.raises(UserError, match=r"for train fits .*\('.*'\): the answer 'see </s> here \d+'"):
        prepare(Squad(data=str(path)), tokenizer, "t")


def test_an_answer_over_two_lines_is_trained_as_the_metric_reads_it(tokenizer, tmp_path):
    """Cut off at its line break a perfect model had exact match 0."""
    path = questions(tmp_path, lambda i: f"lines\n number  {i}" if i % 2 else f"two  spaces {i}")
    task = Squad(data=str(path), train_examples=50, validation_examples=5, test_examples=5)
    prepared = prepare(task, tokenizer, "t")
    assert prepared.notes["answers_respaced"] == 6
    assert "answers_not_regained" not in prepared.notes
    for split in (prepared.train, prepared.validation, prepared.test):
        for index in range(len(split)):
            row, answers = split.row(index), split.answers(index)
            written = tokenizer.decode([t for t, s in zip(row.tokens, row.scored, strict=True) if s])
            assert "\n" not in written
            assert task.score(written.partition("\n")[0].strip(), answers)["exact_match"] == 1
            cut = "\n" in answers[0]  # what would not be cut off stays as it is
            assert written == f" {' '.join(answers[0].split()) if cut else answers[0]}"
    assert task.fingerprint().endswith("-respaced")
    path = questions(tmp_path, lambda i: f"two  spaces {i}")
    assert "-" not in Squad(data=str(path)).fingerprint()


def test_answers_without_tokens_of_their_own_are_counted(made):
    """A tokenizer of few characters writes an unknown token, which nothing can be generated from."""
    inner = Tokenizer(models.WordLevel({"<unk>": 0, "<s>": 1, "</s>": 2, "Answer:": 3, "What": 4}, "<unk>"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner, unk_token="<unk>", bos_token="<s>", eos_token="</s>"
    )
    task = Arithmetic(
        modules=("two_digit_addition",), train_examples=3, validation_examples=2, test_examples=2
    )
    assert prepare(task, tokenizer, "few").notes["answers_not_regained"] == 7


@every_kind
def test_an_instruction_in_front_is_one_text_with_the_input(made, kind):
    """A tokenizer that marks a text's beginning has marked the input's: a space behind the line break."""
    tokenizer = made(kind)
    evaluator = Evaluator(
        None, tokenizer, Arithmetic(), EvaluationSpec(), in_front(tokenizer, "Write the year.")
    )
    row = evaluator.prefixed(answer_row("x", INPUT, "1862", tokenizer))
    between = "\n " if kind.startswith(("llama 2", "t5")) else "\n"
    joint = whole(tokenizer, f"Write the year.{between}{INPUT} 1862")
    assert row.tokens == [*joint, tokenizer.eos_token_id]


def test_a_text_in_front_that_merges_with_the_input_is_refused():
    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    trainer = trainers.BpeTrainer(
        vocab_size=400, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    inner.train_from_iterator(["\nWhat\nThe\n46"] * 40, trainer)
    with pytest.raises(UserError, match=r"encodes 'Say it\.' differently when 'What is"):
        in_front(PreTrainedTokenizerFast(tokenizer_object=inner), "Say it.")


@every_kind
def test_parts_are_those_of_the_characters(made, kind):
    task = Squad()
    context, question = "A bridge of 1862.", "Which year?"
    example = Example("x", f"{context}\nQuestion: {question}\nAnswer:", None, ("1862",), "bridges")
    tokenizer = made(kind)
    row = task.row(example, tokenizer)
    parts = parts_of(task, example, row, tokenizer)
    special = set(tokenizer.all_special_ids)
    words = {
        name: tokenizer.decode(
            [t for t, p in zip(row.tokens, parts, strict=True) if PARTS[p] == name and t not in special]
        )
        for name in PARTS
    }
    found = {name: "".join(text.split()) for name, text in words.items()}
    assert found == {
        "input": "Abridgeof1862.",
        "question": "Whichyear?",
        "answer": "1862",
        "template": "Question:Answer:",
    }


def test_every_chunk_of_a_document_begins_as_texts_do(made):
    document = "The old bridge was built in 1862. " * 20
    for kind in ("byte level, begun", "byte level, begun and ended", "llama 2, ended"):
        tokenizer = made(kind)
        found = chunks(tokenizer, document, 20)
        begin = tokenizer.bos_token_id
        assert all(chunk[0] == begin and len(chunk) <= 20 for chunk in found)
        rest = [token for chunk in found for token in chunk[1:]]
        assert rest == tokenizer(document, add_special_tokens=False)["input_ids"]
    plain = made("byte level, ended")
    found = [token for chunk in chunks(plain, document, 20) for token in chunk]
    assert found == plain(document, add_special_tokens=False)["input_ids"]
    task = Language(length=20)
    example = Example("d", document, None, (), "d")
    rows = task.rows(example, made("byte level, begun"))
    assert sorted(row.tokens for row in rows) == sorted(
        chunk for chunk in chunks(made("byte level, begun"), document, 20) if len(chunk) >= 16
    )


def test_reserved_tokens_are_told_by_their_names(made):
    tokenizer = byte_level()
    assert reserved(tokenizer) == frozenset()
    size = len(tokenizer)
    own = ["<unused0>", "[unused17]", "<|reserved_special_token_3|>", "<SPECIAL_20>", "[UNUSED_TOKEN_145]"]
    kept = ["<extra_id_0>", "<|im_start|>", "<mask>", "<|endoftext|>", "<repo_name>"]
    added = byte_level()
    added.add_special_tokens({"additional_special_tokens": [*own, *kept]})
    assert {added.convert_ids_to_tokens(i) for i in reserved(added)} == set(own)
    assert vocabulary_ids(added, 10**6) == [
        *range(size),
        *range(size + len(own), size + len(own) + len(kept)),
    ]
    assert vocabulary_ids(added, size - 1) == list(range(size - 1))


def test_tokens_beyond_the_table_are_refused():
    require_rows([3, 96], 97, "the texts")
    require_rows([], 97, "the texts")
    with pytest.raises(
        UserError, match="the texts have token 97, and the model's embedding table ends at 96"
    ):
        require_rows([3, 97], 97, "the texts")


def test_a_tokenizer_that_does_other_than_adding_is_refused(made):
    class Odd:
        bos_token_id, eos_token_id = 0, 1

        def __call__(self, _: str, add_special_tokens: bool = True) -> dict[str, list[int]]:
            return {"input_ids": [5, 6] if add_special_tokens else [7]}

    with pytest.raises(UserError, match=r"'a' is \[5, 6\] with them and \[7\] without"):
        around(Odd())


def test_an_encoder_and_its_decoder_get_what_they_were_trained_on(made):
    """In the host: the encoder reads up to </s>, the decoder is fed the answer and predicts </s> last."""
    host = EncoderDecoderLM(random_model("t5"), "x")
    tokenizer = EncoderTokenizer(made("t5"))
    row = answer_row("x", "a b", "c", tokenizer)
    from softprior.models.encoder_decoder import _Parts

    parts = _Parts.of(collate([row]), torch.device("cpu"))
    assert parts.inputs[0].tolist() == tokenizer("a b")["input_ids"]
    assert parts.answers[0].tolist() == tokenizer("c")["input_ids"]
    assert host.info().stack == "encoder"


def joining(*texts: str) -> PreTrainedTokenizerFast:
    """A tokenizer without words, which joins what it has seen often."""
    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    inner.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=["</s>"],
        show_progress=False,
    )
    inner.train_from_iterator(list(texts) * 40, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="</s>")


def test_a_text_in_front_that_merges_with_rare_words_is_refused() -> None:
    """No usual beginning of an input shows it: `Zeppelins` may be the first word of one."""
    with pytest.raises(UserError, match=r"tokens such as '\\nZe\w*' for a line break and the word"):
        in_front(joining("\nZeppelins"), "Say it.")
    assert in_front(joining("Zeppelins"), "Say it.")


def test_a_word_that_is_one_token_with_a_line_break_is_no_end_but_a_part_of_the_answer() -> None:
    tokenizer = joining("bridge\n", ".\n", "\nThe")
    ids = {text: tokenizer(text)["input_ids"] for text in ("bridge\n", ".\n", "\nThe", "\n", "bridge")}
    assert [len(ids[text]) for text in ("bridge\n", ".\n", "\nThe", "\n")] == [1] * 4
    stop = stopping(tokenizer, ("\n",))
    assert not stop & {*ids["bridge\n"], *ids["bridge"]}
    assert stop >= {*ids[".\n"], *ids["\nThe"], *ids["\n"], tokenizer.eos_token_id}

    class Says:
        """A host whose model answers `bridge` and then writes on."""

        info = tiny().host.info

        def generate(self, _, batch, **__):
            return [[*ids["bridge\n"], *ids["bridge"]]] * len(batch)

    class Split:
        """One example."""

        def input_row(self, _: int) -> Row:
            return Row("x", [1, 2], [False] * 2, [False] * 2)

        def answers(self, _: int) -> tuple[str, ...]:
            return ("bridge",)

        def __len__(self) -> int:
            return 1

    (answer,) = Evaluator(Says(), tokenizer, Squad(), EvaluationSpec(), [])._answers(None, Split())
    assert (answer.text, answer.metrics["exact_match"]) == ("bridge", 1.0)
    facts = TokenizerFacts.of(tokenizer)
    assert facts.breaks
    said = "words before line breaks in answers"
    assert said in facts.corrections(Squad(), trained=False)
    assert said not in facts.corrections(Language(), trained=False)
    assert not TokenizerFacts.of(joining(".\n", "\nThe")).breaks
