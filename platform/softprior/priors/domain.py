"""What a prior is fitted on: the vocabulary or a part of it, or activations of a task at a site."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import torch
from jaxtyping import Float, Int
from pydantic import Field, model_validator
from torch import Tensor

from softprior.assets import fingerprints
from softprior.assets.named import Named, here, here_with
from softprior.errors import UserError
from softprior.inputs.base import Spec
from softprior.priors.base import FitKey, Outline, PriorSource
from softprior.priors.cache import Fit, cached_fit
from softprior.prompt import Place, Shape
from softprior.results.storage import RemotePath
from softprior.seeding import torch_generator
from softprior.statistics.gaussian import Gaussian, fit_gaussian
from softprior.statistics.held_out import BLOCK, each_its_own, held_out_radii
from softprior.statistics.reference import Reference
from softprior.statistics.store import (
    RUN_PLAN,
    RUN_SUMMARY,
    SampleSize,
    SiteStatistics,
    find_statistics,
    load_statistics,
    sample_size,
    statistics_width,
)
from softprior.statistics.units import VOCABULARY

SAMPLE = 20_000
"""Vectors kept of a vocabulary where single ones are needed; the paper subsamples the same number."""


class Domain(Spec):
    """A set of real vectors. Without `statistics` it is the vocabulary.

    Attributes:
        statistics: a statistics store of activations (a folder, or s3://BUCKET/FOLDER), in place of the
            vocabulary.
        task: the task in the store; needed with `statistics`.
        site: the site in the store; null takes the place's own (`resid.L`, `key.L` or `value.L`).
        tokens: the token class in the store.
        part: the part of the vocabulary, by token id as shares from 0 to 1. Tokenizers number merged
            tokens by frequency, so [0, 0.5] are the more frequent half.
    """

    statistics: Named | None = None
    task: str | None = None
    site: str | None = None
    tokens: str = "all"
    part: tuple[Annotated[float, Field(ge=0, le=1)], Annotated[float, Field(ge=0, le=1)]] = (0.0, 1.0)

    @model_validator(mode="after")
    def _together(self) -> Domain:
        if (self.statistics is None) != (self.task is None):
            raise ValueError("statistics and task must be given together, or neither for the vocabulary")
        if self.statistics is None and (self.site is not None or self.tokens != "all"):
            raise ValueError("site and tokens select within statistics; leave them out without statistics")
        if self.statistics is not None and self.part != (0.0, 1.0):
            raise ValueError("part divides the vocabulary; leave it out with statistics")
        if self.part[0] >= self.part[1]:
            raise ValueError(f"part = {list(self.part)} is empty; the first share must be below the second")
        return self

    def contents(self) -> tuple[str, ...]:
        """Contents of the files it reads: all of a task's, as the site may depend on the place."""
        if self.statistics is None or self.task is None:
            return ()
        folder = self._store(self.task)
        found = [] if self.site else sorted((folder / self.task).glob("*.safetensors"))
        paths = found or [find_statistics(folder, self.task, self.site or "resid.0")]
        return tuple(f"{path.name} {fingerprints.of_file(path)}" for path in paths)

    def key(self, source: PriorSource) -> dict[str, object]:
        """What decides the vectors, for the cache of fits."""
        if self.statistics is None or self.task is None:
            return {"vectors": source.fingerprint, "part": list(self.part)}
        path = find_statistics(self._store(self.task), self.task, self.site or site_of(source.place))
        return {
            "statistics": fingerprints.of_file(path),
            "model": source.model,
            "tokens": self.tokens,
            "hidden": source.hidden,
            "view": source.view and source.fingerprint,  # what the model's dtype makes of the vectors too
        }

    def load(self, source: PriorSource) -> SiteStatistics:
        """The vectors' moments, and vectors themselves: all of a part of the vocabulary, some of a store.

        Of a source with a view they are of the vectors as it shows them, and of a store of its sample alone.

        Raises:
            UserError: the store does not have them, or they have another dimension than the place.
        """
        if self.statistics is None or self.task is None:
            vectors = source.vocabulary()
            return SiteStatistics.of(vectors[self._rows(len(vectors))])
        site = self.site or site_of(source.place)
        found = load_statistics(self._store(self.task), self.task, site, self.tokens, source.model)
        self._require_width(len(found.moments.mean), source)
        if not source.view:
            return found
        # Moments of what a norm makes of vectors do not follow from theirs, so only the sample is left.
        return found.of_sample(torch.arange(len(found.sample)), source.seen(found.sample))

    def check_outline(self, outline: Outline) -> None:
        """Whether there are vectors for the place, from the store's headers: see `Prior.check_outline`."""
        if self.statistics is None or self.task is None:
            self.known_vectors(outline)
            return
        site = self.site or site_of(outline.place)
        folder = self._store(self.task)
        self._require_width(statistics_width(folder, self.task, site, self.tokens, outline.model), outline)

    def work(self, place: Place, shape: Shape) -> dict[FitKey, float | None]:
        """The Gaussian of the domain: see `Prior.work`."""
        key = FitKey("gaussian", self.vectors(place), self.statistics is not None)
        width, tokens = shape.width(place), shape.vocabulary
        if width is None or tokens is None:
            return {key: None}
        share = self.part[1] - self.part[0] if self.statistics is None else 0.0  # a store has moments
        rows = share * vectors_at(place, tokens)
        # Moments of all vectors and radii of a sample, in float64, which takes twice as long.
        return {key: 2.0 * width**2 * (2 * rows + min(rows, SAMPLE))}

    def vectors(self, place: Place) -> str:
        """Names what the domain has at a place; equal where the vectors are."""
        if self.statistics is not None:
            return f"{self.statistics} {self.task} {self.tokens} {self.site or site_of(place)}"
        return f"{self.part} {'embeddings' if place.kind == 'residual' else place.name}"

    def kept_vectors(self, outline: Outline) -> SampleSize | None:
        """How many vectors its store keeps, of how many tokens; None for the vocabulary."""
        if self.statistics is None or self.task is None:
            return None
        site = self.site or site_of(outline.place)
        return sample_size(self._store(self.task), self.task, site, self.tokens, outline.model)

    def _store(self, task: str) -> Path:
        """The folder of the statistics; for a bucket a local copy of this task's and the vocabulary's."""
        assert self.statistics is not None
        if isinstance(self.statistics, RemotePath):
            _require_whole(self.statistics)
            return here_with(self.statistics / task, VOCABULARY).parent
        return here(self.statistics)

    def known_vectors(self, outline: Outline) -> int | None:
        """Number of vectors in a part of the vocabulary; None for a store, or where that is not known.

        Raises:
            UserError: too few for any fit.
        """
        if self.statistics is not None or outline.vocabulary is None:
            return None
        rows = self._rows(vectors_at(outline.place, outline.vocabulary))
        return int(rows.stop - rows.start)

    def _rows(self, count: int) -> slice:
        """The rows of the part, out of `count` tokens."""
        first, last = (round(share * count) for share in self.part)
        if last - first < 2:
            raise UserError(
                f"part = {list(self.part)} of {count} tokens contains {last - first}; a fit needs two"
            )
        return slice(first, last)

    def _require_width(self, dimension: int, source: PriorSource | Outline) -> None:
        if source.hidden is not None and dimension != source.hidden:
            raise UserError(
                f"the vectors of {self.task} at {self.site or site_of(source.place)} in {self.statistics} "
                f"have {dimension} dimensions, but the place {source.place.name} has {source.hidden}; choose "
                "a site of this width"
            )

    def name(self, place: Place) -> str:
        """For records: where the vectors are from."""
        if self.statistics is None:
            return (
                "vocabulary" if self.part == (0.0, 1.0) else f"vocabulary {self.part[0]:g}-{self.part[1]:g}"
            )
        return f"{self.task} {self.tokens} at {self.site or site_of(place)}"


@lru_cache
def _require_whole(store: RemotePath) -> None:
    """A run's store in a bucket appears file by file, so it counts when the run has written its summary.

    Raises:
        UserError: it has not.
    """
    run = store.parent
    if (run / RUN_PLAN).exists() and not (run / RUN_SUMMARY).exists():
        raise UserError(f"the activation run in {run} has not ended; run it to its end, then use {store}")


def vectors_at(place: Place, tokens: int) -> int:
    """Vectors of a vocabulary at a place: keys and values are made of at most `SAMPLE` tokens."""
    return tokens if place.kind == "residual" else min(tokens, SAMPLE)


def site_of(place: Place) -> str:
    """The site whose states a place's vectors join."""
    stack = "encoder." if place.stack == "encoder" else ""
    return f"{stack}{'resid' if place.kind == 'residual' else place.kind}.{place.block}"


class Shrinkage(Spec):
    """How a covariance is estimated.

    Attributes:
        shrinkage: `oas` estimates the weight of the scaled identity; a number in [0, 1] fixes it.
        jitter: variance added to every coordinate. The paper's code adds 1e-3, 9.9% of the fitted variance of
            a coordinate of SmolLM2's vocabulary (0.01014), which is no rounding matter; hence 0 unless asked
            for.
    """

    shrinkage: Literal["oas"] | Annotated[float, Field(ge=0, le=1)] = "oas"
    jitter: Annotated[float, Field(ge=0)] = 0.0


class FittedDomain(NamedTuple):
    """A Gaussian fitted to a domain.

    Attributes:
        reference: with radii that fresh vectors of the domain have as well.
        facts: source, counts, shrinkage, jitter, condition number; `dimension` and `effective_rank`
            (see `HeldOutRadii`), `median_distance` of a vector from the mean (Euclidean), and
            `radii_without`.
    """

    gaussian: Gaussian
    reference: Reference
    facts: dict[str, Any]


def fit_domain(domain: Domain, estimate: Shrinkage, source: PriorSource) -> FittedDomain:
    """Fits the Gaussian of a domain, once for all trials.

    Raises:
        UserError: the domain does not have the vectors, or their covariance is singular.
    """

    def build() -> Fit:
        data = domain.load(source)
        weight = None if estimate.shrinkage == "oas" else estimate.shrinkage
        fit = fit_gaussian(data.moments, weight, estimate.jitter)
        rows = sample_rows(len(data.sample), SAMPLE)
        if each_its_own(data):
            data = replace(data, sample=data.sample[rows], facts={})
            rows = torch.arange(len(rows))
        held = held_out_radii(data, fit)
        facts = {
            "source": domain.name(source.place),
            "documents": data.documents,
            "sinks": data.sinks,
            **fit.record(),
            "dimension": len(fit.gaussian.mean),
            "effective_rank": held.effective_rank,
            "median_distance": _median_distance(data),
            "radii_without": held.without,
        }
        radii = held.radii[rows].sort().values
        return Fit({"mean": fit.gaussian.mean, "factor": fit.gaussian.factor, "radii": radii}, facts)

    key = {**domain.key(source), **estimate.model_dump(mode="json", include={"shrinkage", "jitter"})}
    tensors, facts = cached_fit("gaussian", key, build, domain, estimate)
    gaussian = Gaussian(tensors["mean"], tensors["factor"])
    name = f"{facts['source']}{source.view and f', {source.view}'}"
    return FittedDomain(gaussian, Reference(gaussian, tensors["radii"], facts["radii_without"], name), facts)


def _median_distance(data: SiteStatistics) -> float:
    """Median Euclidean distance of the sampled vectors from the mean; in blocks, to keep no second copy."""
    blocks = data.sample.split(BLOCK)
    return float(torch.cat([(block - data.moments.mean).norm(dim=1) for block in blocks]).median())


def sampled(vectors: Float[Tensor, "N D"], count: int) -> Float[Tensor, "M D"]:
    """At most `count` of the vectors, drawn without repetition and always the same, in their own order."""
    return vectors if len(vectors) <= count else vectors[sample_rows(len(vectors), count)]


def sample_rows(number: int, count: int) -> Int[Tensor, "M"]:
    """At most `count` indices below `number`, always the same.

    In order, because a part of a vocabulary is a range of its token ids.
    """
    chosen = torch.randperm(number, generator=torch_generator(0, "fit sample"))[:count]
    return chosen.sort().values
