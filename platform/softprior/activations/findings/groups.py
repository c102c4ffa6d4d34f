"""The groups of one task at one site (the modules of `arithmetic`)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int

from softprior.activations.findings.common import ALL, MEAN, PERMUTATIONS, documents_of
from softprior.results.numbers import Number, Numbers
from softprior.seeding import numpy_generator
from softprior.statistics.store import SiteStatistics, load_statistics, load_tables

EQUAL = 1e-6
"""Spread over the norm of the mean up to which tokens differ by float32's rounding alone."""


class GroupFindings(Numbers):
    """The groups of one task at one site (the modules of `arithmetic`).

    Attributes:
        names: of the groups.
        tokens: of each.
        distances: between the groups' mean tokens, over the root mean square distance of a token from the
            task's mean; none where all tokens are equal (one word as every answer, at a decoder's input).
        texts: sampled means of texts on which the following are based.
        share: of the variance of those means that lies between groups, in [0, 1].
        null: its mean with the groups of documents permuted.
        null_high: its 95% quantile there.
        p: share of permutations (the observed one included) that reach `share`.
        holm: the same, corrected over the task's sites.
        note: why numbers are None; empty if none is.
    """

    names: tuple[str, ...]
    tokens: tuple[int, ...]
    distances: tuple[tuple[float, ...], ...]
    texts: int = 0
    share: Number = None
    null: Number = None
    null_high: Number = None
    p: Number = None
    holm: Number = None
    note: str = ""


def group_findings(
    store: Path, task: str, site: str, seed: int, permutations: int = PERMUTATIONS
) -> GroupFindings | None:
    """How far the groups of a task lie apart at a site; None for a task without groups.

    Raises:
        UserError: the file is missing or damaged.
    """
    groups = load_tables(store, task, site).groups
    if len(groups) < 2:
        return None
    means = torch.stack([mean.double() for _, mean in groups.values()])
    moments = load_statistics(store, task, site, ALL, None).moments
    spread = float(moments.covariance().trace()) ** 0.5
    if spread <= EQUAL * float(moments.mean.norm()):
        tokens = tuple(count for count, _ in groups.values())
        return GroupFindings(names=tuple(groups), tokens=tokens, distances=(), note="all tokens are equal")
    # Differences, not products: means are far from the origin and close together.
    apart = (means[:, None] - means[None]).norm(dim=2) / spread
    found = GroupFindings(
        names=tuple(groups),
        tokens=tuple(count for count, _ in groups.values()),
        distances=tuple(map(tuple, apart.tolist())),
    )
    return _with_null(found, load_statistics(store, task, site, MEAN, None), seed, permutations)


def _with_null(found: GroupFindings, texts: SiteStatistics, seed: int, permutations: int) -> GroupFindings:
    labels = texts.facts.get("group", torch.zeros(0)).numpy()
    if len(np.unique(labels)) < 2:
        return found.amended(note="the sampled texts are of one group, or do not say of which")
    names, first, index = np.unique(documents_of(texts).numpy(), return_index=True, return_inverse=True)
    kinds, of_document = np.unique(labels[first], return_inverse=True)
    vectors = texts.sample.double().numpy()
    vectors -= vectors.mean(0)
    total = float((vectors**2).sum())
    if len(names) <= len(kinds) or total == 0:
        return found.amended(texts=len(vectors), note="the sampled texts are too few or all equal")

    def share(of_each: Int[np.ndarray, "G"]) -> float:
        members = np.eye(len(kinds))[of_each[index]].T
        sums = members @ vectors
        return float(((sums**2).sum(1) / np.maximum(members.sum(1), 1)).sum()) / total

    generator = numpy_generator(seed, "groups")
    observed = share(of_document)
    null = np.array([share(generator.permutation(of_document)) for _ in range(permutations)])
    return found.amended(
        texts=len(vectors),
        share=observed,
        null=float(null.mean()),
        null_high=float(np.quantile(null, 0.95)),
        # The same sums in another order differ by rounding.
        p=(1 + int((null >= observed - 1e-12).sum())) / (1 + permutations),
    )
