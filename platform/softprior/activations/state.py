"""Everything that is kept of one task: mergeable sums per site and token class, in memory and on disk."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NotRequired, TypedDict

import numpy as np
import torch
from jaxtyping import Float, Int
from safetensors import SafetensorError
from torch import Tensor

from softprior.errors import UserError
from softprior.results.files import write_atomically
from softprior.results.storage import Location, tensor_metadata
from softprior.results.tensor_files import open_tensors, save_tensors, without_digests
from softprior.statistics.keyed_sample import KeyedSample
from softprior.statistics.moments import RunningMoments, square_of, triangle_of
from softprior.statistics.norms import NormSketch

KEY = "softprior-partial"

TRIES, MOMENT = 3, 0.2
"""How often such a header is requested, and the seconds in between."""

Tensors = dict[str, Tensor]


class ClassState:
    """Sums over the vectors of one token class at one site."""

    def __init__(self, dimension: int, sample: int, exact: bool) -> None:
        self.moments = RunningMoments(dimension, exact)
        self.norms = NormSketch()
        self.sample = KeyedSample(sample)
        self.documents = 0
        self._seen: set[int] = set()

    def add(
        self,
        vectors: Float[Tensor, "N D"],
        norms: Float[Tensor, "N"],
        keys: np.ndarray,
        columns: dict[str, Int[Tensor, "N"]],
    ) -> None:
        """Adds N more vectors, none of which was added before."""
        self.moments.add(vectors)
        self.norms.add(norms)
        self.sample.add(keys, {**columns, "vectors": vectors})
        self._seen.update(columns["document"].tolist())

    def end_shard(self) -> None:
        """Counts the shard's documents, none of which is in another shard."""
        self.documents += len(self._seen)
        self._seen = set()

    def merge(self, other: ClassState) -> None:
        """Adds the sums of other shards."""
        self.moments.merge(other.moments)
        self.norms.merge(other.norms)
        self.sample.merge(other.sample)
        self.documents += other.documents


class SiteState:
    """Sums at one site: by token class and by group, and facts about texts.

    Attributes:
        group_sums: sums of the vectors of each group, sinks left out.
        group_counts: their number.
        sequences: a table with one row per text, see `Sequences`.
        paths: a table with one row per token, for all tokens of a few texts.
    """

    def __init__(self, dimension: int, sample: int, exact: bool, groups: int) -> None:
        self.dimension = dimension
        self.sample = sample
        self._exact = exact
        self.classes: dict[str, ClassState] = {}
        self.group_sums = torch.zeros(groups, dimension, dtype=torch.float64)
        self.group_counts = torch.zeros(groups, dtype=torch.int64)
        self.sequences: Tensors = {}
        self.paths: Tensors = {}

    def of(self, name: str) -> ClassState:
        """The sums of a token class, empty at first."""
        if name not in self.classes:
            self.classes[name] = ClassState(self.dimension, self.sample, self._exact)
        return self.classes[name]

    def add_groups(
        self, groups: Int[Tensor, "B"], sums: Float[Tensor, "B D"], counts: Int[Tensor, "B"]
    ) -> None:
        """Adds texts' sums and numbers of tokens to those of their groups."""
        self.group_sums.index_add_(0, groups, sums.double())
        self.group_counts.index_add_(0, groups, counts)

    def merge(self, other: SiteState) -> None:
        """Adds the sums of other shards."""
        for name, found in other.classes.items():
            self.of(name).merge(found)
        self.group_sums += other.group_sums
        self.group_counts += other.group_counts
        self.sequences = appended(self.sequences, other.sequences)
        self.paths = appended(self.paths, other.paths)


def appended(table: Tensors, rows: Tensors) -> Tensors:
    """A table with more rows; its columns have the same length."""
    if not table or not rows:
        return table or rows
    return {name: torch.cat([column, rows[name]]) for name, column in table.items()}


class ShardFacts(TypedDict):
    """What came of a shard.

    Attributes:
        texts, tokens: numbers of what was read.
        documents, skipped: numbers of documents, and of rows that were left out.
        reasons: why the first of these were left out.
        lost: what is wrong with damaged files.
        seconds: time spent on it.
    """

    texts: int
    tokens: int
    documents: int
    skipped: int
    reasons: list[str]
    lost: NotRequired[list[str]]
    seconds: NotRequired[float]


@dataclass
class TaskState:
    """What one worker has added up of a task.

    Attributes:
        name: of the task.
        sample: vectors kept of a class at a site.
        exact: products in float64.
        groups: names of the groups that get a mean of their own.
        shards: the shards in it, and the result of each.
    """

    name: str
    sample: int
    exact: bool
    groups: tuple[str, ...]
    sites: dict[str, SiteState] = field(default_factory=dict)
    shards: dict[str, ShardFacts] = field(default_factory=dict)

    def site(self, name: str, dimension: int) -> SiteState:
        """The sums at a site, empty at first."""
        if name not in self.sites:
            self.sites[name] = SiteState(dimension, self.sample, self.exact, len(self.groups))
        return self.sites[name]

    def end_shard(self, shard: str, facts: ShardFacts) -> None:
        """Notes that a shard is completely in it."""
        for site in self.sites.values():
            for found in site.classes.values():
                found.end_shard()
        self.shards[shard] = facts

    def save(self, path: Location) -> None:
        """Writes everything in one step; whoever reads finds the old state or this one."""
        tensors: Tensors = {}
        facts: dict[str, dict[str, object]] = {}
        for name, site in self.sites.items():
            classes: dict[str, dict[str, int]] = {}
            facts[name] = {"dimension": site.dimension, "classes": classes}
            for kind, found in site.classes.items():
                tensors |= _tensors(found, f"{name}/{kind}")
                classes[kind] = {
                    "count": found.moments.count,
                    "documents": found.documents,
                }
            tensors |= {f"{name}//sums": site.group_sums, f"{name}//counts": site.group_counts}
            tensors |= _prefixed(f"{name}//sequences", site.sequences)
            tensors |= _prefixed(f"{name}//paths", site.paths)
        header = json.dumps(
            {
                "task": self.name,
                "sample": self.sample,
                "exact": self.exact,
                "groups": self.groups,
                "shards": self.shards,
                "sites": facts,
            }
        )
        write_atomically(path, lambda temporary: save_tensors(tensors, temporary, {KEY: header}))


def _tensors(found: ClassState, prefix: str) -> Tensors:
    moments = found.moments.tensors(f"{prefix}/moments")
    moments[f"{prefix}/moments/scatter"] = triangle_of(moments[f"{prefix}/moments/scatter"])
    return {
        **moments,
        **found.norms.tensors(f"{prefix}/norms"),
        **found.sample.tensors(f"{prefix}/sample"),
    }


def _prefixed(prefix: str, tensors: Tensors) -> Tensors:
    return {f"{prefix}/{name}": tensor.contiguous() for name, tensor in tensors.items()}


@contextmanager
def _undamaged(path: Location) -> Iterator[None]:
    """Says in one sentence what is wrong with a file; torch and safetensors raise many errors."""
    try:
        yield
    except (SafetensorError, ValueError, LookupError, TypeError, RuntimeError, OSError) as error:
        raise UserError(f"{path} is damaged ({error}); remove it, and its shards are read again") from None


class Partial:
    """A state on disk, read site by site; in a bucket only its header is read."""

    def __init__(self, path: Location) -> None:
        """Reads the header.

        Raises:
            UserError: the file is damaged.
        """
        self.path = path
        with _undamaged(path):
            self._header = json.loads(_metadata(path)[KEY])
            if not all(isinstance(self._header[key], dict) for key in ("shards", "sites")):
                raise ValueError("its header lacks shards or sites")

    @property
    def shards(self) -> dict[str, ShardFacts]:
        """The shards in it, and the result of each."""
        shards: dict[str, ShardFacts] = self._header["shards"]
        return shards

    @property
    def task(self) -> str:
        return str(self._header["task"])

    @property
    def sites(self) -> list[str]:
        return list(self._header["sites"])

    def site(self, name: str) -> SiteState:
        """What it has of a site.

        Raises:
            UserError: the file is damaged.
        """
        with _undamaged(self.path):
            return self._site(name)

    def _site(self, name: str) -> SiteState:
        header, facts = self._header, self._header["sites"][name]
        state = SiteState(facts["dimension"], header["sample"], header["exact"], len(header["groups"]))
        assert isinstance(self.path, Path)
        with open_tensors(self.path) as file:
            tensors = {k: file.get_tensor(k) for k in file.keys() if k.startswith(f"{name}/")}  # noqa: SIM118
        for kind, counts in facts["classes"].items():
            found = state.of(kind)
            own = f"{name}/{kind}"
            if not tensors[f"{own}/moments/mean"].is_floating_point():
                raise ValueError(f"the mean of {own} has whole numbers")
            exact, size = header["exact"], header["sample"]
            scatter = f"{own}/moments/scatter"
            tensors[scatter] = square_of(tensors[scatter], state.dimension)
            found.moments = RunningMoments.from_tensors(tensors, f"{own}/moments", counts["count"], exact)
            found.norms = NormSketch.from_tensors(tensors, f"{own}/norms")
            found.sample = KeyedSample.from_tensors(tensors, f"{own}/sample", size)
            found.documents = counts["documents"]
        state.group_sums, state.group_counts = tensors[f"{name}//sums"], tensors[f"{name}//counts"]
        state.sequences = _within(tensors, f"{name}//sequences/")
        state.paths = _within(tensors, f"{name}//paths/")
        return state

    def load(self) -> TaskState:
        """All of it, to continue from."""
        header = self._header
        sites = {name: self.site(name) for name in self.sites}
        return TaskState(
            self.task, header["sample"], header["exact"], tuple(header["groups"]), sites, self.shards
        )


def _metadata(path: Location) -> dict[str, str]:
    """The metadata in the header of a safetensors file."""
    if isinstance(path, Path):
        with open_tensors(path) as file:
            return file.metadata()
    for attempt in range(TRIES):
        try:
            return without_digests(tensor_metadata(path))
        except (ValueError, OSError, UserError):  # its worker may be writing it anew
            if attempt == TRIES - 1:
                raise
            time.sleep(MOMENT)
    raise AssertionError("it is read or has failed")


def _within(tensors: Tensors, prefix: str) -> Tensors:
    return {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}


def merged_site(partials: Sequence[Partial], site: str) -> SiteState:
    """A site's sums over several workers' partial states, in the order of their first shards."""
    ordered = sorted(partials, key=lambda partial: min(partial.shards))
    found: Iterable[SiteState] = (partial.site(site) for partial in ordered if site in partial.sites)
    iterator = iter(found)
    whole = next(iterator)
    for other in iterator:
        whole.merge(other)
    return whole
