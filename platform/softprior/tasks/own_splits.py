"""Divides a user's own rows so that no two splits share a group, an input or a context."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, NamedTuple, get_args

from softprior.tasks.base import SPLITS, Split
from softprior.tasks.partition import split_in_halves, split_in_order, split_of

LARGE = 1000
"""Number of sets from which hashes alone divide them well enough, so that added rows move none."""

Kind = Literal["group", "context", "input"]
"""The kind of what rows have in common."""

KINDS: tuple[Kind, ...] = get_args(Kind)

Key = tuple[str, str]
"""What rows have in common: of which kind, and which."""


class Understood(NamedTuple):
    """A row that can be used.

    Attributes:
        input: what the model reads.
        row: the columns that the input is composed of.
        answers: the accepted answers; the first is trained on.
        choices: the possible answers; empty where an answer may be anything.
        context: what the control swaps, if a column is named.
        group: as the row says, if a column is named.
        name: its id, if a column is named.
        values: the input, the context and the group with numbers in one form each, where that differs.
    """

    input: str
    row: Mapping[str, object]
    answers: tuple[str, ...]
    choices: tuple[str, ...]
    context: str | None
    group: str | None
    name: str | None
    values: Mapping[str, str] = {}

    def key(self, kind: Kind) -> str | None:
        """What rows must have alike to share it; None if the row has none."""
        return same(self.values.get(kind, getattr(self, kind)))

    def all_keys(self) -> tuple[Key, ...]:
        """What it may not share with rows of another split, whatever its case and spacing."""
        found = [(kind, self.key(kind)) for kind in KINDS]
        return tuple((kind, text) for kind, text in found if text is not None)

    @property
    def together(self) -> str:
        """What splits keep together: the group, or else the context, or else the row alone."""
        if self.group is not None:
            return self.group
        kind, text = self.all_keys()[0]
        return f"{kind} {hashlib.sha256(text.encode()).hexdigest()[:16]}"


def same(text: str | None) -> str | None:
    """What two copies of a text have in common, whatever their case and spacing."""
    return None if text is None else " ".join(text.casefold().split())


def divided(
    parts: Mapping[Split, Sequence[Understood]], notes: Counter[str]
) -> dict[Split, list[Understood]]:
    """The rows of each split.

    A single part is divided 80 : 10 : 10 by sets of rows that share anything, by the keyed hash of each set.
    Where there is a part to evaluate on, it is halved unless there are two, and what a row shares with a
    later split (test before validation before training) takes it out of the earlier one, counted in `notes`
    as `shared_group`, `shared_context` or `shared_input`.
    """
    found: dict[Split, list[Understood]] = {split: list(parts.get(split, ())) for split in SPLITS}
    named = [split for split in SPLITS if split in parts]
    if len(named) < len(SPLITS):
        whole = found[named[-1]]
        sets = connected(whole)
        distinct = set(sets)
        if named == ["train"]:
            large = len(distinct) >= LARGE
            places = {one: split_of(one) for one in distinct} if large else split_in_order(distinct)
        else:
            places = split_in_halves(distinct)
        for split in SPLITS if named == ["train"] else SPLITS[1:]:
            found[split] = [row for row, own in zip(whole, sets, strict=True) if places[own] == split]
    taken: set[Key] = set()
    for split in reversed(SPLITS):
        kept = []
        for row in found[split]:
            shared = next((kind for kind, text in row.all_keys() if (kind, text) in taken), None)
            if shared is None:
                kept.append(row)
            else:
                notes[f"shared_{shared}"] += 1
        found[split] = kept
        taken.update(key for row in kept for key in row.all_keys())
    return found


def _rank(key: Key) -> tuple[bool, Key]:
    return key[0] != "group", key


def connected(rows: Iterable[Understood]) -> list[str]:
    """For each row, the name of the set of rows that it shares something with, directly or through others.

    The name is the smallest group of its rows, or else the smallest of what they have, so it does not depend
    on their order, and a row that is added to a group does not change it.
    """
    parents: dict[Key, Key] = {}

    def root(key: Key) -> Key:
        while parents.setdefault(key, key) != key:
            parents[key] = parents[parents[key]]
            key = parents[key]
        return key

    firsts = []
    for row in rows:
        first, *others = row.all_keys()
        firsts.append(first)
        for other in others:
            one, two = sorted((root(first), root(other)), key=_rank)
            parents[two] = one
    return [" ".join(root(first)) for first in firsts]
