"""A soft prompt in front of texts as one table of embeddings per text, which inference servers take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from pydantic import ValidationError

from softprior.assets.tokens import asked
from softprior.errors import UserError
from softprior.exchange.convert import base_model
from softprior.exchange.embedded import Embedded
from softprior.inputs.entries import Entry
from softprior.models.anchor import require_begins
from softprior.models.load import load_local
from softprior.models.local import LocalLM
from softprior.prompt import Place, Row, collate
from softprior.results.posteriors import named_posterior
from softprior.results.storage import Location
from softprior.tasks import TASKS
from softprior.tasks.base import Task


def embed_texts(
    posterior: Location, texts: Sequence[str], model: str | None = None, *, scaled: bool = False
) -> list[Embedded]:
    """The final vectors of a soft prompt in front of each text's embeddings, or behind the first of them.

    A text is an input of the task that the prompt was trained for: of a chat, the user's turn. A prompt
    without a task, or with one that is unknown here, has the text as it is.

    Args:
        model: id or path of the model; by default the one that the posterior file names.
        scaled: accepts a model that multiplies its embeddings, where servers differ.

    Raises:
        UserError: the prompt is not a soft one of a decoder, a text is too long or empty or cannot be
            written as the task does, the model multiplies its embeddings, or texts do not begin with the
            token that the prompt is behind.
    """
    found = named_posterior(posterior)
    task = _task_of(found.header, posterior)
    spec, resolved = base_model(found.header, posterior, model)
    host, tokenizer, _ = load_local(spec)
    if not isinstance(host, LocalLM) or {place.in_front for place in found.final} != {Place(0)}:
        named = ", ".join(sorted(place.name for place in found.final))
        raise UserError(
            f"{posterior} has vectors at {named}, but a server takes only embeddings of the input; give a "
            "prompt of the method soft of a decoder-only model"
        )
    info, ((place, vectors),) = host.info(), found.final.items()
    if (host.scales_embeddings or info.embedding_factor != 1.0) and not scaled:
        raise UserError(
            f"the model family '{info.family}' multiplies its embeddings, and servers differ in whether they "
            "multiply those that they are given; once you know that yours takes what transformers takes as "
            "inputs_embeds, give --scaled"
        )
    if vectors.shape[1] != info.hidden:
        raise UserError(
            f"{posterior} has vectors of {vectors.shape[1]} numbers, but the model needs {info.hidden}; give "
            "the model that they were trained for"
        )
    made = []
    for text in texts:
        tokens = asked(tokenizer, text) if task is None else task.asked(text, tokenizer)
        if not tokens:
            raise UserError("a text is empty, and this tokenizer adds nothing to it; leave it out")
        if len(vectors) + len(tokens) >= info.positions:
            raise UserError(
                f"a text has {len(tokens)} tokens, which with {len(vectors)} vectors leave no room for an "
                f"answer in the model's {info.positions} positions; shorten it: {text[:40]!r}"
            )
        unlabelled = [False] * len(tokens)
        require_begins(
            found.final, collate([Row(text, tokens, unlabelled, unlabelled)]), tokenizer.bos_token_id
        )
        lead = int(place.placement == "after_bos")
        embedded = host.embed(torch.tensor(tokens)).cpu()
        whole = torch.cat([embedded[:lead], vectors, embedded[lead:]])
        known = (len(vectors), resolved.fingerprint, info.dtype, place.placement)
        made.append(Embedded(whole, text, tuple(tokens), *known))
    return made


def unknown_task(posterior: Location) -> str | None:
    """The name of the task that a prompt was trained for, if it is not installed here.

    Raises:
        UserError: as `embed_texts`.
    """
    entry = _entry_of(named_posterior(posterior).header, posterior)
    return None if entry is None or TASKS.kind(entry) is not None else entry.name


def _entry_of(header: Mapping[str, Any], posterior: Location) -> Entry | None:
    """The task of a posterior file's trial; None without one."""
    try:
        entry = (header.get("spec") or {}).get("task")
        return None if entry is None else Entry.model_validate(entry)
    except (AttributeError, ValidationError):
        raise UserError(
            f"{posterior} does not say in a readable form which task its prompt is for; take the file "
            "from its study again"
        ) from None


def _task_of(header: Mapping[str, Any], posterior: Location) -> Task | None:
    """The task, which writes its inputs; None where there is none, or one that is not installed."""
    entry = _entry_of(header, posterior)
    if entry is None:
        return None
    if TASKS.kind(entry) is None:
        if entry.params.get("template") == "chat":
            raise UserError(
                f"{posterior} is for chats of the task {entry.name}, which is not installed here, so that "
                "its inputs cannot be written; install it"
            )
        return None
    try:
        return TASKS.component(entry)
    except UserError as error:
        raise UserError(f"{posterior} is for a task that cannot be made here: {error}") from None
