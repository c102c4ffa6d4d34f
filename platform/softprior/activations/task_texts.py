"""Texts of a task: the examples of one split, cut into shards by document."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from softprior.activations.shards import Reading, Shard
from softprior.assets.tokens import Tokenizer
from softprior.tasks import TASKS, Task
from softprior.tasks.base import Split
from softprior.tasks.notes import data_notes
from softprior.tasks.parts import TEMPLATE
from softprior.tasks.prepare import prepare
from softprior.tasks.prepared import PreparedSplit
from softprior.training.corrections import TokenizerFacts

MOST_GROUPS = 16
"""Most groups (modules, articles) of a task for which each gets a mean of its own."""


class Identified(Protocol):
    """A tokenizer and what identifies it, as `models.load.Loaded` has them."""

    @property
    def tokenizer(self) -> Tokenizer: ...

    @property
    def fingerprint(self) -> str: ...


@dataclass(frozen=True)
class TaskTexts:
    """Examples of a task's split, answer included, documents together.

    Attributes:
        order: indices of the examples within the budget of tokens.
    """

    name: str
    split: PreparedSplit
    order: tuple[int, ...]
    groups: tuple[str, ...]
    fingerprint: str
    notes: tuple[str, ...] = ()

    @classmethod
    def of(cls, task: Task, name: str, split: Split, budget: int | None, loaded: Identified) -> TaskTexts:
        """The task's first examples, as many as fit into the budget, and at least one."""
        whole = prepare(task, loaded.tokenizer, loaded.fingerprint)
        prepared: PreparedSplit = getattr(whole, split)
        count, total = 0, 0
        for length in prepared.lengths:
            total += length
            if budget is not None and total > budget and count:
                break
            count += 1
        documents = prepared.column("document")
        order = sorted(range(count), key=lambda index: documents[index])
        groups = tuple(sorted(set(prepared.column("group")[:count])))
        few = groups if 1 < len(groups) <= MOST_GROUPS else ()
        # Once the template was part of the input, and texts were not joined as they are now.
        marks = ["template"] if TEMPLATE in prepared.text(order[0]).parts else []
        corrections = TokenizerFacts.of(loaded.tokenizer).corrections(task, trained=False)
        found = "-".join([task.fingerprint(), *TASKS.origins(task), *marks, *corrections])
        return cls(name, prepared, tuple(order), few, found, tuple(data_notes(name, task, whole.look)))

    @property
    def density(self) -> float:
        return 1.0

    @property
    def longest(self) -> int:
        longest = max(self.order, key=self.split.lengths.__getitem__)
        return len(self.split.text(longest).tokens)  # without the token that only ends an answer

    def shards(self, tokens: int) -> list[Shard]:
        documents = self.split.column("document")
        cuts, filled = [0], 0
        for at, index in enumerate(self.order):
            new = at == 0 or documents[index] != documents[self.order[at - 1]]
            if filled >= tokens and new:
                cuts.append(at)
                filled = 0
            filled += self.split.lengths[index]
        ends = [*cuts[1:], len(self.order)]
        shards = []
        for number, (first, last) in enumerate(zip(cuts, ends, strict=True)):
            count = sum(self.split.lengths[index] for index in self.order[first:last])
            name = f"{self.name}-{number:05d}"
            shards.append(Shard(name, self.name, "", first, last, count, count // (last - first)))
        return shards

    def read(self, shard: Shard) -> Reading:
        return Reading([self.split.text(index) for index in self.order[shard.first : shard.last]], [], [])
