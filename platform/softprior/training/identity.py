"""What decides a trial's result besides names and settings: files, and how the model's tokenizer writes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from softprior.assets import fingerprints
from softprior.assets.cache import cache_root, ensure
from softprior.assets.catalogue import catalogue
from softprior.assets.models import tokenizer_here
from softprior.priors import PRIORS, Prior
from softprior.regularisers import REGULARISERS, Regulariser
from softprior.specs import ModelSpec, TrialSpec
from softprior.tasks import Task
from softprior.tokens import answers_changed, around, reserved


def files_fingerprint(prior: Prior, regularisers: Sequence[Regulariser]) -> str | None:
    """Identifies the contents of all that a prior and regularisers read from files; None if they read none.

    Corrections that concern the trial count too: its parameters mean something else since.

    Raises:
        UserError: a file is missing or damaged.
    """
    corrections = prior.corrections(density=any(term.uses_density for term in regularisers))
    parts = [*prior.contents(), *(part for term in regularisers for part in term.contents()), *corrections]
    return fingerprints.combined(*parts) if parts else None


def found_files(trial: TrialSpec) -> str | None:
    """The fingerprint of what a trial's files hold now, for comparison with `prior_fingerprint`."""
    if trial.prior is None:
        return None
    prior = PRIORS[trial.prior.name].model_validate(trial.prior.params)
    terms = [REGULARISERS[e.name].model_validate(e.params) for e in trial.regularisers]
    return files_fingerprint(prior, terms)


class TokenizerFacts(NamedTuple):
    """In what a tokenizer's tokens differ from those of rows before format 3, which two texts made.

    Attributes:
        answers: whether rows with answers do: it ends texts, or marks their beginning.
        chunks: whether rows of running text do.
        reserved: tokens that stand for no text, which belonged to the vocabulary.
    """

    answers: bool = False
    chunks: bool = False
    reserved: int = 0

    @classmethod
    @lru_cache(maxsize=8)
    def of(cls, tokenizer: Any) -> TokenizerFacts:
        """The facts of a tokenizer."""
        chunks = tokenizer.bos_token_id in around(tokenizer).closing
        return cls(answers_changed(tokenizer), chunks, len(reserved(tokenizer)))

    def identity(self, task: Task, trained: bool) -> str | None:
        """What of it counts for a trial, for its id; None where nothing does.

        Args:
            trained: whether the trial starts from a prior, and so asks for the vocabulary.
        """
        joint = self.answers if task.generates else self.chunks
        parts = ["joint"] if joint else []
        parts += [f"less {self.reserved} reserved"] if trained and self.reserved else []
        return ", ".join(parts) or None


def tokenizer_facts(model: ModelSpec, fingerprint: str) -> TokenizerFacts:
    """The facts of a model's tokenizer, which is read once for each fingerprint.

    Where a hub model's tokenizer is neither here nor can be fetched, none are known; a trial then says so.

    Raises:
        UserError: the tokenizer is damaged.
    """
    if model.id in catalogue().models:
        return TokenizerFacts()  # none of them has any, and tests say so
    key = fingerprints.combined("tokenizer 1", f"transformers {version('transformers')}", fingerprint)
    tokenizer: Any = None

    def build(path: Path) -> None:
        path.write_text(json.dumps(TokenizerFacts.of(tokenizer)), encoding="utf-8")

    relative = f"tokenizers/{key[:16]}.json"
    if not (cache_root() / relative).exists():
        tokenizer = tokenizer_here(model)
        if tokenizer is None:
            return TokenizerFacts()
    return TokenizerFacts(*json.loads(ensure(relative, build).read_text(encoding="utf-8")))
