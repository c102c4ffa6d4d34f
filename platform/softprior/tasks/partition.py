"""Assigns examples to splits, orders them, and swaps contexts between them.

Everything depends on keyed hashes of the examples' own texts, never on a generator's state or on the
order of a file, so the result is the same in every process and an added example moves few others.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import zip_longest
from typing import TypeVar

from softprior.seeding import derive
from softprior.tasks.base import SPLITS, Split

DATA_SEED = 20_241_218
"""Decides splits and orders of all tasks. No trial's seed enters, so all trials see the same examples."""

T = TypeVar("T")


def keyed_order(keys: Iterable[str], purpose: str) -> list[str]:
    """The distinct keys in an order that looks random and depends on nothing but each key itself."""
    return sorted(set(keys), key=lambda key: (derive(DATA_SEED, purpose, key), key))


def split_of(key: str) -> Split:
    """The split of a key by its hash alone: train, validation and test in proportions 80 : 10 : 10."""
    tenth = derive(DATA_SEED, "split", key) % 10
    return "train" if tenth < 8 else "validation" if tenth == 8 else "test"


def keys_for(counts: Mapping[Split, int]) -> int:
    """Average number of keys after which `split_of` has given every split its count."""
    return max(-(-counts["train"] * 10 // 8), 10 * counts["validation"], 10 * counts["test"])


def split_in_order(keys: Iterable[str]) -> dict[str, Split]:
    """80 : 10 : 10 by position in keyed order, with at least one key in every split.

    For collections so small that `split_of` could leave a split empty. There must be three keys.
    """
    ordered = keyed_order(keys, "split")
    tenth = max(1, round(len(ordered) / 10))
    return {
        key: "test" if i < tenth else "validation" if i < 2 * tenth else "train"
        for i, key in enumerate(ordered)
    }


def split_in_halves(keys: Iterable[str]) -> dict[str, Split]:
    """Validation and test in equal parts, by keyed order."""
    ordered = keyed_order(keys, "split")
    return {key: SPLITS[1 + i % 2] for i, key in enumerate(ordered)}


def round_robin(lists: Iterable[Iterable[T]]) -> list[T]:
    """The first of every list, then the second of every list, and so on; None is not an element."""
    return [value for rank in zip_longest(*lists) for value in rank if value is not None]


def donors(contexts: Sequence[str]) -> list[int] | None:
    """For every example, the index of another with a different context of about the same length.

    A control must not be recognisable by its length, so contexts are ordered by length and
    shifted. The shift is by the size of the largest group of equal contexts, which carries every
    example out of its group; each example then gives its context exactly once. Where one context
    belongs to more than half of the examples no such permutation exists, and givers repeat.

    Returns:
        None where all contexts are equal.
    """
    groups: dict[str, list[int]] = {}
    for index, context in enumerate(contexts):
        groups.setdefault(context, []).append(index)
    if len(groups) < 2:
        return None
    ordered = sorted(groups, key=lambda context: (len(context), derive(DATA_SEED, "control", context)))
    sequence = [index for context in ordered for index in groups[context]]
    shift = max(map(len, groups.values()))
    result = [0] * len(contexts)
    for position, index in enumerate(sequence):
        result[index] = sequence[(position + shift) % len(sequence)]
        if contexts[result[index]] == contexts[index]:
            others = [other for other in sequence if contexts[other] != contexts[index]]
            result[index] = others[position % len(others)]
    return result
