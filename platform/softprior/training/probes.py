"""The probes of a finished prompt, and the prompts that they suit; `prober` measures them.

They say what a prompt does without some of its vectors and as words, and who looks at it.

All but `attention` are of vectors that stand beside tokens' embeddings: those in front of the text at
block 0 that stay in the sequence (`soft`, and `deep` with `token_level: keep`, whose deeper vectors stay as
they are). Cut vectors enter through a norm and keys turn with their position, so no token is near them as
they are stored.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from softprior.inputs.specs import Probe, TrialSpec
from softprior.prompt import Place
from softprior.results.probed import Probed
from softprior.results.provenance import SOURCES
from softprior.results.records import Record

EXAMPLES = 64
"""Most test examples of a probe."""

DRAWS = 5
"""Draws of removed vectors, and of random tokens."""

SHARE = 4
"""The removal probe removes one vector in this many, and at least one."""

NEIGHBOURS = 10
"""The nearest token whose distance says how near a vector is to the vocabulary."""

PASSES: Mapping[Probe, int] = {
    "removal": 5 + DRAWS,
    "projection": 3 * (2 + DRAWS),
    "nearest": 0,
    "attention": 3,
}
"""Times that each example goes forward: losses of prompts, two more for each comparison, and attention with
the trained prompt, the untrained sample and none."""

ANY_PROMPT: frozenset[Probe] = frozenset({"attention"})
"""Probes that need no vectors beside embeddings."""

ELSEWHERE = (
    "no trained vectors are among the token embeddings; use the method soft, or deep with token_level: keep"
)
ALONE = "a prompt of one vector has none to remove; use more tokens"
ENCODED = "no prediction looks at an encoder's prompt itself; use a decoder-only model"


def probed_place(places: Iterable[Place]) -> Place | None:
    """The place whose vectors are probed, if there is one."""
    return next((p for p in places if p.block == 0 and p.kind == "residual" and p.after == "keep"), None)


def why_skipped(probe: Probe, places: Iterable[Place], count: int) -> str | None:
    """Why a probe means nothing for prompts of these places, with `count` vectors each; None if it does."""
    places = list(places)
    if probe in ANY_PROMPT:
        return ENCODED if any(place.stack == "encoder" for place in places) else None
    if probed_place(places) is None:
        return ELSEWHERE
    return ALONE if probe == "removal" and count < 2 else None


def probes_of(spec: TrialSpec) -> tuple[Probe, ...]:
    """The probes of a trial, each once; a baseline has no prompt."""
    return tuple(dict.fromkeys(spec.evaluation.probes)) if spec.training is not None else ()


def unprobed(spec: TrialSpec, record: Record) -> tuple[Probe, ...]:
    """The probes that a finished trial does not have yet."""
    have = {one.probe for one in record.probes if one.error is None}
    return tuple(probe for probe in probes_of(spec) if probe not in have)


def lost(probe: Probe, reason: str) -> Probed:
    """Stands for a result that could not be had."""
    return Probed(probe=probe, error=reason, sources=SOURCES)
