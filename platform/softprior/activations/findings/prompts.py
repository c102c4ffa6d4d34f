"""Followed prompts at one site: how many vectors stand there, and how large they are beside a text's tokens.

These vectors are not data: no other finding reads them and no claim is judged on them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from softprior.activations.prompts import PROMPT
from softprior.activations.texts import key_of
from softprior.results.numbers import Number, Numbers
from softprior.statistics.store import load_statistics, load_tables
from softprior.statistics.units import PROMPTS

MASSIVE = 10.0
"""From how many times the tokens' median norm on a vector counts as massive: what a run's `massive` is unless
it is changed. A store does not say what it was."""


class PromptFindings(Numbers):
    """The vectors of one prompt at one site.

    Attributes:
        vectors: number of vectors that stand there.
        cut: how many of these enter there and are cut after the block; the others travel from block 0.
        norm: median norm of those that travel; None without any, as are the next two.
        largest_norm: the largest.
        massive: number with a norm above `MASSIVE` times `token_norm`; None also where that is not known.
        cut_norm: median norm of those that are cut; None without any. It has no effect on the model, as the
            block's norm removes it, so the two kinds have numbers of their own.
    """

    vectors: int
    cut: int
    norm: Number
    largest_norm: Number
    massive: int | None
    cut_norm: Number


class SitePrompts(Numbers):
    """All prompts with vectors at one site.

    Attributes:
        prompts: by name.
        token_norm: the largest of the tasks' median norms of tokens there, sinks left out; None where the
            store has no norms.
    """

    prompts: dict[str, PromptFindings]
    token_norm: Number


@dataclass(frozen=True)
class PromptStates:
    """The vectors of one prompt at one site, in the order of the prompt, cut ones first.

    Attributes:
        vectors: one row per vector.
        cut: which are cut after the site's block; the others travel from block 0.
    """

    vectors: Float[Tensor, "N D"]
    cut: Bool[Tensor, "N"]


def prompt_states_of(store: Path, site: str) -> dict[str, PromptStates]:
    """The states of every prompt at a site, by name; stores keep all of them.

    Raises:
        UserError: the store has no prompts at the site, or the file is damaged.
    """
    found = load_statistics(store, PROMPTS, site, PROMPT, None)
    cut, position = found.facts["cut"] == 1, found.facts["position"]
    order = torch.from_numpy(np.lexsort((position.numpy(), ~cut.numpy())))
    states = {}
    for name in load_tables(store, PROMPTS, site).groups:
        own = order[found.facts["document"][order] == key_of(name)]
        states[name] = PromptStates(found.sample[own], cut[own])
    return states


def massive_vectors(states: PromptStates, token_norm: float | None) -> Bool[Tensor, "N"]:
    """Which vectors are massive beside the tokens at their site; none where the tokens' norm is not known."""
    limit = float("inf") if token_norm is None else MASSIVE * token_norm
    massive: Tensor = states.vectors.norm(dim=1) > limit
    return massive


def _quantile(norms: Float[Tensor, "N"], share: float) -> float | None:
    return float(norms.quantile(share)) if len(norms) else None


def prompt_findings(store: Path, site: str, token_norms: Iterable[float | None]) -> SitePrompts:
    """The numbers of all prompts at one site.

    Args:
        token_norms: median norms of the tasks' tokens there.

    Raises:
        UserError: as `prompt_states_of`.
    """
    known = max((norm for norm in token_norms if norm is not None), default=None)
    prompts = {}
    for name, states in prompt_states_of(store, site).items():
        norms, travels = states.vectors.double().norm(dim=1), ~states.cut
        counts = known is not None and bool(travels.any())
        prompts[name] = PromptFindings(
            vectors=len(norms),
            cut=int(states.cut.sum()),
            norm=_quantile(norms[travels], 0.5),
            largest_norm=_quantile(norms[travels], 1.0),
            massive=int((massive_vectors(states, known) & travels).sum()) if counts else None,
            cut_norm=_quantile(norms[states.cut], 0.5),
        )
    return SitePrompts(prompts=prompts, token_norm=known)
