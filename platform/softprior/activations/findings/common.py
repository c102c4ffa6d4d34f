"""What several findings share: the token classes they read, and the documents of a sample."""

from __future__ import annotations

import torch
from jaxtyping import Int
from torch import Tensor

from softprior.statistics.store import SiteStatistics

ALL, SINKS, MEAN = "all", "sinks", "mean"
"""Token classes that are read; `mean` holds the means of texts."""

PERMUTATIONS = 999
"""Of the nulls, or more where there are many sites: p is then small enough to survive Holm's correction."""


def documents_of(found: SiteStatistics) -> Int[Tensor, "N"]:
    """The document of each sampled vector; of a store made from arrays every vector is its own."""
    return found.facts.get("document", torch.arange(len(found.sample)))
