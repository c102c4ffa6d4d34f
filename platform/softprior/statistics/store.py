"""The statistics store: what is known of a model's activations, one safetensors file per task and site.

A store is a folder with `TASK/SITE.safetensors`. A file has, for each token class, the moments, some of the
vectors themselves, and, if the job made it, norms and what the vectors are; docs/activations.md lists the
tensors.
The header is one JSON object under the metadata key `softprior-statistics`: format, model fingerprint, task,
site, counts of tokens, documents and sinks per class, and which classes make up `all`; and the digests of
`softprior.results.tensor_files`.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import reduce
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from softprior.errors import UserError, suggestion
from softprior.results.files import write_atomically
from softprior.results.tensor_files import TensorFile, open_tensors, save_tensors
from softprior.statistics.header import DAMAGED, FORMAT, KEY, Header, header_of
from softprior.statistics.moments import DimensionMoments, Moments, square_of, triangle_of
from softprior.statistics.norms import NormSketch
from softprior.statistics.units import require_embeddings

RUN_PLAN, RUN_SUMMARY = "plan.json", "activations.json"
"""Files beside the store of an activation run: the first it writes, and the one for a complete store."""

CLASSES = ("mean", "scatter", "sample")
"""Tensors that every token class has."""


@dataclass(frozen=True)
class SiteStatistics:
    """Activations of one token class at one site on one task.

    Attributes:
        moments: of all tokens that count.
        documents: texts they come from; tokens of one text are not independent.
        sinks: attention sinks and massive tokens that were left out.
        sample: some of the vectors.
        facts: of every sampled vector, by name: `key`, `document`, `group`, `token`, `position`, `part`.
            Empty for statistics made from arrays, for which the next two are None.
        norms: of all tokens that count.
        dimensions: third and fourth moments of every dimension.
    """

    moments: Moments
    documents: int
    sinks: int
    sample: Float[Tensor, "N D"]
    facts: dict[str, Int[Tensor, "N"]] = field(default_factory=dict)
    norms: NormSketch | None = None
    dimensions: DimensionMoments | None = None

    @classmethod
    def of(cls, vectors: Float[Tensor, "N D"], documents: int | None = None) -> SiteStatistics:
        """Statistics of vectors that fit in memory; each its own document unless told otherwise."""
        moments = Moments.empty(vectors.shape[1]).update(vectors)
        return cls(moments, len(vectors) if documents is None else documents, 0, vectors.float())

    def of_sample(self, rows: Int[Tensor, "M"], vectors: Float[Tensor, "M D"]) -> SiteStatistics:
        """Sampled vectors as data of their own.

        Args:
            rows: of the sample.
            vectors: what these rows are, or what a block's norm makes of them.
        """
        facts = {name: column[rows] for name, column in self.facts.items()}
        if "document" in facts:
            documents = len(facts["document"].unique())
        else:  # without facts the documents are known to be the vectors, or not known
            alone = self.documents == self.moments.count
            documents = len(rows) if alone else min(self.documents, len(rows) - 1)
        moments = Moments.empty(vectors.shape[1]).update(vectors)
        return SiteStatistics(moments, documents, self.sinks, vectors.float(), facts)

    def merge(self, other: SiteStatistics, size: int) -> SiteStatistics:
        """Both classes together. They may share documents, so that `documents` is an upper bound.

        Args:
            size: most sampled vectors of a class that has keys.
        """
        sample, facts = _merged_sample(self, other, size)
        norms = None
        if self.norms is not None and other.norms is not None:
            norms = NormSketch()
            norms.merge(self.norms)
            norms.merge(other.norms)
        both = self.dimensions is not None and other.dimensions is not None
        return SiteStatistics(
            self.moments.merge(other.moments),
            self.documents + other.documents,
            min(self.sinks, other.sinks),
            sample,
            facts,
            norms,
            self.dimensions.merge(other.dimensions) if both else None,  # type: ignore[union-attr, arg-type]
        )


def _merged_sample(
    a: SiteStatistics, b: SiteStatistics, size: int
) -> tuple[Float[Tensor, "N D"], dict[str, Int[Tensor, "N"]]]:
    """The smallest keys of both, as many as a class keeps at most: a uniform sample of the union."""
    sample = torch.cat([a.sample, b.sample])
    if not a.facts or not b.facts:
        return sample, {}
    facts = {name: torch.cat([column, b.facts[name]]) for name, column in a.facts.items() if name in b.facts}
    kept = facts["key"].argsort()[:size]
    return sample[kept], {name: column[kept] for name, column in facts.items()}


@dataclass(frozen=True)
class Tables:
    """What a site's file has besides the token classes.

    Attributes:
        groups: the number of tokens and the mean of every group (an arithmetic module).
        sequences: one row per text: `text`, `document`, `shuffled`, `tokens`, `trace`, `step`, `answer`,
            `span`.
        paths: one row per token of a few whole texts: `text`, `position`, `token`, `part`, `vectors`.
    """

    groups: dict[str, tuple[int, Float[Tensor, "D"]]] = field(default_factory=dict)
    sequences: dict[str, Tensor] = field(default_factory=dict)
    paths: dict[str, Tensor] = field(default_factory=dict)


def save_statistics(
    folder: Path,
    task: str,
    site: str,
    model: str,
    classes: dict[str, SiteStatistics],
    merged: dict[str, list[str]] | None = None,
    tables: Tables | None = None,
    facts: Mapping[str, object] | None = None,
) -> Path:
    """Writes the file of one task and site; returns its path.

    Args:
        model: fingerprint of the model whose activations these are.
        classes: statistics by token class.
        merged: names of unions of disjoint classes, such as `all`, and the classes they are made of.
        facts: further JSON values for the header.

    Raises:
        UserError: a name is invalid, or a class has no vectors or some that are not finite.
    """
    path = site_path(folder, task, site)
    tables = tables or Tables()
    tensors: dict[str, Tensor] = {}
    counts = {}
    for name, value in classes.items():
        _require_finite(name, value)
        tensors |= {
            f"{_safe(name)}/mean": value.moments.mean,
            f"{name}/scatter": triangle_of(value.moments.scatter),
            f"{name}/sample": value.sample,
        }
        tensors |= {f"{name}/facts/{key}": column for key, column in value.facts.items()}
        tensors |= {} if value.norms is None else value.norms.tensors(f"{name}/norms")
        if value.dimensions is not None:
            tensors |= {f"{name}/m3": value.dimensions.m3, f"{name}/m4": value.dimensions.m4}
        counts[name] = {
            "tokens": value.moments.count,
            "documents": value.documents,
            "sinks": value.sinks,
        }
    tensors |= {f"//groups/{i}": mean for i, (_, mean) in enumerate(tables.groups.values())}
    tensors |= {f"//sequences/{name}": column for name, column in tables.sequences.items()}
    tensors |= {f"//paths/{name}": column for name, column in tables.paths.items()}
    header = {
        "format": FORMAT,
        "model": model,
        "task": task,
        "site": site,
        "classes": counts,
        "merged": merged or {},
        "groups": {name: count for name, (count, _) in tables.groups.items()},
        **(facts or {}),
    }
    text = json.dumps(header)
    owned = {name: tensor.contiguous().clone() for name, tensor in tensors.items()}
    write_atomically(path, lambda temporary: save_tensors(owned, temporary, {KEY: text}))
    return path


def _require_finite(name: str, value: SiteStatistics) -> None:
    parts = (value.moments.mean, value.moments.scatter, value.sample)
    if value.moments.count < 1 or len(value.sample) < 1 or not all(bool(p.isfinite().all()) for p in parts):
        raise UserError(
            f"the statistics '{name}' are of {value.moments.count} vectors, {len(value.sample)} of them "
            "sampled; they need at least one and finite numbers, so look for an overflow or an empty input"
        )


def load_statistics(folder: Path, task: str, site: str, tokens: str, model: str | None) -> SiteStatistics:
    """Reads the statistics of a token class at a site.

    Args:
        tokens: a token class, or several with `+` between them (`all+sinks`).
        model: fingerprint that the statistics must be of, in the units of its embeddings at block 0; None
            takes those of any model.

    Raises:
        UserError: there is no such file or class, it is damaged, or it is of another model.
    """
    path = find_statistics(folder, task, site)
    require_embeddings(path, known=model is not None)
    try:
        with open_tensors(path) as file:
            header = header_of(file.metadata(), path, model)
            found = [_read(file, path, name, header) for name in _classes(header, path, tokens)]
    except DAMAGED as error:
        raise _damaged(path, error) from None
    size = int(header.get("sample", max(len(one.sample) for one in found)))
    whole = reduce(lambda a, b: a.merge(b, size), found)
    return replace(whole, documents=min(whole.documents, int(header.get("documents", whole.documents))))


def load_tables(folder: Path, task: str, site: str) -> Tables:
    """Reads what a site's file has besides the token classes.

    Raises:
        UserError: there is no such file, or it is damaged.
    """
    path = find_statistics(folder, task, site)
    try:
        with open_tensors(path) as file:
            header = header_of(file.metadata(), path, None)
            names = list(file.keys())
            groups = {
                name: (int(count), file.get_tensor(f"//groups/{i}"))
                for i, (name, count) in enumerate(header["groups"].items())
            }
            rest = [
                {n.removeprefix(start): file.get_tensor(n) for n in names if n.startswith(start)}
                for start in ("//sequences/", "//paths/")
            ]
    except DAMAGED as error:
        raise _damaged(path, error) from None
    return Tables(groups, *rest)


def other_data(path: Path, task: str, identity: Mapping[str, str]) -> str | None:
    """In what a file of a run's store differs from the run; None if in nothing.

    Args:
        identity: fingerprints of the run's model, of its prompt and, as `data.TASK`, of data.

    Raises:
        UserError: it is damaged, or of another task or site.
    """
    try:
        with open_tensors(path) as file:
            header = header_of(file.metadata(), path, None)
    except DAMAGED as error:
        raise _damaged(path, error) from None
    # Older files do not name all three.
    if header["model"] != identity.get("model"):
        return "another model"
    if "data" in header and header["data"] != identity.get(f"data.{task}"):
        return "other data"
    if "prompt" in header and header["prompt"] != identity.get("prompt"):
        return "another prompt"
    return None


def token_classes(folder: Path, task: str, site: str) -> dict[str, int]:
    """The token classes of a file, and how many tokens each has.

    Raises:
        UserError: there is no such file, or it is damaged.
    """
    path = find_statistics(folder, task, site)
    try:
        with open_tensors(path) as file:
            classes = header_of(file.metadata(), path, None)["classes"]
            return {name: int(counts["tokens"]) for name, counts in classes.items()}
    except DAMAGED as error:
        raise _damaged(path, error) from None


def statistics_width(folder: Path, task: str, site: str, tokens: str, model: str | None) -> int:
    """Dimension of the vectors that `load_statistics` would read, from the file's header alone.

    Raises:
        UserError: as `load_statistics`, as far as the header says.
    """
    path = find_statistics(folder, task, site)
    require_embeddings(path, known=model is not None)
    try:
        with open_tensors(path) as file:
            first = _classes(header_of(file.metadata(), path, model), path, tokens)[0]
            return math.prod(file.shape(f"{first}/mean"))
    except DAMAGED as error:
        raise _damaged(path, error) from None


def _damaged(path: Path, error: Exception) -> UserError:
    return UserError(f"{path} is damaged or not a statistics file: {error}; make the statistics again")


class SampleSize(NamedTuple):
    """How many vectors a store keeps, and of how many tokens."""

    sample: int
    tokens: int


def sample_size(folder: Path, task: str, site: str, tokens: str, model: str | None) -> SampleSize:
    """The size of the sample that `load_statistics` would read, from the file's header alone.

    Raises:
        UserError: as `load_statistics`, as far as the header says.
    """
    path = find_statistics(folder, task, site)
    require_embeddings(path, known=model is not None)
    try:
        with open_tensors(path) as file:
            header, names = header_of(file.metadata(), path, model), set(file.keys())
            classes = _classes(header, path, tokens)
            sizes = [file.shape(f"{name}/sample")[0] for name in classes]
    except DAMAGED as error:
        raise _damaged(path, error) from None
    total = sum(int(header["classes"][name]["tokens"]) for name in classes)
    if len(classes) == 1 or any(f"{name}/facts/key" not in names for name in classes):
        return SampleSize(sum(sizes), total)
    return SampleSize(min(sum(sizes), int(header.get("sample", max(sizes)))), total)


def stored(folder: Path) -> dict[str, list[str]]:
    """The sites of every task of a store, in the model's order.

    Raises:
        UserError: there is no store.
    """
    if not folder.is_dir():
        raise UserError(
            f"there is no statistics store {folder}; it is a folder of TASK/SITE.safetensors, made by python "
            "-m jobs.activations"
        )
    tasks = sorted(path for path in folder.iterdir() if path.is_dir())
    return {task.name: sorted((p.stem for p in task.glob("*.safetensors")), key=site_order) for task in tasks}


KINDS = ("resid", "final", "key", "value")


def site_order(site: str) -> tuple[bool, int, int]:
    """Sorts sites as a pass through the model meets them: `resid.2` before `resid.10`, then `final`."""
    kind, _, number = site.removeprefix("encoder.").removeprefix("decoder.").partition(".")
    known = KINDS.index(kind) if kind in KINDS else len(KINDS)
    return site.startswith("decoder."), known, int(number) if number.isdecimal() else 0


def _classes(header: Header, path: Path, tokens: str) -> list[str]:
    """The stored classes that a name stands for, unions split up."""
    known, merged = header["classes"], header["merged"]
    found: list[str] = []
    for name in tokens.split("+"):
        if name not in known and name not in merged:
            raise UserError(f"{path} has no token class '{name}'; {suggestion(name, [*merged, *known])}")
        found += merged.get(name, [name])
    whole = {name for names in merged.values() for name in names} | ({"sinks", "template"} & set(known))
    if len(set(found)) < len(found) or (len(found) > 1 and not whole >= set(found)):
        raise UserError(
            f"'{tokens}' adds token classes that share tokens; add some of {', '.join(sorted(whole))}"
        )
    return found


def _read(file: TensorFile, path: Path, name: str, header: Header) -> SiteStatistics:
    counts, names = header["classes"][name], set(file.keys())
    mean, triangle, sample = (file.get_tensor(f"{name}/{part}") for part in CLASSES)
    width, count = len(mean), int(counts["tokens"])
    shapes = (tuple(triangle.shape), sample.shape[1:]) == ((width * (width + 1) // 2,), (width,))
    finite = all(bool(part.isfinite().all()) for part in (mean, triangle, sample))
    if count < 1 or len(sample) < 1 or not shapes or not finite:
        raise UserError(
            f"the statistics '{name}' in {path} are of {count} tokens and {len(sample)} sampled vectors"
            f"{'' if shapes else ' of other dimensions'}{'' if finite else ', not all finite'}; they need at "
            "least one token and a sample of finite vectors, so make them again"
        )
    moments = Moments(count, mean.double(), square_of(triangle, width))
    start = f"{name}/facts/"
    facts = {n.removeprefix(start): file.get_tensor(n) for n in names if n.startswith(start)}
    norms = dimensions = None
    if f"{name}/norms/bins" in names:
        own = {n: file.get_tensor(n) for n in names if n.startswith(f"{name}/norms/")}
        norms = NormSketch.from_tensors(own, f"{name}/norms")
    if f"{name}/m3" in names:
        higher = (file.get_tensor(f"{name}/m3"), file.get_tensor(f"{name}/m4"))
        dimensions = DimensionMoments(count, moments.mean, moments.scatter.diagonal().clone(), *higher)
    found = (int(counts["documents"]), int(counts["sinks"]))
    return SiteStatistics(moments, *found, sample.float(), facts, norms, dimensions)


def find_statistics(folder: Path, task: str, site: str) -> Path:
    """The file of a task and site.

    Raises:
        UserError: there is none; the sentence names what there is.
    """
    path = site_path(folder, task, site)
    if path.is_file():
        return path
    known = stored(folder)
    if known.get("store") == []:  # no task of that name, but a folder of tasks
        inner = folder / "store"
        raise UserError(f"{folder} is the folder of a run; its statistics are in {inner}, so give that")
    if not any(known.values()):
        raise UserError(
            f"the folder {folder} holds no statistics; give one of TASK/SITE.safetensors, made by python -m "
            "jobs.activations"
        )
    if task not in known:
        raise UserError(f"the statistics in {folder} have no task '{task}'; {suggestion(task, list(known))}")
    raise UserError(
        f"the statistics of {task} in {folder} have no site '{site}'; {suggestion(site, known[task])}"
    )


def site_path(folder: Path, task: str, site: str) -> Path:
    """The path of the file of a task and site."""
    return folder / _safe(task) / f"{_safe(site)}.safetensors"


def _safe(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}", name) or ".." in name:
        raise UserError(
            f"'{name}' is not the name of a task, site or token class: it may have letters, digits, '_', "
            "'-' and '.'"
        )
    return name
