"""Corrections that affect only some models, known before a trial runs: they belong to the trial's id."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

from softprior.assets import fingerprints
from softprior.assets.architecture import Config
from softprior.assets.cache import cache_root, ensure
from softprior.assets.catalogue import catalogue
from softprior.assets.models import config_here, tokenizer_here
from softprior.assets.tokens import (
    Tokenizer,
    answers_changed,
    around,
    joins_words_and_breaks,
    reserved,
    spans_spaces,
)
from softprior.inputs.specs import ModelSpec
from softprior.methods import Method
from softprior.models.lengths import steady_length
from softprior.models.protocol import ModelInfo
from softprior.tasks import Task


class TokenizerFacts(NamedTuple):
    """How a tokenizer's tokens differ from those of rows before format 3, which were made of two texts.

    Attributes:
        answers: whether rows with answers differ: the tokenizer ends texts, or marks their beginning.
        chunks: whether rows of running text differ.
        reserved: tokens that stand for no text, which belonged to the vocabulary.
        end: the text of the end-of-sequence token. Rows whose answers contain it are now left out.
        breaks: whether a token has a word and the line break behind it. Such words were once lost at the ends
            of answers.
        spans: whether a token goes over the space in front of a word, so that a choice may have other tokens
            behind another text. Examples with such choices were once left out.
    """

    answers: bool = False
    chunks: bool = False
    reserved: int = 0
    end: str | None = None
    breaks: bool = False
    spans: bool = False

    @classmethod
    @lru_cache(maxsize=8)
    def of(cls, tokenizer: Tokenizer) -> TokenizerFacts:
        """The facts of a tokenizer."""
        chunks = tokenizer.bos_token_id in around(tokenizer).closing
        return cls(
            answers_changed(tokenizer),
            chunks,
            len(reserved(tokenizer)),
            tokenizer.eos_token,
            joins_words_and_breaks(tokenizer),
            spans_spaces(tokenizer),
        )

    def corrections(self, task: Task, trained: bool) -> Iterator[str]:
        """The part of it that concerns a trial.

        Args:
            trained: whether the trial starts from a prior, and so needs the vocabulary.
        """
        if self.answers if task.generates else self.chunks:
            yield "joint tokens"
        if self.end and task.spells(self.end):
            yield f"no answers with {self.end}"
        if self.breaks and task.new_tokens:
            yield "words before line breaks in answers"
        if self.spans and task.options():
            yield "choices with tokens of their own without the input"
        if trained and self.reserved:
            yield f"{self.reserved} reserved tokens left out"


class HostFacts(NamedTuple):
    """How passes of a model's family differ from those before rows were kept apart and scaled.

    Attributes:
        steady: longest sequence whose rotation is that of a short one; None where length does not matter.
            Longer rows once changed with the rows beside them.
        scaled: whether embeddings are multiplied before block 0, as cut prompts there once were not.
        blocks: number of blocks.
    """

    steady: int | None = None
    scaled: bool = False
    blocks: int = 0

    @classmethod
    def of_config(cls, config: Config) -> HostFacts:
        """The facts of a transformers config, which is available before the weights are."""
        if config.is_encoder_decoder:
            return cls()
        factor = getattr(config, "embedding_multiplier", 1.0)
        return cls(steady_length(config), factor != 1.0, config.num_hidden_layers)

    @classmethod
    def of(cls, info: ModelInfo) -> HostFacts:
        """The facts of a loaded model."""
        return cls(info.steady, info.embedding_factor != 1.0, info.blocks)

    def corrections(self, method: Method, task: Task) -> Iterator[str]:
        """The part of it that concerns a trial."""
        if self.steady is not None and _most_positions(method, task) > self.steady:
            yield f"rows of more than {self.steady} positions apart"
        places = method.places(self.blocks) if self.scaled and method.trained else ()
        if any(place.block == 0 and (place.kind != "residual" or place.after == "cut") for place in places):
            yield "scaled at block 0"


class ModelFacts(NamedTuple):
    """Everything from which corrections are decided."""

    tokenizer: TokenizerFacts = TokenizerFacts()
    host: HostFacts = HostFacts()

    @classmethod
    def of(cls, tokenizer: Tokenizer, info: ModelInfo) -> ModelFacts:
        """The facts of a loaded model."""
        return cls(TokenizerFacts.of(tokenizer), HostFacts.of(info))

    def corrections(self, method: Method, task: Task) -> tuple[str, ...]:
        """`TrialSpec.corrections` of a trial."""
        return (*self.tokenizer.corrections(task, method.trained), *self.host.corrections(method, task))


def model_facts(model: ModelSpec, fingerprint: str) -> ModelFacts:
    """The facts of a model without its weights, read once for each fingerprint.

    If a hub model's files are neither here nor can be fetched, none are known; a trial then says so.

    Raises:
        UserError: the tokenizer or the config is damaged.
    """
    asset = catalogue().models.get(model.id)
    if asset is not None:  # ordinary apart from this, and tests say so
        return ModelFacts(TokenizerFacts(end=asset.end, reserved=asset.reserved, spans=asset.spans))
    key = fingerprints.combined("facts 4", f"transformers {version('transformers')}", fingerprint)
    relative = f"tokenizers/{key[:16]}.json"
    found: ModelFacts | None = None

    def build(path: Path) -> None:
        path.write_text(json.dumps(found), encoding="utf-8")

    if not (cache_root() / relative).exists():
        tokenizer, config = tokenizer_here(model), config_here(model)
        if tokenizer is None or config is None:
            return ModelFacts()
        found = ModelFacts(TokenizerFacts.of(tokenizer), HostFacts.of_config(config))
    tokens, host = json.loads(ensure(relative, build).read_text(encoding="utf-8"))
    return ModelFacts(TokenizerFacts(*tokens), HostFacts(*host))


def _most_positions(method: Method, task: Task) -> float:
    """Most positions that a row of a trial can take: what precedes the text, the text, and the answer."""
    longest = task.longest()
    if longest is None:
        return float("inf")
    words = method.text(task.instruction)
    before = len(f"{words}\n".encode()) if words else 0  # a token has a byte at least
    return method.count() + before + longest + task.new_tokens
