"""What is kept of the states that a host hands over: sums by token class, never the states themselves."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from softprior.activations.state import SiteState, TaskState
from softprior.activations.texts import key_of
from softprior.models.protocol import Where
from softprior.prompt import Batch, Row, collate
from softprior.statistics.keyed_sample import hash_keys
from softprior.tasks.parts import ANSWER, PARTS, TEMPLATE
from softprior.tasks.prepared import Text

LAST, MEAN, SINKS = "last", "mean", "sinks"
"""Token classes beside the parts: a text's last token, its mean over tokens, and sinks and massive tokens."""


def batch_of(texts: Sequence[Text]) -> Batch:
    """Texts as a host reads them; the answer is labelled, as hosts with a decoder of their own need it."""
    return collate(
        [
            Row(text.id, text.tokens, answer, answer)
            for text in texts
            for answer in [[part == ANSWER for part in text.parts]]
        ]
    )


class _Tokens(NamedTuple):
    """Facts about the tokens that one stack reads of a batch, on the CPU."""

    rows: Int[Tensor, "N"]
    positions: Int[Tensor, "N"]
    parts: Int[Tensor, "N"]
    facts: dict[str, Int[Tensor, "N"]]
    keys: np.ndarray
    last: Int[Tensor, "R"]


class Medians:
    """The median norm of each site's tokens, the first of each text left out."""

    def __init__(self) -> None:
        self._norms: dict[str, list[Tensor]] = {}

    def update(self, site: str, states: Float[Tensor, "N H"], where: Where) -> None:
        norms = states.norm(dim=1)[~_first(site, where.positions)]
        self._norms.setdefault(site, []).append(norms.cpu())

    def values(self) -> dict[str, float]:
        """By site, those without such tokens left out."""
        norms = {site: torch.cat(parts) for site, parts in self._norms.items()}
        return {site: float(values.median()) for site, values in norms.items() if len(values)}


class Sinks:
    """Which tokens of the batch at hand are sinks: the first of a text, and those of a massive norm.

    Keys and values are those of the states at the input of their block, and `final` has those of the last
    block's output, whose norms its own norm has made equal.
    """

    def __init__(self, medians: dict[str, float], massive: float, bases: dict[str, str]) -> None:
        """Nothing observed yet.

        Args:
            medians: median norms of the bases.
            massive: how many times its site's median a massive norm is.
            bases: see `base_sites`.
        """
        self._medians = medians
        self._massive = massive
        self._bases = bases
        self._found: dict[str, Bool[Tensor, "N"]] = {}

    def __call__(self, site: str, norms: Float[Tensor, "N"], where: Where) -> Bool[Tensor, "N"]:
        base = self._bases[site]
        if base == site:
            first = _first(site, where.positions.to(norms.device))
            self._found[site] = first | (norms > self._massive * self._medians.get(site, math.inf))
        return self._found[base]


def _first(site: str, positions: Int[Tensor, "N"]) -> Bool[Tensor, "N"]:
    """Which tokens are the first that a stack reads; a decoder's first one is not text."""
    return torch.zeros_like(positions, dtype=torch.bool) if site.startswith("decoder.") else positions == 0


def base_sites(known: Sequence[str]) -> dict[str, str]:
    """For each site of a model the residual one whose sinks are its sinks; a pass meets that one first."""
    bases = {}
    for site in known:
        found = re.fullmatch(r"(\w+coder\.)?([a-z]+)\.?(\d*)", site)
        stack, kind, number = found.groups("")  # type: ignore[union-attr]
        own = [name for name in known if name.startswith(f"{stack}resid.")]
        bases[site] = own[-1] if kind == "final" else f"{stack}resid.{number}"
    return bases


class Collector:
    """A statistic for `FrozenLM.observe` that adds up into the state of a task.

    The task's template is a class of its own and counts in no mean of a text or group: it is not data.

    Before each batch `begin` takes its texts.
    """

    def __init__(self, state: TaskState, sites: Sequence[str], sinks: Sinks, seed: int) -> None:
        self._state = state
        self._sites = set(sites)
        self._sinks = sinks
        self._seed = seed
        self._texts: Sequence[Text] = ()
        self._tokens: dict[bool, _Tokens] = {}

    def begin(self, texts: Sequence[Text]) -> None:
        """The texts of the batch that is observed next, in its order."""
        self._texts = texts
        self._tokens = {}

    def update(self, site: str, states: Float[Tensor, "N H"], where: Where) -> None:
        norms = states.norm(dim=1)
        sink = self._sinks(site, norms, where)
        if site not in self._sites:
            return
        kept, norms = ~sink.cpu(), norms.cpu()
        tokens = self._facts(site, where)
        found = self._state.site(site, states.shape[1])
        for part, name in enumerate(PARTS):
            self._add(found, name, (kept & (tokens.parts == part)).nonzero()[:, 0], states, norms, tokens)
        self._add(found, SINKS, (~kept).nonzero()[:, 0], states, norms, tokens)
        last = tokens.last[kept[tokens.last]]
        self._add(found, LAST, last, states, norms, tokens)
        self._add_means(found, kept & (tokens.parts != TEMPLATE), states, tokens)

    def _add(
        self,
        found: SiteState,
        name: str,
        chosen: Int[Tensor, "M"],
        states: Float[Tensor, "N H"],
        norms: Float[Tensor, "N"],
        tokens: _Tokens,
    ) -> None:
        if not len(chosen):
            return
        vectors = states if len(chosen) == len(states) else states.index_select(0, chosen.to(states.device))
        keys = tokens.keys[chosen.numpy()]
        columns = {fact: values[chosen] for fact, values in tokens.facts.items()}
        found.of(name).add(vectors, norms[chosen], keys, columns)

    def _add_means(
        self, found: SiteState, kept: Bool[Tensor, "N"], states: Float[Tensor, "N H"], tokens: _Tokens
    ) -> None:
        """Means over a text's kept tokens, and sums over those of a group."""
        count = len(self._texts)
        where = kept.nonzero()[:, 0].to(states.device)
        numbers = torch.bincount(tokens.rows[kept], minlength=count)
        starts = (numbers.cumsum(0) - numbers).to(states.device)
        values = states.double() if self._state.exact else states
        # The sum of each text in one pass, without a copy of the tokens that count.
        sums = torch.nn.functional.embedding_bag(where, values, starts, mode="sum")
        some = numbers.nonzero()[:, 0]
        if not len(some):
            return
        means = sums[some.to(sums.device)] / numbers[some, None].to(sums)
        facts = {name: self._by_text(name)[some] for name in ("document", "group")}
        facts |= {"token": torch.full_like(some, -1), "position": torch.full_like(some, -1)}
        keys = hash_keys(self._seed, self._by_text("id")[some].numpy(), facts["position"].numpy())
        found.of(MEAN).add(means, means.norm(dim=1).cpu(), keys, facts)
        if self._state.groups:
            found.add_groups(facts["group"], sums[some.to(sums.device)].cpu(), numbers[some])

    def _by_text(self, name: str) -> Int[Tensor, "B"]:
        if name == "group":
            groups = self._state.groups
            return torch.tensor([groups.index(t.group) if groups else -1 for t in self._texts])
        return torch.tensor([key_of(getattr(text, name)) for text in self._texts])

    def _facts(self, site: str, where: Where) -> _Tokens:
        answers = site.startswith("decoder.")
        rows, positions = where.rows.cpu(), where.positions.cpu()
        known = self._tokens.get(answers)
        # A batch goes through a model in several parts where positions depend on the length of a text.
        if known is None or not (torch.equal(known.rows, rows) and torch.equal(known.positions, positions)):
            longest = max(len(text.tokens) for text in self._texts)
            padded = torch.tensor([text.parts + [0] * (longest - len(text.parts)) for text in self._texts])
            parts = torch.full_like(rows, ANSWER) if answers else padded[rows, positions]
            texts = self._by_text("id")
            facts = {
                "document": self._by_text("document")[rows],
                "group": self._by_text("group")[rows],
                "token": where.tokens.cpu(),
                "position": positions,
                "part": parts,
            }
            keys = hash_keys(self._seed, texts[rows].numpy(), positions.numpy())
            numbers = torch.bincount(rows, minlength=len(self._texts))
            ends = (numbers.cumsum(0) - 1)[numbers > 0]
            self._tokens[answers] = _Tokens(rows, positions, parts, facts, keys, ends)
        return self._tokens[answers]
