"""One task at one site."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from softprior.activations.findings.common import ALL, SINKS, documents_of
from softprior.activations.findings.radii import RadiiSpread, radii_spread
from softprior.errors import UserError
from softprior.results.numbers import Number, Numbers
from softprior.statistics.fit_quality import HeldOutFit, held_out_fit
from softprior.statistics.sequences import TrajectorySummary, trajectory_summary, unigram_traces
from softprior.statistics.spectrum import participation_of, principal_components
from softprior.statistics.store import SiteStatistics, load_statistics, load_tables, token_classes
from softprior.statistics.unimodality import Unimodality, unimodality

COMPONENTS = 5
"""Principal components whose scores are tested for one mode."""

OUTLIER = 20.0
"""Excess kurtosis from which a dimension counts as an outlier; a Gaussian has 0, a Laplace distribution 3."""

MANY = 0.2
"""Share of the texts from which it is noted that they are left out."""


class SiteFindings(Numbers):
    """One task at one site. Sinks are left out of everything that does not name them.

    Attributes:
        tokens: of the class `all`.
        documents: those that the tokens come from.
        sinks: attention sinks and massive tokens.
        sink_share: of all tokens.
        norm: median norm; None where the store has no norms, as are the next two.
        norm_95: 95% quantile.
        sink_norm: median norm of the sinks; None without any.
        participation: participation ratio; None where nothing varies.
        participation_with_sinks: the same of all tokens and sinks together.
        first_share: share of the variance along the first principal component.
        first_share_with_sinks: the same with sinks.
        kurtosis: largest excess kurtosis of a dimension; None where the store has none.
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
        notes: why numbers are None, by name of the number.
        dip_holm: `dip_p` corrected over the task's sites and their components; empty without dips.
        trace_holm: the p-value of `trace`, corrected over the task's sites, as are the next two.
        step_holm: that of `step`.
        answer_holm: that of `answer`.
    """

    tokens: int
    documents: int
    sinks: int
    sink_share: float
    norm: Number
    norm_95: Number
    sink_norm: Number
    participation: Number
    participation_with_sinks: Number
    first_share: Number
    first_share_with_sinks: Number
    kurtosis: Number
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
    notes: dict[str, str] = {}
    dip_holm: tuple[float, ...] = ()
    trace_holm: Number = None
    step_holm: Number = None
    answer_holm: Number = None


class TextRows(NamedTuple):
    """What a store has of texts that were read whole, a row per text and run: see `Tables.sequences`."""

    text: Int[Tensor, "R"]
    document: Int[Tensor, "R"]
    shuffled: Int[Tensor, "R"]
    tokens: Int[Tensor, "R"]
    trace: Float[Tensor, "R"]
    step: Float[Tensor, "R"]
    answer: Float[Tensor, "R"]
    span: Float[Tensor, "R"]

    @classmethod
    def of(cls, columns: Mapping[str, Tensor]) -> TextRows:
        """The rows of a table, by text: workers write in any order, and results must not depend on it."""
        rows = cls(**{name: columns[name] for name in cls._fields})
        return rows.at(np.lexsort((rows.shuffled.numpy(), rows.text.numpy())))

    def at(self, rows: Int[np.ndarray, "N"]) -> TextRows:
        """The rows of these numbers."""
        return TextRows(*(column[torch.from_numpy(rows)] for column in self))


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
    kurtosis = _kurtosis(found)
    if not len(kurtosis):
        notes["kurtosis"] = "no dimension has fourth moments or varies"
    components = principal_components(found.moments, min(COMPONENTS, len(found.moments.mean)))
    both = found.moments if sinks is None else found.moments.merge(sinks.moments)
    with_sinks = components if sinks is None else principal_components(both, 1)
    embedded = _embedded(found, site)
    tests = _dip_tests(found, components.directions, embedded, seed, notes)
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
        participation=participation_of(found.moments.covariance()),
        participation_with_sinks=participation_of(both.covariance()),
        first_share=float(components.shares[0]),
        first_share_with_sinks=float(with_sinks.shares[0]),
        kurtosis=float(kurtosis.max()) if len(kurtosis) else math.nan,
        outlier_dimensions=int((kurtosis > OUTLIER).sum()),
        dips=tuple(tests.dips.tolist()),
        dip_p=tuple(tests.p.tolist()),
        dip_p_low=tuple(tests.p_low.tolist()),
        dip_p_high=tuple(tests.p_high.tolist()),
        dip_vectors=tests.vectors,
        dip_independent=tests.independent,
        trace=trace,
        trace_null="unigram" if embedded else "shuffled",
        step=step,
        unequal=unequal,
        answer=answer,
        fit=held_out_fit(found.sample, documents_of(found), seed),
        radii=radii_spread(found, seed),
        notes=notes,
    )


def _kurtosis(found: SiteStatistics) -> Float[Tensor, "K"]:
    """Excess kurtosis of the dimensions that have one."""
    if found.dimensions is None:
        return torch.zeros(0, dtype=torch.float64)
    kurtosis = found.dimensions.kurtosis()
    return kurtosis[kurtosis.isfinite()]


def _dip_tests(
    found: SiteStatistics, directions: Float[Tensor, "K D"], embedded: bool, seed: int, notes: dict[str, str]
) -> Unimodality:
    """Tests of the sample, or none of them and a note why."""
    try:
        return unimodality(found.sample, directions, documents_of(found), seed, embedded)
    except UserError as error:
        notes["dips"] = str(error)
        none = torch.zeros(0, dtype=torch.float64)
        return Unimodality(none, none, none, none, vectors=0, independent=0)


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
    found: SiteStatistics, columns: Mapping[str, Tensor], embedded: bool, seed: int
) -> tuple[TrajectorySummary, TrajectorySummary, TrajectorySummary, int]:
    """`trace`, `step`, `answer` and `unequal` of a table with one row per text."""
    if not columns:
        none = TrajectorySummary(note="no text was read whole")
        return none, none, none, 0
    if "document" not in columns:
        none = TrajectorySummary(
            note="the store does not say which texts share a document; run the job again"
        )
        return none, none, none, 0
    rows = TextRows.of(columns)
    own = rows.at(np.flatnonzero(rows.shuffled.numpy() == 0))
    observed, null, unequal = _with_their_null(rows)
    traces = null.trace
    if embedded:
        whole = float(found.moments.covariance().trace())
        traces = unigram_traces(found.sample, whole, observed.tokens, seed)
    return (
        trajectory_summary(observed.trace, traces, observed.document, seed),
        trajectory_summary(observed.step, null.step, observed.document, seed),
        trajectory_summary(own.answer, own.span, own.document, seed),
        unequal,
    )


def _with_their_null(rows: TextRows) -> tuple[TextRows, TextRows, int]:
    """The rows of texts that were read both as they are and shuffled, in one order.

    Texts for which the two runs count different numbers of tokens are left out, and their number is the last
    value: a token that is massive in only one run would enter the null but not the number, or the reverse.
    """
    shuffled = rows.shuffled.numpy() == 1
    texts = rows.text.numpy()
    _, own, null = np.intersect1d(texts[~shuffled], texts[shuffled], return_indices=True)
    one, other = np.flatnonzero(~shuffled)[own], np.flatnonzero(shuffled)[null]
    equal = (rows.tokens[one] == rows.tokens[other]).numpy()
    return rows.at(one[equal]), rows.at(other[equal]), int((~equal).sum())
