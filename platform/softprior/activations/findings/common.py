"""What several findings share: the token classes they read, and the documents of a sample."""

from __future__ import annotations

import torch
from jaxtyping import Int
from torch import Tensor

from softprior.statistics.store import SiteStatistics

ALL, SINKS, MEAN = "all", "sinks", "mean"
"""Token classes that are read; `mean` contains the means of texts."""

PERMUTATIONS = 999
"""Permutations for the nulls, or more for many sites: p can then be small enough for Holm's correction."""


def documents_of(found: SiteStatistics) -> Int[Tensor, "N"]:
    """The document of each sampled vector; of a store made from arrays every vector is its own."""
    return found.facts.get("document", torch.arange(len(found.sample)))
