"""The forward passes over a shard, and which statistics see each of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor

from softprior.activations.collector import Collector
from softprior.activations.sequences import Sequences
from softprior.activations.texts import batches, key_of, shuffled
from softprior.models.protocol import SiteStatistic, Where
from softprior.tasks.prepared import Text


class TextPass(NamedTuple):
    """One batch.

    Attributes:
        collected: its tokens go into the sums.
        in_sequence: its texts' trajectories are measured.
    """

    texts: list[Text]
    collected: bool
    in_sequence: bool


def followed(texts: Sequence[Text], count: int) -> list[Text]:
    """The texts whose trajectories are measured: keyed, so that they do not depend on the order of texts."""
    return sorted((text for text in texts if len(text.tokens) > 2), key=lambda text: key_of(text.id))[:count]


def passes(
    texts: Sequence[Text], chosen: Sequence[Text], tokens: int, seed: int, keep_answer: bool = False
) -> Iterator[TextPass]:
    """The chosen texts, all others, and the chosen ones shuffled, in batches of limited numbers of tokens.

    Args:
        keep_answer: shuffle the rest alone, where a decoder reads the answer.
    """
    ids = {text.id for text in chosen}
    for is_chosen in (True, False):
        for batch in batches([text for text in texts if (text.id in ids) == is_chosen], tokens):
            yield TextPass(batch, collected=True, in_sequence=is_chosen)
    for batch in batches([shuffled(text, seed, keep_answer) for text in chosen], tokens):
        yield TextPass(batch, collected=False, in_sequence=True)


class Router:
    """A statistic for `FrozenLM.observe` that hands the states of a pass to those that need them."""

    def __init__(self, collector: Collector, sequences: Sequences) -> None:
        self._collector = collector
        self._sequences = sequences
        self._active: list[SiteStatistic] = []

    def begin(self, at: TextPass) -> None:
        """The pass that is observed next."""
        self._active = []
        if at.collected:
            self._collector.begin(at.texts)
            self._active.append(self._collector)
        if at.in_sequence:
            self._sequences.begin(at.texts, shuffled=not at.collected)
            self._active.append(self._sequences)

    def update(self, site: str, states: Float[Tensor, "N H"], where: Where) -> None:
        for statistic in self._active:
            statistic.update(site, states, where)
