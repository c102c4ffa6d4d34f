"""What runs in a Ray Data actor: one model, shard after shard, sums on disk after each."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import numpy as np
import torch
from safetensors import SafetensorError

from softprior.activations.collector import Collector, Medians, Sinks, base_sites, batch_of
from softprior.activations.folder import RunFolder
from softprior.activations.passes import Router, followed, passes
from softprior.activations.prompts import follow, followed_prompts, identities
from softprior.activations.sequences import Sequences
from softprior.activations.spec import ActivationsSpec
from softprior.activations.state import Partial, ShardFacts, TaskState
from softprior.activations.texts import Shard, Source, batches, sources
from softprior.assets import fingerprints
from softprior.assets.named import here
from softprior.assets.tokens import require_rows, vocabulary_ids
from softprior.errors import UserError, suggestion
from softprior.models.anchor import require_begins
from softprior.models.protocol import SiteStatistic
from softprior.prompt import Prompt
from softprior.results.files import write_json
from softprior.results.posteriors import load_posterior
from softprior.results.storage import local_copy, location
from softprior.statistics.keyed_sample import hash_keys
from softprior.statistics.units import PROMPTS, VOCABULARY
from softprior.tasks.parts import PARTS
from softprior.tasks.prepare import Text

ATTEMPTS = 2
"""How often a worker tries a shard that fails."""

CALIBRATION = 4096
"""Tokens of a task from which the median norm of each site is taken."""

REASONS = 3
"""Most malformed rows of a shard that are reported one by one."""

UNUSABLE = (OSError, SafetensorError, UserError)
"""What is raised on reading and writing in the results folder, a bucket's refusals included."""


class Worker:
    """Called by Ray Data with one shard at a time; returns what came of it."""

    def __init__(self, spec: str, identity: dict[str, str], folder: str) -> None:
        from softprior.models.load import load_local
        from softprior.training.threads import limit_threads

        self._spec = ActivationsSpec.model_validate_json(spec)
        limit_threads(self._spec.resources.cpus)
        loaded = load_local(self._spec.model)
        self._host, self._begins = loaded.host, loaded.tokenizer.bos_token_id
        self._vocabulary = vocabulary_ids(loaded.tokenizer, loaded.host.info().vocabulary)
        self._sources = sources(self._spec, loaded)
        self._folder = RunFolder(location(folder))
        self._name = uuid.uuid4().hex[:12]
        self._prompt = _prompt(self._spec)
        self._sites = _sites(self._spec, self._host.sites())
        self._bases = base_sites(self._host.sites())
        self._observed = list(
            dict.fromkeys(name for site in self._sites for name in (self._bases[site], site))
        )
        found = {"model": loaded.fingerprint}
        if self._spec.prompt is not None:
            found["prompt"] = fingerprints.of_file(here(self._spec.prompt))
        found |= identities(self._spec)
        found |= {f"data.{name}": source.fingerprint for name, source in self._sources.items()}
        changed = [name for name, value in found.items() if identity[name] != value]
        if changed:
            raise UserError(
                f"{changed[0]} changed after the run was planned, or this worker has other files or package "
                "versions; run the command again"
            )
        self._state: TaskState | None = None
        self._beat = 0.0
        self._done = 0

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, list[str]]:
        shards = [Shard(**json.loads(text)) for text in batch["shard"]]
        return {"result": [json.dumps(self._outcome(shard)) for shard in shards]}

    def _outcome(self, shard: Shard) -> dict[str, object]:
        """Reads a shard and returns its facts, or why reading it failed."""
        for attempt in range(1, ATTEMPTS + 1):
            try:
                known = self._covered(shard)
                if known is None:
                    state, known = self._read(shard)
                    with _of_the_folder():
                        state.save(self._folder.partial(state.name, self._name))
                return {"shard": shard.name, **known}
            except _FolderError as error:
                self._state = None
                what = "said" if isinstance(error.__cause__, UserError) else "disk"
                return {"shard": shard.name, "failed": str(error), what: True}
            except Exception as error:
                self._state = None  # it may have half of the shard in it; what was written has not
                if attempt == ATTEMPTS:
                    kind = "" if isinstance(error, UserError) else f"{type(error).__name__}: "
                    return {"shard": shard.name, "failed": f"{kind}{error}"}
        raise AssertionError("a shard is read or has failed")

    def _covered(self, shard: Shard) -> ShardFacts | None:
        """What came of a shard that a worker wrote before it died; nothing is counted twice."""
        with _of_the_folder():
            partials = self._folder.partials(shard.source)
        return next((p.shards[shard.name] for p in partials if shard.name in p.shards), None)

    def _read(self, shard: Shard) -> tuple[TaskState, ShardFacts]:
        """Adds the texts of a shard to this worker's state of the task."""
        started, spec = time.monotonic(), self._spec
        if shard.source == VOCABULARY:
            return self._read_vocabulary(shard)
        if shard.source == PROMPTS:
            prompts = followed_prompts(spec.prompts)
            state = follow(self._host, prompts, self._sites, spec.exact, self._begins)
            return state, state.shards[shard.name]
        source = self._sources[shard.source]
        reading = source.read(shard)
        state = self._load(source)
        sinks = Sinks(self._medians(source), spec.massive, self._bases)
        collector = Collector(state, self._sites, sinks, spec.seed)
        sequences = Sequences(state, self._sites, sinks, spec.seed)
        sequences.paths = frozenset(text.id for text in followed(reading.texts, shard.paths))
        observer = Router(collector, sequences)
        chosen = followed(reading.texts, shard.sequences)
        encoder = self._host.info().stack == "encoder"
        for at in passes(reading.texts, chosen, spec.batch_tokens, spec.seed, keep_answer=encoder):
            observer.begin(at)
            self._observe(shard, at.texts, observer)
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
        return state, facts

    def _read_vocabulary(self, shard: Shard) -> tuple[TaskState, ShardFacts]:
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
        return state, facts

    def _observe(self, shard: Shard, texts: list[Text], statistic: SiteStatistic) -> None:
        ids = (token for text in texts for token in text.tokens)
        require_rows(ids, self._host.info().vocabulary, f"the texts of {shard.source}")
        batch = batch_of(texts)
        require_begins(self._prompt, batch, self._begins)
        self._host.observe(self._prompt, batch, self._observed, statistic)
        self._done += sum(len(text.tokens) for text in texts)
        if time.monotonic() - self._beat > self._folder.pause:
            self._beat = time.monotonic()
            with suppress(*UNUSABLE):  # a display has no part in the result
                write_json(self._folder.beat(self._name), {"shard": shard.name, "tokens": self._done})

    def _load(self, source: Source) -> TaskState:
        """This worker's state of a task: in memory, on disk, or new. Only one is in memory at a time."""
        if self._state is None or self._state.name != source.name:
            path = self._folder.partial(source.name, self._name)
            spec = self._spec
            with _of_the_folder():
                if path.exists():
                    with local_copy(path) as file:
                        self._state = Partial(file).load()
                else:
                    self._state = TaskState(source.name, spec.sample, spec.exact, source.groups)
        return self._state

    def _medians(self, source: Source) -> dict[str, float]:
        """The median norm of each site, measured by the first worker that gets to the task."""
        path = self._folder.calibration(source.name)
        with _of_the_folder():
            measured = path.exists()
        if not measured:
            texts, count = [], 0
            for text in self._first_readable(source):
                texts.append(text)
                count += len(text.tokens)
                if count >= CALIBRATION:
                    break
            medians = Medians()
            sites = list(dict.fromkeys(self._bases[site] for site in self._sites))
            for some in batches(texts, self._spec.batch_tokens):
                batch = batch_of(some)
                require_begins(self._prompt, batch, self._begins)
                self._host.observe(self._prompt, batch, sites, medians)
            with _of_the_folder():
                write_json(path, medians.values())
        with _of_the_folder():
            values: dict[str, float] = json.loads(path.read_text(encoding="utf-8"))
        return values

    def _first_readable(self, source: Source) -> list[Text]:
        """Texts of the first shard that can be read: a damaged one is reported when its turn comes."""
        *others, last = source.shards(self._spec.shard_tokens)
        for shard in others:
            with suppress(Exception):
                return source.read(shard).texts
        return source.read(last).texts


class _FolderError(Exception):
    """The results folder cannot be read or written, which is no fault of the shard at hand."""


@contextmanager
def _of_the_folder() -> Iterator[None]:
    """Distinguishes errors of the results folder from those of the data being read."""
    try:
        yield
    except UNUSABLE as error:
        raise _FolderError(str(error)) from error


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
