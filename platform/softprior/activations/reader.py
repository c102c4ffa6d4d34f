"""Reads texts with the model: what it shows at its sites, added to the sums of a task."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from functools import partial
from threading import Lock
from typing import TYPE_CHECKING

import torch

from softprior.activations.collector import Collector, Medians, Sinks, base_sites, batch_of
from softprior.activations.passes import Router, followed, passes
from softprior.activations.prompts import follow, followed_prompts
from softprior.activations.sequences import Sequences
from softprior.activations.shards import Reading, Shard
from softprior.activations.spec import ActivationsSpec
from softprior.activations.state import ShardFacts, TaskState
from softprior.activations.texts import batches
from softprior.activations.turns import divided, in_turns
from softprior.assets.named import here
from softprior.assets.tokens import require_rows, vocabulary_ids
from softprior.errors import UserError, suggestion
from softprior.models.anchor import require_begins
from softprior.models.protocol import SiteStatistic
from softprior.prompt import Prompt
from softprior.results.posteriors import load_posterior
from softprior.statistics.keyed_sample import hash_keys
from softprior.statistics.units import VOCABULARY
from softprior.tasks.parts import PARTS
from softprior.tasks.prepared import Text

if TYPE_CHECKING:
    from softprior.models.load import Loaded

CALIBRATION = 4096
"""Tokens of a task from which the median norm of each site is taken."""

REASONS = 10
"""Most malformed rows of a shard that are reported one by one."""


class Reader:
    """A model with the sites that are asked for."""

    def __init__(self, spec: ActivationsSpec, loaded: Loaded, tell: Callable[[Shard, int], None]) -> None:
        """Finds the sites in the model.

        Args:
            tell: called with the shard and the number of tokens after each pass, by one thread at a time.

        Raises:
            UserError: the model lacks a site, or the prompt cannot be read.
        """
        self._spec, self._tell = spec, tell
        self._one_tells = Lock()
        self._measured = False
        self._host, self._begins = loaded.host, loaded.tokenizer.bos_token_id
        self._vocabulary = vocabulary_ids(loaded.tokenizer, loaded.host.info().vocabulary)
        self._prompt = _prompt(spec)
        self._sites = _sites(spec, self._host.sites())
        self._bases = base_sites(self._host.sites())
        self._observed = list(
            dict.fromkeys(name for site in self._sites for name in (self._bases[site], site))
        )

    def read(
        self, shard: Shard, reading: Reading, state: TaskState, medians: dict[str, float], started: float
    ) -> None:
        """Adds a shard to a task's sums.

        Args:
            reading: its texts.
            medians: of norms, by site.
            started: when its texts began to be read, see `time.monotonic`.
        """
        spec = self._spec
        info = self._host.info()
        chosen = followed(reading.texts, shard.sequences)
        cut = partial(passes, reading.texts, chosen, seed=spec.seed, keep_answer=info.stack == "encoder")
        made, lanes = divided(cut, spec.batch_tokens, info.lanes)
        if lanes > 1 and not self._measured:
            # A first pass measures the model, with all threads as in calibration, before others run.
            self._measured = True
            self._host.observe(self._prompt, batch_of(made[0].texts[:1]), self._observed, Medians())
        paths = frozenset(text.id for text in followed(reading.texts, shard.paths))
        routers = [self._router(state, medians, paths) for _ in range(lanes)]
        in_turns(made, routers, partial(self._observe, shard))
        facts: ShardFacts = {
            "texts": len(reading.texts),
            "tokens": sum(len(text.tokens) for text in reading.texts),
            "documents": len({text.document for text in reading.texts}),
            "skipped": len(reading.skipped),
            "reasons": reading.skipped[:REASONS],
            "lost": reading.lost,
            "seconds": round(time.monotonic() - started, 2),
        }
        state.end_shard(shard.name, facts)

    def read_prompts(self) -> TaskState:
        """The states at the positions of prompts."""
        prompts = followed_prompts(self._spec.prompts)
        return follow(self._host, prompts, self._sites, self._spec.exact, self._begins)

    def read_vocabulary(self, shard: Shard) -> TaskState:
        """The embedding of every token that may occur in a text, as if each were a text of its own."""
        info, spec = self._host.info(), self._spec
        state = TaskState(VOCABULARY, spec.sample, spec.exact, ())
        site = state.site("encoder.resid.0" if info.stack == "encoder" else "resid.0", info.hidden)
        for ids in torch.tensor(self._vocabulary).split(spec.batch_tokens):
            vectors = self._host.embed(ids)
            none = torch.full_like(ids, -1)
            columns = {
                "document": ids,
                "group": none,
                "token": ids,
                "position": none,
                "part": torch.zeros_like(ids),
            }
            keys = hash_keys(spec.seed, ids.numpy(), none.numpy())
            site.of(PARTS[0]).add(vectors, vectors.norm(dim=1).cpu(), keys, columns)
        number = len(self._vocabulary)
        facts: ShardFacts = {
            "texts": number,
            "tokens": number,
            "documents": number,
            "skipped": 0,
            "reasons": [],
        }
        state.end_shard(shard.name, facts)
        return state

    def medians(self, texts: Iterable[Text]) -> dict[str, float]:
        """The median norm of each site over the first texts."""
        chosen, count = [], 0
        for text in texts:
            chosen.append(text)
            count += len(text.tokens)
            if count >= CALIBRATION:
                break
        medians = Medians()
        sites = list(dict.fromkeys(self._bases[site] for site in self._sites))
        for some in batches(chosen, self._spec.batch_tokens):
            batch = batch_of(some)
            require_begins(self._prompt, batch, self._begins)
            self._host.observe(self._prompt, batch, sites, medians)
        return medians.values()

    def _router(self, state: TaskState, medians: dict[str, float], paths: frozenset[str]) -> Router:
        """What adds the states of passes, one after another, to the state of a task."""
        spec = self._spec
        sinks = Sinks(medians, spec.massive, self._bases)
        sequences = Sequences(state, self._sites, sinks, spec.seed)
        sequences.paths = paths
        return Router(Collector(state, self._sites, sinks, spec.seed), sequences)

    def _observe(self, shard: Shard, texts: list[Text], statistic: SiteStatistic) -> None:
        ids = (token for text in texts for token in text.tokens)
        require_rows(ids, self._host.info().vocabulary, f"the texts of {shard.source}")
        batch = batch_of(texts)
        require_begins(self._prompt, batch, self._begins)
        self._host.observe(self._prompt, batch, self._observed, statistic)
        with self._one_tells:
            self._tell(shard, sum(len(text.tokens) for text in texts))


def _prompt(spec: ActivationsSpec) -> Prompt | None:
    return None if spec.prompt is None else load_posterior(here(spec.prompt)).final


def _sites(spec: ActivationsSpec, known: tuple[str, ...]) -> list[str]:
    """The sites asked for, of those that the model has.

    Raises:
        UserError: one does not exist.
    """
    if spec.sites == "all":
        return list(known)
    if spec.sites == "residual":
        return [site for site in known if not site.startswith(("key.", "value."))]
    unknown = [site for site in spec.sites if site not in known]
    if unknown:
        raise UserError(f"the model has no site {unknown[0]}; {suggestion(unknown[0], list(known))}")
    return list(spec.sites)
