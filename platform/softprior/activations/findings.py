"""What a statistics store says: numbers of every task and site, of pairs of tasks, and of groups within one.

Nothing is observed again and nothing is drawn here. Of a model's sites the residual ones are read: keys and
values are there for priors, and the claims of design/science.md are about the residual stream.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from softprior.activations.claims import sentences
from softprior.activations.texts import VOCABULARY
from softprior.errors import UserError
from softprior.files import finite, write_json
from softprior.seeding import numpy_generator, torch_generator
from softprior.statistics.clusters import Points, Separation, matched, separation
from softprior.statistics.documents import interval, resampled
from softprior.statistics.fit_quality import HeldOutFit, held_out_fit
from softprior.statistics.gaussian import fit_gaussian
from softprior.statistics.moments import Moments
from softprior.statistics.probe import Probe, probe
from softprior.statistics.sequences import TrajectorySummary, trajectory_summary
from softprior.statistics.spectrum import participation_ratio, principal_components
from softprior.statistics.store import (
    SiteStatistics,
    load_statistics,
    load_tables,
    stored,
    token_classes,
)
from softprior.statistics.unimodality import holm, unimodality

ALL, SINKS, MEAN = "all", "sinks", "mean"
"""Token classes that are read."""

COMPONENTS = 5
"""Principal components whose scores are tested for one mode."""

OUTLIER = 20.0
"""Excess kurtosis from which a dimension counts as an outlier; 0 is a Gaussian's, 3 a Laplace law's."""

PER_DIMENSION = 10
"""Tokens a dimension that a fit needs before radii of its own sample say something."""

PERMUTATIONS = 999
"""Of the nulls, or more where there are many sites: p is then small enough to survive Holm's correction."""

REFITS = 4
"""Of the probe, for the mean of its null."""

RESAMPLES = 1000

Report = Callable[[int, int, str], None]
"""Told how many sites are done, of how many, and which comes next."""


@dataclass(frozen=True)
class SiteFindings:
    """One task at one site. Sinks are left out of everything that does not name them.

    Attributes:
        tokens: of the class `all`.
        documents: they come from.
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
        dip_p: their p-values, not corrected.
        dip_vectors: vectors tested. At `resid.0` every token enters once: repeated tokens are equal vectors,
            and a dip test takes each heap of them for a mode.
        trace: traces of texts over their null.
        trace_null: `shuffled`: the same texts with their words shuffled, run through the model.
            At `resid.0` shuffling changes no trace, so the null is `unigram`: independent draws of the task's
            tokens, whose expected trace is exactly that of the covariance of `all`.
        step: mean step lengths of texts over those of the same texts shuffled, at every site.
        answer: trace of the answer's tokens over that of a random span of the same text.
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
    dip_vectors: int
    trace: TrajectorySummary
    trace_null: str
    step: TrajectorySummary
    answer: TrajectorySummary
    fit: HeldOutFit
    radii: RadiiSpread
    notes: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class RadiiSpread:
    """Standard deviation of the sample's radii under a fit of all its class's tokens, over Gaussian data's.

    The fit is that of the prior `fitted`. Its shrinkage, and that the sample is part of what it is fitted on,
    make radii of Gaussian data spread less than chi. So they are measured too: as many tokens drawn from the
    Gaussian with the class's mean and covariance, fitted in the same way. Radii of a wrong shape spread more.

    Attributes:
        ratio: to the standard deviation of Gaussian data; 1 is "as a Gaussian".
        low: end of its 95% percentile interval over documents (of Gaussian data over draws), the fits held.
        high: the other end.
        note: why numbers are nan; empty if none is.
    """

    ratio: float = math.nan
    low: float = math.nan
    high: float = math.nan
    note: str = ""


@dataclass(frozen=True)
class PairFindings:
    """Two tasks at one site, on equally many tokens at like positions (`clusters.matched`)."""

    separation: Separation
    probe: Probe


@dataclass(frozen=True)
class GroupFindings:
    """The groups of one task at one site (the modules of `arithmetic`).

    Attributes:
        names: of the groups.
        tokens: of each.
        distances: between the groups' mean tokens, over the root mean square distance of a token from the
            task's mean.
        texts: sampled means of texts on which the following stand.
        share: of the variance of those means that lies between groups, in [0, 1].
        null: its mean with the groups of documents permuted.
        null_high: its 95% quantile there.
        p: share of permutations (the observed one included) that reach `share`.
        note: why numbers are nan; empty if none is.
    """

    names: tuple[str, ...]
    tokens: tuple[int, ...]
    distances: tuple[tuple[float, ...], ...]
    texts: int = 0
    share: float = math.nan
    null: float = math.nan
    null_high: float = math.nan
    p: float = math.nan
    note: str = ""


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
    tested = found.sample.unique(dim=0) if _embedded(site) else found.sample
    dips: tuple[float, ...] = ()
    dip_p: tuple[float, ...] = ()
    try:
        tests = unimodality(tested, components.directions)
        dips, dip_p = tuple(tests.dips.tolist()), tuple(tests.p.tolist())
    except UserError as error:
        notes["dips"] = str(error)
    covariance = found.moments.covariance()
    rows = load_tables(store, task, site).sequences
    observed, shuffled = _joined(rows)
    nulls = shuffled.get("trace", torch.zeros(0))
    if _embedded(site):
        nulls = torch.full_like(nulls, float(covariance.trace()))
    own = {name: column[rows["shuffled"] == 0] for name, column in rows.items()}
    none = torch.zeros(0, dtype=torch.float64)
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
        dip_vectors=len(tested),
        trace=trajectory_summary(observed.get("trace", none), nulls, seed),
        trace_null="unigram" if _embedded(site) else "shuffled",
        step=trajectory_summary(observed.get("step", none), shuffled.get("step", none), seed),
        answer=trajectory_summary(own.get("answer", none), own.get("span", none), seed),
        fit=held_out_fit(found.sample, _documents(found), seed),
        radii=_radii(found, seed),
        notes=notes,
    )


def _embedded(site: str) -> bool:
    """Whether a token's vector there is the same wherever it stands."""
    return site.removeprefix("encoder.").removeprefix("decoder.") == "resid.0"


def _quantile(found: SiteStatistics, share: float) -> float:
    return math.nan if found.norms is None else found.norms.quantile(share)


def _joined(rows: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The rows of texts that were read both as they are and shuffled, in one order."""
    if not rows:
        return {}, {}
    shuffled = rows["shuffled"].numpy() == 1
    texts = rows["text"].numpy()
    _, own, null = np.intersect1d(texts[~shuffled], texts[shuffled], return_indices=True)
    one, other = np.flatnonzero(~shuffled)[own], np.flatnonzero(shuffled)[null]
    return {name: column[one] for name, column in rows.items()}, {
        name: column[other] for name, column in rows.items()
    }


def _documents(found: SiteStatistics) -> Int[Tensor, "N"]:
    """The document of each sampled vector; of a store made from arrays every vector is its own."""
    return found.facts.get("document", torch.arange(len(found.sample)))


def _radii(found: SiteStatistics, seed: int) -> RadiiSpread:
    count, dimension = found.moments.count, len(found.moments.mean)
    if count < PER_DIMENSION * dimension:
        return RadiiSpread(
            note=f"{count} tokens are fewer than {PER_DIMENSION} for each of {dimension} dimensions"
        )
    drawn, moments = _gaussian_data(found, torch_generator(seed, "radii"))
    try:
        radii = fit_gaussian(found.moments).gaussian.radius(found.sample)
        others = fit_gaussian(moments).gaussian.radius(drawn)
    except UserError as error:
        return RadiiSpread(note=str(error))
    documents = _documents(found)
    if len(documents.unique()) < 2:
        return RadiiSpread(note="an interval needs two documents, and there is one")
    generator = numpy_generator(seed, "radii")
    values = _deviations(radii, documents, generator) / _deviations(
        others, torch.arange(len(drawn)), generator
    )
    low, high = interval(values[1:])
    return RadiiSpread(float(values[0]), low, high)


def _gaussian_data(found: SiteStatistics, generator: torch.Generator) -> tuple[Float[Tensor, "N D"], Moments]:
    """A Gaussian with the class's mean and covariance: a sample as large, and moments of as many tokens.

    The sample is part of the tokens. The others are not drawn: their scatter follows a Wishart law, of which
    Bartlett's decomposition gives one draw.
    """
    dimension, size = len(found.moments.mean), len(found.sample)
    values, axes = torch.linalg.eigh(found.moments.covariance())
    root = axes * values.clamp(min=0).sqrt()

    def noise(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    drawn = found.moments.mean + noise(size, dimension) @ root.T
    rest = found.moments.count - size
    if rest <= 2 * dimension:
        others = found.moments.mean + noise(rest, dimension) @ root.T
        return drawn, Moments.empty(dimension).update(torch.cat([drawn, others]))
    factor = noise(dimension, dimension).tril(-1)
    freedom = rest - 1 - torch.arange(dimension, dtype=torch.float64)
    # torch's gamma takes no generator; of so many degrees of freedom chi is normal to far below its spread.
    factor.diagonal().copy_(((freedom - 0.5).sqrt() + noise(dimension) / math.sqrt(2)).clamp(min=0))
    spread = root @ factor
    mean = found.moments.mean + root @ noise(dimension) / math.sqrt(rest)
    return drawn, Moments(rest, mean, spread @ spread.T).merge(Moments.empty(dimension).update(drawn))


def _deviations(
    radii: Float[Tensor, "N"], documents: Int[Tensor, "N"], generator: np.random.Generator
) -> Float[np.ndarray, "R"]:
    """The standard deviation, then that of bootstrap samples of the documents."""
    centred = radii.numpy() - float(radii.mean())  # squares cancel less
    names, index = np.unique(documents.numpy(), return_inverse=True)
    sums = np.stack([np.bincount(index, weights=centred**power) for power in range(3)])
    weights = np.ones((len(names), 1 + RESAMPLES))
    weights[:, 1:] = resampled(len(names), RESAMPLES, generator)
    number, first, second = sums @ weights
    deviations: np.ndarray = np.sqrt(np.maximum(second / number - (first / number) ** 2, 0))
    return deviations


def pair_findings(
    store: Path, a: str, b: str, site: str, seed: int, permutations: int = PERMUTATIONS
) -> PairFindings:
    """How far two tasks stand apart at a site, on the samples of their tokens without sinks.

    Raises:
        UserError: a file is missing or damaged, or does not say where its vectors come from.
    """
    one, other = matched(_points(store, a, site), _points(store, b, site), seed)
    # A refit takes a third of a second: few for the probe's null, whose p survives no correction anyway.
    return PairFindings(
        separation(one, other, seed, permutations=permutations), probe(one, other, seed, permutations=REFITS)
    )


def _points(store: Path, task: str, site: str) -> Points:
    found = load_statistics(store, task, site, ALL, None)
    if not {"document", "position"} <= set(found.facts):
        raise UserError(
            f"the statistics of {task} at {site} in {store} do not say which document their sample is from; "
            "make them with python -m jobs.activations"
        )
    return Points(found.sample, found.facts["document"], found.facts["position"])


def group_findings(
    store: Path, task: str, site: str, seed: int, permutations: int = PERMUTATIONS
) -> GroupFindings | None:
    """How far the groups of a task lie apart at a site; None of a task without groups.

    Raises:
        UserError: the file is missing or damaged.
    """
    groups = load_tables(store, task, site).groups
    if len(groups) < 2:
        return None
    means = torch.stack([mean.double() for _, mean in groups.values()])
    spread = float(load_statistics(store, task, site, ALL, None).moments.covariance().trace()) ** 0.5
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
        return replace(found, note="the sampled texts are of one group, or do not say of which")
    names, first, index = np.unique(_documents(texts).numpy(), return_index=True, return_inverse=True)
    kinds, of_document = np.unique(labels[first], return_inverse=True)
    vectors = texts.sample.double().numpy()
    vectors -= vectors.mean(0)
    total = float((vectors**2).sum())
    if len(names) <= len(kinds) or total == 0:
        return replace(found, texts=len(vectors), note="the sampled texts are too few or all equal")

    def share(of_each: Int[np.ndarray, "G"]) -> float:
        members = np.eye(len(kinds))[of_each[index]].T
        sums = members @ vectors
        return float(((sums**2).sum(1) / np.maximum(members.sum(1), 1)).sum()) / total

    generator = numpy_generator(seed, "groups")
    observed = share(of_document)
    null = np.array([share(generator.permutation(of_document)) for _ in range(permutations)])
    return replace(
        found,
        texts=len(vectors),
        share=observed,
        null=float(null.mean()),
        null_high=float(np.quantile(null, 0.95)),
        # The same sums in another order differ by rounding.
        p=(1 + int((null >= observed - 1e-12).sum())) / (1 + permutations),
    )


def residual_sites(store: Path) -> dict[str, list[str]]:
    """The sites of every task that findings are about, in the model's order.

    Raises:
        UserError: there is no store.
    """
    return {
        task: [site for site in sites if not site.startswith(("key.", "value."))]
        for task, sites in stored(store).items()
    }


def findings(store: Path, report: Report | None = None, seed: int = 0) -> dict[str, Any]:
    """Everything above, of all tasks, sites and pairs, with corrected p-values and in sentences.

    `tasks`, `pairs` ("a / b") and `groups` hold fields by name and site; what could not be computed is null
    and has a note. p-values are corrected by Holm over the sites of one task or pair, dips over its sites and
    components: `dip_holm`, `trace_holm`, `step_holm`, `answer_holm`, and `holm` of pairs and groups.

    Raises:
        UserError: there is no store.
    """
    of_task = residual_sites(store)
    compared = [task for task in of_task if task != VOCABULARY]
    # Vocabulary is at one site alone; tasks give the order of all.
    known = list(dict.fromkeys(site for task in [*compared, *of_task] for site in of_task[task]))
    permutations = max(PERMUTATIONS, 40 * len(known) - 1)
    tasks: dict[str, dict[str, Any]] = {task: {} for task in of_task}
    pairs: dict[str, dict[str, Any]] = {f"{a} / {b}": {} for a, b in combinations(compared, 2)}
    groups: dict[str, dict[str, Any]] = {}
    for done, site in enumerate(known):
        if report is not None:
            report(done, len(known), site)
        here = [task for task in of_task if site in of_task[task]]
        for task in here:
            tasks[task][site] = _or_note(site_findings, store, task, site, seed)
            apart = _or_note(group_findings, store, task, site, seed, permutations)
            if apart is not None and task != VOCABULARY:
                groups.setdefault(task, {})[site] = apart
        for a, b in combinations([task for task in here if task != VOCABULARY], 2):
            pairs[f"{a} / {b}"][site] = _or_note(pair_findings, store, a, b, site, seed, permutations)
    for own in tasks.values():
        _correct_dips(own)
        for name in ("trace", "step", "answer"):
            _correct(own, f"{name}_holm", name)
    for own in pairs.values():
        _correct(own, "holm", "separation")
    for own in groups.values():
        _correct(own, "holm", None)
    found = finite({"seed": seed, "sites": known, "tasks": tasks, "pairs": pairs, "groups": groups})
    return {**found, "sentences": sentences(found)}


def by_depth(found: Mapping[str, Any]) -> dict[str, dict[int, float]]:
    """The plain numbers of every task by name (`squad/participation`), over the number of the site.

    Args:
        found: what `findings` returned; nothing gives nothing.
    """
    numbers: dict[str, dict[int, float]] = {}
    for task, sites in found.get("tasks", {}).items():
        for site, values in sites.items():
            for name, value in values.items():
                if isinstance(value, int | float) and not isinstance(value, bool):
                    numbers.setdefault(f"{task}/{name}", {})[found["sites"].index(site)] = float(value)
    for pair, sites in found.get("pairs", {}).items():
        for site, parts in sites.items():
            ratio = parts.get("separation", {}).get("ratio")
            if ratio is not None:
                name = f"{pair.replace(' / ', '-')}/separation"
                numbers.setdefault(name, {})[found["sites"].index(site)] = float(ratio)
    return numbers


def save_findings(path: Path, found: dict[str, Any]) -> None:
    """Writes what `findings` returned; the file reads back as the same value."""
    write_json(path, found)


def _or_note(compute: Callable[..., Any], *arguments: Any) -> dict[str, Any] | None:
    """The fields that a function found, or why it could not."""
    try:
        found = compute(*arguments)
    except UserError as error:
        return {"note": str(error)}
    return None if found is None else asdict(found)


def _correct(sites: dict[str, Any], name: str, part: str | None) -> None:
    """Adds Holm's p-values over the sites that have one."""
    values = {site: found.get(part, {}) if part else found for site, found in sites.items()}
    values = {site: value for site, value in values.items() if not math.isnan(value.get("p", math.nan))}
    adjusted = holm(torch.tensor([value["p"] for value in values.values()], dtype=torch.float64))
    for site, value in zip(values, adjusted.tolist(), strict=True):
        sites[site][name] = value


def _correct_dips(sites: dict[str, Any]) -> None:
    known = {site: found["dip_p"] for site, found in sites.items() if found.get("dip_p")}
    if known:
        adjusted = holm(torch.tensor([p for own in known.values() for p in own], dtype=torch.float64))
        for site, own in zip(known, adjusted.split([len(own) for own in known.values()]), strict=True):
            sites[site]["dip_holm"] = own.tolist()
