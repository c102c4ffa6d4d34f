"""The texts of a run: where they come from, in which batches they are read, and how they are shuffled."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache

from softprior.activations.file_texts import FileTexts
from softprior.activations.shards import Source
from softprior.activations.spec import ActivationsSpec
from softprior.activations.task_texts import Identified, TaskTexts
from softprior.seeding import derive, numpy_generator
from softprior.tasks import TASKS
from softprior.tasks.parts import ANSWER
from softprior.tasks.prepared import Text


def sources(spec: ActivationsSpec, loaded: Identified, where: str = "activations") -> dict[str, Source]:
    """The tasks and files of a spec by name.

    Raises:
        UserError: a task is unknown or its data is not available.
    """
    found: dict[str, Source] = {}
    for i, entry in enumerate(spec.tasks):
        task = TASKS.component(entry, where, f"tasks[{i}]")
        found[entry.name] = TaskTexts.of(task, entry.name, spec.split, spec.tokens, loaded)
    for files in spec.files:
        found[files.name] = FileTexts(files, loaded.tokenizer)
    return found


def key_of(name: str) -> int:
    """63 bits that identify a document or a text."""
    return _key(name)


@lru_cache(maxsize=4096)
def _key(name: str) -> int:
    return derive(0, "text", name)


def shuffled(text: Text, seed: int, keep_answer: bool = False) -> Text:
    """The text with all tokens but the first in another order; the first is a sink, whichever it is.

    Args:
        keep_answer: leave the answer as it is, which an encoder does not read.
    """
    moved = [i for i in range(1, len(text.tokens)) if not (keep_answer and text.parts[i] == ANSWER)]
    order = list(range(len(text.tokens)))
    for at, source in zip(moved, numpy_generator(seed, "shuffle", text.id).permutation(moved), strict=True):
        order[at] = int(source)
    return text._replace(tokens=[text.tokens[i] for i in order], parts=[text.parts[i] for i in order])


def batches(texts: Sequence[Text], tokens: int) -> Iterator[list[Text]]:
    """Batches of texts of similar length, each with at most this many tokens, pads included, or one text."""
    batch: list[Text] = []
    for text in sorted(texts, key=lambda text: (len(text.tokens), text.id)):
        if batch and (len(batch) + 1) * len(text.tokens) > tokens:
            yield batch
            batch = []
        batch.append(text)
    if batch:
        yield batch
