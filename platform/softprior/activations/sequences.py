"""Facts about whole texts: how far their tokens spread and step, and how close the answer's lie together."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from softprior.activations.collector import Sinks
from softprior.activations.state import SiteState, TaskState, appended
from softprior.activations.texts import key_of
from softprior.models.protocol import Where
from softprior.seeding import derive
from softprior.statistics.sequences import random_span, row_statistics
from softprior.tasks.parts import ANSWER, TEMPLATE
from softprior.tasks.prepared import Text

SPANS = 8
"""Random spans of a text that its answer is compared with: one alone has as much noise as the answer."""


class Sequences:
    """A statistic for `FrozenLM.observe` that notes a row of facts for every text of a batch.

    Rows have the keys of the text and of its document, `shuffled`, `tokens` (those that count), `trace`,
    `step`, and, of the answer and of random spans of the same length before it, `answer` and `span`: half the
    mean squared distance between two of their tokens, for the spans their geometric mean. Sinks do not count,
    nor does the task's template, which is not data: a path ends there, and a span continues after it.

    Attributes:
        paths: ids of texts whose states are kept whole, for figures.
    """

    def __init__(self, state: TaskState, sites: Sequence[str], sinks: Sinks, seed: int) -> None:
        self._state = state
        self._sites = set(sites)
        self._sinks = sinks
        self._seed = seed
        self._texts: Sequence[Text] = ()
        self._parts = torch.zeros(0, 0, dtype=torch.long)
        self._shuffled = False
        self.paths: frozenset[str] = frozenset()

    def begin(self, texts: Sequence[Text], shuffled: bool) -> None:
        """The texts of the batch that is observed next, in its order."""
        self._texts = texts
        self._shuffled = shuffled
        longest = max(len(text.tokens) for text in texts)
        self._parts = torch.tensor([text.parts + [0] * (longest - len(text.parts)) for text in texts])

    def update(self, site: str, states: Float[Tensor, "N H"], where: Where) -> None:
        if site.startswith("decoder."):
            return  # it reads answers alone
        kept = ~self._sinks(site, states.norm(dim=1), where)
        if site not in self._sites:
            return
        data = self._parts[where.rows.cpu(), where.positions.cpu()] != TEMPLATE
        counted = kept & data.to(kept.device)
        rows, count = where.rows.to(states.device), len(self._texts)
        whole = row_statistics(states, rows, counted, count)
        found = {
            "text": torch.tensor([key_of(text.id) for text in self._texts]),
            "document": torch.tensor([key_of(text.document) for text in self._texts]),
            "shuffled": torch.full((count,), int(self._shuffled)),
            "tokens": whole.tokens,
            "trace": whole.trace,
            "step": whole.step,
        }
        found["answer"], found["span"] = self._answers(states, where, counted, data)
        state = self._state.site(site, states.shape[1])
        # Of a batch that goes through the model in several parts, these are the texts of one.
        here = torch.bincount(where.rows.cpu(), minlength=count) > 0
        state.sequences = appended(state.sequences, {k: v.cpu()[here] for k, v in found.items()})
        if not self._shuffled:
            self._keep_paths(state, states, where, kept.cpu())

    def _answers(
        self,
        states: Float[Tensor, "N H"],
        where: Where,
        counted: Bool[Tensor, "N"],
        data: Bool[Tensor, "N"],
    ) -> tuple[Float[Tensor, "R"], Float[Tensor, "R"]]:
        """Traces of the answers, and geometric means of those of random spans; nan where there is none."""
        count = len(self._texts)
        if self._shuffled:
            none = torch.full((count,), float("nan"), dtype=torch.float64)
            return none, none
        rows = where.rows.cpu()
        # Positions in the text without its template, so that a span of its data is a range of them.
        positions = _ranks(rows, data)
        first = torch.tensor([_answer_start(text) for text in self._texts])
        lengths = torch.tensor([text.parts.count(ANSWER) for text in self._texts])
        keys = torch.tensor([key_of(text.id) for text in self._texts])
        starts = [first]
        for number in range(SPANS):
            # Spans lie before the answer and leave the first token out, which is a sink.
            start = random_span(first - 1, lengths, keys, derive(self._seed, "span", number))
            starts.append(torch.where(start < 0, len(rows), 1 + start))
        chosen, owners = [], []
        for number, start in enumerate(starts):
            inside = (positions >= start[rows]) & (positions < (start + lengths)[rows]) & counted.cpu()
            chosen.append(inside.nonzero()[:, 0])
            owners.append(number * count + rows[inside])
        of, owner = torch.cat(chosen).to(states.device), torch.cat(owners).to(states.device)
        every = torch.ones_like(owner, dtype=torch.bool)
        traces = row_statistics(states[of], owner, every, (1 + SPANS) * count).trace.cpu().view(-1, count)
        spans = traces[1:]
        # The few spans of equal tokens have no logarithm; a text with no others keeps its zero.
        logs = torch.where(spans > 0, spans, torch.nan).log().nanmean(0)
        return traces[0], torch.where(logs.isnan(), spans.nanmean(0), logs.exp())

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
    """Number of tokens before the answer, those of the template left out."""
    end = text.parts.index(ANSWER) if ANSWER in text.parts else len(text.parts)
    return sum(part != TEMPLATE for part in text.parts[:end])


def _ranks(rows: Int[Tensor, "N"], counted: Bool[Tensor, "N"]) -> Int[Tensor, "N"]:
    """Rank of each token among the counted ones of its row, from 0; others have that of the one before."""
    before = counted.long().cumsum(0)
    starts = torch.ones_like(counted)
    starts[1:] = rows[1:] != rows[:-1]
    offset = (before - counted.long())[starts]
    return before - 1 - offset[starts.long().cumsum(0) - 1]
