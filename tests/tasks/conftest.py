"""A small tokenizer trained on the spot, an empty cache, and documents."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

# A deadline would be a limit on wall-clock time, which says nothing on a shared machine.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

QUESTIONS = Path(__file__).parents[1] / "data" / "questions.json"


@pytest.fixture(autouse=True)
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("SOFTPRIOR_CACHE", str(folder))
    return folder


@pytest.fixture(scope="session")
def make_tokenizer() -> Callable[[bool], PreTrainedTokenizerFast]:
    """Byte-level BPE with an end-of-sequence token; with True, a text also begins with a token of its own."""
    text = QUESTIONS.read_text(encoding="utf-8")

    def make(begins: bool) -> PreTrainedTokenizerFast:
        inner = Tokenizer(models.BPE())
        inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        inner.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=600,
            special_tokens=["<s>", "</s>"],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        inner.train_from_iterator([text], trainer)
        if begins:
            inner.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
        return PreTrainedTokenizerFast(tokenizer_object=inner, bos_token="<s>", eos_token="</s>")

    return make


@pytest.fixture(scope="session")
def tokenizer(make_tokenizer) -> PreTrainedTokenizerFast:
    return make_tokenizer(False)


@pytest.fixture
def documents(tmp_path: Path) -> Path:
    """Forty JSON lines in C4's layout, each with a text of its own."""
    path = tmp_path / "documents.jsonl"
    lines = [
        {"text": " ".join(f"Sentence {i} of document {d} is short." for i in range(3 + d % 9)), "url": ""}
        for d in range(40)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path
