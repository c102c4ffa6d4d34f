"""A 4-gram language model with interpolated Kneser-Ney smoothing: what `tiny` has to beat on text."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

DISCOUNT = 0.75
"""The usual absolute discount (Chen and Goodman 1999 find 0.7 to 0.8 for counts of this size)."""


class KneserNey:
    """P(token | the tokens before it), estimated on one sequence.

    The highest order uses counts, lower orders the number of distinct contexts a gram follows; each
    order gives a discount away to the next lower one, and the lowest mixes with the uniform
    distribution.
    """

    def __init__(self, tokens: Sequence[int], vocabulary: int, order: int = 4) -> None:
        self._order = order
        self._vocabulary = vocabulary
        grams: list[Counter[tuple[int, ...]]] = [Counter() for _ in range(order)]
        grams[-1].update(zip(*(tokens[i:] for i in range(order)), strict=False))
        for n in range(order - 1, 0, -1):
            # Continuation counts: in how many distinct larger grams this one is the end.
            grams[n - 1].update(gram[1:] for gram in grams[n])
        self._counts = grams
        self._totals: list[Counter[tuple[int, ...]]] = [Counter() for _ in range(order)]
        self._kinds: list[Counter[tuple[int, ...]]] = [Counter() for _ in range(order)]
        for n, counts in enumerate(grams):
            for gram, count in counts.items():
                self._totals[n][gram[:-1]] += count
                self._kinds[n][gram[:-1]] += 1

    def probability(self, context: tuple[int, ...], token: int) -> float:
        """P(token | context); at most order - 1 tokens of context are used."""
        probability = 1 / self._vocabulary
        for n in range(self._order):
            before = context[len(context) - n :] if n else ()
            if len(before) < n or not self._totals[n][before]:
                break
            count = self._counts[n][(*before, token)]
            total = self._totals[n][before]
            given_away = DISCOUNT * self._kinds[n][before] / total
            probability = max(count - DISCOUNT, 0) / total + given_away * probability
        return probability

    def loss(self, tokens: Sequence[int]) -> float:
        """Mean negative log-probability in nats over all tokens but the first."""
        total = 0.0
        for i in range(1, len(tokens)):
            total -= math.log(self.probability(tuple(tokens[max(0, i - self._order + 1) : i]), tokens[i]))
        return total / (len(tokens) - 1)
