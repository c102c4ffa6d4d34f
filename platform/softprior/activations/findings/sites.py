"""One task at one site."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from softprior.activations.findings.common import ALL, SINKS, documents_of
from softprior.activations.findings.radii import RadiiSpread, radii_spread
from softprior.errors import UserError
from softprior.statistics.fit_quality import HeldOutFit, held_out_fit
from softprior.statistics.sequences import TrajectorySummary, trajectory_summary, unigram_traces
from softprior.statistics.spectrum import participation_ratio, principal_components
from softprior.statistics.store import SiteStatistics, load_statistics, load_tables, token_classes
from softprior.statistics.unimodality import unimodality

COMPONENTS = 5
"""Principal components whose scores are tested for one mode."""

OUTLIER = 20.0
"""Excess kurtosis from which a dimension counts as an outlier; a Gaussian has 0, a Laplace distribution 3."""

MANY = 0.2
"""Share of the texts from which it is noted that they are left out."""


@dataclass(frozen=True)
class SiteFindings:
    """One task at one site. Sinks are left out of everything that does not name them.

    Attributes:
        tokens: of the class `all`.
        documents: those that the tokens come from.
        sinks: attention sinks and massive tokens.
        sink_share: of all tokens.
        norm: median norm; nan where the store has no norms, as are the next two.
        norm_95: 95% quantile.
        sink_norm: median norm of the sinks; nan without any.
        participation: participation ratio; nan where nothing varies.
        participation_with_sinks: the same of all tokens and sinks together.
        first_share: share of the variance along the first principal component.
        first_share_with_sinks: the same with sinks.
        kurtosis: largest excess kurtosis of a dimension; nan where the store has none.
        outlier_dimensions: dimensions whose excess kurtosis is above `OUTLIER`.
        dips: dip of the sample along the first components, largest variance first.
        dip_p: p-values of draws of one token per document, combined, not corrected.
        dip_p_low: the lowest p of a single draw, by component.
        dip_p_high: the highest.
        dip_vectors: vectors whose dips these are. At `resid.0` every token enters once: repeated tokens are
            equal vectors, and a dip test takes each group of them for a mode.
        dip_independent: vectors that the p-values are based on.
        trace: traces of texts over their null.
        trace_null: `shuffled`: the same texts with their words shuffled, run through the model.
            At `resid.0` shuffling changes no trace, so the null is `unigram`: as many independent draws of
            the task's tokens. Where positions are added to embeddings (GPT-2) it is `shuffled` there too.
        step: mean step lengths of texts over those of the same texts shuffled, at every site.
        unequal: texts that `trace` and `step` leave out, because more tokens are massive in one of their two
            runs than in the other.
        answer: trace of the answer's tokens over that of random spans of the same text. Spans have other
            tokens than the answer, so that a ratio may come from the words as well as from the model.
        fit: a Gaussian fitted on some documents of the sample, measured on the others.
        radii: how widely Mahalanobis radii of the sample spread, see `RadiiSpread`.
        notes: why numbers are nan, by name of the number.
    """

    tokens: int
    documents: int
    sinks: int
    sink_share: float
    norm: float
    norm_95: float
    sink_norm: float
    participation: float
    participation_with_sinks: float
    first_share: float
    first_share_with_sinks: float
    kurtosis: float
    outlier_dimensions: int
    dips: tuple[float, ...]
    dip_p: tuple[float, ...]
    dip_p_low: tuple[float, ...]
    dip_p_high: tuple[float, ...]
    dip_vectors: int
    dip_independent: int
    trace: TrajectorySummary
    trace_null: str
    step: TrajectorySummary
    unequal: int
    answer: TrajectorySummary
    fit: HeldOutFit
    radii: RadiiSpread
    notes: dict[str, str] = field(default_factory=dict)


def site_findings(store: Path, task: str, site: str, seed: int) -> SiteFindings:
    """The numbers of one task at one site.

    Raises:
        UserError: the store has no such file, it has no tokens but sinks, or it is damaged.
    """
    found = load_statistics(store, task, site, ALL, None)
    sinks = (
        load_statistics(store, task, site, SINKS, None) if SINKS in token_classes(store, task, site) else None
    )
    notes = {} if found.norms is not None else {"norm": "the store has no norms"}
    kurtosis = torch.zeros(0, dtype=torch.float64)
    if found.dimensions is not None:
        kurtosis = found.dimensions.kurtosis()
        kurtosis = kurtosis[kurtosis.isfinite()]
    if not len(kurtosis):
        notes["kurtosis"] = "no dimension has fourth moments or varies"
    components = principal_components(found.moments, min(COMPONENTS, len(found.moments.mean)))
    both = found.moments if sinks is None else found.moments.merge(sinks.moments)
    with_sinks = components if sinks is None else principal_components(both, 1)
    embedded = _embedded(found, site)
    dip_vectors = dip_independent = 0
    dips: tuple[float, ...] = ()
    dip_p: tuple[float, ...] = ()
    dip_p_low: tuple[float, ...] = ()
    dip_p_high: tuple[float, ...] = ()
    try:
        tests = unimodality(found.sample, components.directions, documents_of(found), seed, embedded)
        dips, dip_p, dip_p_low, dip_p_high = (
            tuple(values.tolist()) for values in (tests.dips, tests.p, tests.p_low, tests.p_high)
        )
        dip_vectors, dip_independent = tests.vectors, tests.independent
    except UserError as error:
        notes["dips"] = str(error)
    covariance = found.moments.covariance()
    trace, step, answer, unequal = _trajectories(
        found, load_tables(store, task, site).sequences, embedded, seed
    )
    if unequal > MANY * (unequal + step.texts + step.left_out):
        notes["unequal"] = "many texts are left out of trace and step: the rest may differ from them"
    count = found.moments.count
    sink_count = 0 if sinks is None else sinks.moments.count
    return SiteFindings(
        tokens=count,
        documents=found.documents,
        sinks=sink_count,
        sink_share=sink_count / (count + sink_count),
        norm=_quantile(found, 0.5),
        norm_95=_quantile(found, 0.95),
        sink_norm=math.nan if sinks is None else _quantile(sinks, 0.5),
        participation=participation_ratio(covariance),
        participation_with_sinks=participation_ratio(both.covariance()),
        first_share=float(components.shares[0]),
        first_share_with_sinks=float(with_sinks.shares[0]),
        kurtosis=float(kurtosis.max()) if len(kurtosis) else math.nan,
        outlier_dimensions=int((kurtosis > OUTLIER).sum()),
        dips=dips,
        dip_p=dip_p,
        dip_p_low=dip_p_low,
        dip_p_high=dip_p_high,
        dip_vectors=dip_vectors,
        dip_independent=dip_independent,
        trace=trace,
        trace_null="unigram" if embedded else "shuffled",
        step=step,
        unequal=unequal,
        answer=answer,
        fit=held_out_fit(found.sample, documents_of(found), seed),
        radii=radii_spread(found, seed),
        notes=notes,
    )


def _embedded(found: SiteStatistics, site: str) -> bool:
    """Whether a token's vector there is the same wherever the token occurs.

    Not so where positions are added to embeddings: equal tokens then have several vectors.
    """
    if site.removeprefix("encoder.").removeprefix("decoder.") != "resid.0":
        return False
    tokens = found.facts.get("token")
    return tokens is None or len(found.sample.unique(dim=0)) <= len(tokens.unique())


def _quantile(found: SiteStatistics, share: float) -> float:
    return math.nan if found.norms is None else found.norms.quantile(share)


def _trajectories(
    found: SiteStatistics, rows: Mapping[str, Tensor], embedded: bool, seed: int
) -> tuple[TrajectorySummary, TrajectorySummary, TrajectorySummary, int]:
    """`trace`, `step`, `answer` and `unequal` of a table with one row per text."""
    if not rows:
        none = TrajectorySummary(note="no text was read whole")
        return none, none, none, 0
    if "document" not in rows:
        none = TrajectorySummary(
            note="the store does not say which texts share a document; run the job again"
        )
        return none, none, none, 0
    # Workers write in any order, and results must not depend on it.
    order = np.lexsort((rows["shuffled"].numpy(), rows["text"].numpy()))
    rows = {name: column[torch.from_numpy(order)] for name, column in rows.items()}
    own = {name: column[rows["shuffled"] == 0] for name, column in rows.items()}
    observed, null, unequal = _with_their_null(rows)
    traces = null["trace"]
    if embedded:
        whole = float(found.moments.covariance().trace())
        traces = unigram_traces(found.sample, whole, observed["tokens"], seed)
    return (
        trajectory_summary(observed["trace"], traces, observed["document"], seed),
        trajectory_summary(observed["step"], null["step"], observed["document"], seed),
        trajectory_summary(own["answer"], own["span"], own["document"], seed),
        unequal,
    )


def _with_their_null(rows: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor], int]:
    """The rows of texts that were read both as they are and shuffled, in one order.

    Texts for which the two runs count different numbers of tokens are left out, and their number is the last
    value: a token that is massive in only one run would enter the null but not the number, or the reverse.
    """
    shuffled = rows["shuffled"].numpy() == 1
    texts = rows["text"].numpy()
    _, own, null = np.intersect1d(texts[~shuffled], texts[shuffled], return_indices=True)
    one, other = np.flatnonzero(~shuffled)[own], np.flatnonzero(shuffled)[null]
    equal = (rows["tokens"][one] == rows["tokens"][other]).numpy()
    return (
        {name: column[one[equal]] for name, column in rows.items()},
        {name: column[other[equal]] for name, column in rows.items()},
        int((~equal).sum()),
    )
