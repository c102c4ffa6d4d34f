"""Facts about whole texts: how far their tokens spread and step, and how close the answer's lie together."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from softprior.activations.collector import Sinks
from softprior.activations.state import SiteState, TaskState, appended
from softprior.activations.texts import key_of
from softprior.models.protocol import Where
from softprior.statistics.sequences import random_span, row_statistics
from softprior.tasks.parts import PARTS
from softprior.tasks.prepare import Text

_ANSWER = PARTS.index("answer")


class Sequences:
    """A statistic for `FrozenLM.observe` that notes a row of facts for every text of a batch.

    Rows have the text's key, `shuffled`, `tokens`, `trace`, `step`, and, of the answer and of a random
    span of the same length elsewhere in the text, `answer` and `span`: half the mean squared distance
    between two of their tokens. Sinks do not count.

    Attributes:
        paths: ids of texts whose states are kept whole, for figures.
    """

    def __init__(self, state: TaskState, sites: Sequence[str], sinks: Sinks, seed: int) -> None:
        self._state = state
        self._sites = set(sites)
        self._sinks = sinks
        self._seed = seed
        self._texts: Sequence[Text] = ()
        self._shuffled = False
        self.paths: frozenset[str] = frozenset()

    def begin(self, texts: Sequence[Text], shuffled: bool) -> None:
        """The texts of the batch that is observed next, in its order."""
        self._texts = texts
        self._shuffled = shuffled

    def update(self, site: str, states: Float[Tensor, "N H"], where: Where) -> None:
        if site.startswith("decoder."):
            return  # it reads answers alone
        kept = ~self._sinks(site, states.norm(dim=1), where)
        if site not in self._sites:
            return
        rows, count = where.rows.to(states.device), len(self._texts)
        whole = row_statistics(states, rows, kept, count)
        found = {
            "text": torch.tensor([key_of(text.id) for text in self._texts]),
            "shuffled": torch.full((count,), int(self._shuffled)),
            "tokens": whole.tokens,
            "trace": whole.trace,
            "step": whole.step,
        }
        for name, mask in zip(("answer", "span"), self._spans(where), strict=True):
            inside = mask.to(states.device) & kept
            found[name] = (
                torch.full((count,), float("nan"), dtype=torch.float64)
                if self._shuffled
                else row_statistics(states, rows, inside, count).trace
            )
        state = self._state.site(site, states.shape[1])
        state.sequences = appended(state.sequences, {k: v.cpu() for k, v in found.items()})
        if not self._shuffled:
            self._keep_paths(state, states, where, kept.cpu())

    def _spans(self, where: Where) -> tuple[Bool[Tensor, "N"], Bool[Tensor, "N"]]:
        """Which tokens are the answer's, and which a random span's among those before it but the first."""
        rows, positions = where.rows.cpu(), where.positions.cpu()
        first = torch.tensor([_answer_start(text) for text in self._texts])
        lengths = torch.tensor([text.parts.count(_ANSWER) for text in self._texts])
        keys = torch.tensor([key_of(text.id) for text in self._texts])
        start = 1 + random_span(first - 1, lengths, keys, self._seed)
        none = start == 0
        span = (positions >= start[rows]) & (positions < (start + lengths)[rows]) & ~none[rows]
        answer = (positions >= first[rows]) & (positions < (first + lengths)[rows])
        return answer, span

    def _keep_paths(
        self, state: SiteState, states: Float[Tensor, "N H"], where: Where, kept: Bool[Tensor, "N"]
    ) -> None:
        wanted = torch.tensor([text.id in self.paths for text in self._texts])
        rows, positions = where.rows.cpu(), where.positions.cpu()
        chosen = (wanted[rows] & kept).nonzero()[:, 0]
        if len(chosen):
            texts = torch.tensor([key_of(text.id) for text in self._texts])
            pairs = zip(rows[chosen].tolist(), positions[chosen].tolist(), strict=True)
            path = {
                "text": texts[rows[chosen]],
                "position": positions[chosen],
                "token": where.tokens.cpu()[chosen],
                "part": torch.tensor([self._texts[row].parts[position] for row, position in pairs]),
                "vectors": states[chosen.to(states.device)].cpu(),
            }
            state.paths = appended(state.paths, path)


def _answer_start(text: Text) -> int:
    return text.parts.index(_ANSWER) if _ANSWER in text.parts else len(text.parts)
