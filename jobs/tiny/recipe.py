"""How `tiny` is trained: tokenizer, corpus and optimisation, from one seed."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from softprior.assets.tokens import Tokenizer
from softprior.prompt import Row
from softprior.seeding import derive, numpy_generator
from softprior.tasks.arithmetic import Arithmetic
from softprior.tasks.base import Example, Split, answer_row
from softprior.tasks.language import Language

SEED = 20_241_218
"""Decides the first weights and the batches."""

EOS = "<|endoftext|>"
VOCABULARY = 1024
"""Number of tokens."""

LENGTH = 192
"""Tokens of a row."""

BATCH = 32
"""Rows of a step."""

STEPS = 3000
"""Number of optimizer steps."""

RATE = 3e-3
"""AdamW's highest learning rate."""

WARMUP = 100
"""Steps in which the rate rises to it."""

TEXT_SHARE = 0.5
"""Share of the rows of a step that are text; the others are questions."""


def config() -> LlamaConfig:
    """A Llama with grouped-query attention, rotary positions and tied embeddings; 0.87 million weights."""
    return LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=128,
        intermediate_size=352,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=0,
        pad_token_id=None,
    )


def texts(split: Split) -> list[str]:
    """Wikipedia articles of one split of the platform's own task, so that tiny has not read what it tests."""
    return [Example.of(record).input for record in getattr(Language().splits(), split)]


def make_tokenizer(corpus: list[str]) -> PreTrainedTokenizerFast:
    """Byte-level BPE with every digit a token, so that numbers can be added column by column."""
    import tokenizers
    from tokenizers import decoders, models, pre_tokenizers, trainers

    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[EOS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(corpus, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=EOS, model_max_length=1024)


@dataclass(frozen=True)
class Sum:
    """Two addends and the task's own way to ask for their sum."""

    example: Example
    a: int
    b: int

    @classmethod
    def of(cls, example: Example) -> Sum:
        a, b = (
            int(word.strip("?")) for word in example.input.split("\n")[0].split() if word.strip("?").isdigit()
        )
        return cls(example, a, b)


ORDERS: dict[str, Callable[[Sum], int]] = {
    "Add.": lambda s: s.a + s.b,
    "First.": lambda s: s.a,
    "Second.": lambda s: s.b,
    "Larger.": lambda s: max(s.a, s.b),
    "Smaller.": lambda s: min(s.a, s.b),
}
"""What tiny can be told to do with two numbers. Without an order, it was never shown a sum."""


def sums(split: Split) -> list[Sum]:
    """All two-digit additions of one split of the platform's own task."""
    task = Arithmetic(
        modules=("two_digit_addition",),
        train_examples=10_000,
        validation_examples=10_000,
        test_examples=10_000,
    )
    return [Sum.of(Example.of(record)) for record in getattr(task.splits(), split)]


def ordered_row(order: str, item: Sum, tokenizer: Tokenizer) -> Row:
    """tiny's own training format: the order, a line break, and the platform's format; the right answer."""
    return answer_row(item.example.id, f"{order}\n{item.example.input}", str(ORDERS[order](item)), tokenizer)


def bare_row(order: str, item: Sum, tokenizer: Tokenizer) -> Row:
    """The platform's format with no order, answered as if the order had been given."""
    return answer_row(item.example.id, item.example.input, str(ORDERS[order](item)), tokenizer)


class Corpus:
    """Batches of half running text, half questions; the labels of questions are their answers."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        separator = [tokenizer.eos_token_id]
        articles = tokenizer(texts("train"))["input_ids"]
        self.text = np.concatenate([np.array(ids + separator) for ids in articles])
        train = sums("train")
        told = [ordered_row(order, item, tokenizer) for order in ORDERS for item in train]
        bare = [bare_row(order, item, tokenizer) for order in ORDERS if order != "Add." for item in train]
        self.add = told[: len(train)]
        self.other = told[len(train) :] + bare
        self.separator = separator

    def batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Tokens and labels (-100 where there is none), `[BATCH, LENGTH + 1]`."""
        random = numpy_generator(SEED, "tiny", "batches")
        while True:
            rows = [
                self._text(random) if i < BATCH * TEXT_SHARE else self._questions(random)
                for i in range(BATCH)
            ]
            tokens, labels = (torch.tensor(np.array(part)) for part in zip(*rows, strict=True))
            yield tokens, labels

    def _text(self, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        start = random.integers(len(self.text) - LENGTH - 1)
        window = self.text[start : start + LENGTH + 1]
        return window, window

    def _questions(self, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        tokens: list[int] = []
        labels: list[int] = []
        while len(tokens) <= LENGTH:
            pool = self.add if random.random() < 0.4 else self.other
            row = pool[random.integers(len(pool))]
            tokens += row.tokens
            labels += [token if label else -100 for token, label in zip(row.tokens, row.labels, strict=True)]
        return np.array(tokens[: LENGTH + 1]), np.array(labels[: LENGTH + 1])


def rate_at(step: int) -> float:
    """Linear warm-up, then cosine down to a tenth."""
    if step < WARMUP:
        return RATE * (step + 1) / WARMUP
    along = (step - WARMUP) / (STEPS - WARMUP)
    return RATE * (0.1 + 0.9 * (1 + math.cos(math.pi * along)) / 2)


def train(folder: Path, say: Callable[[str], None]) -> None:
    """Trains tiny and writes tokenizer and bfloat16 weights to a folder.

    Args:
        say: receives a line of progress every hundred steps.
    """
    tokenizer = make_tokenizer(texts("train"))
    corpus = Corpus(tokenizer)  # type: ignore[arg-type]  # its own types are wider
    with torch.random.fork_rng():
        torch.manual_seed(derive(SEED, "tiny", "weights"))
        model = LlamaForCausalLM(config())
    decayed = [p for p in model.parameters() if p.ndim == 2]
    plain = [p for p in model.parameters() if p.ndim < 2]
    groups = [{"params": decayed, "weight_decay": 0.1}, {"params": plain, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.98))
    for step, (tokens, labels) in zip(range(STEPS), corpus.batches(), strict=False):
        for group in optimizer.param_groups:
            group["lr"] = rate_at(step)
        logits = model(input_ids=tokens[:, :-1], use_cache=False).logits
        losses = functional.cross_entropy(
            logits.transpose(1, 2), labels[:, 1:], reduction="none", ignore_index=-100
        )
        half = int(BATCH * TEXT_SHARE)
        # Text and questions weigh the same, although questions have few labels.
        text, questions = losses[:half].mean(), losses[half:].sum() / (labels[half:, 1:] >= 0).sum()
        optimizer.zero_grad()
        (text + questions).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if step % 100 == 0 or step == STEPS - 1:
            say(f"step {step:5d} of {STEPS}: text {text.item():.3f}, questions {questions.item():.3f} nats")
    model.to(torch.bfloat16).save_pretrained(folder)  # type: ignore[arg-type]  # its decorator hides self
    tokenizer.save_pretrained(folder)
