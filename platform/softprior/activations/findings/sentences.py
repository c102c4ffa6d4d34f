"""What findings say about the claims, in sentences made of their numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import combinations

from softprior.activations.findings import claims
from softprior.activations.findings.groups import GroupFindings
from softprior.activations.findings.pairs import NearestFindings, PairFindings
from softprior.activations.findings.ratios import (
    Ratio,
    answer_ratio,
    radii_ratio,
    separation_of,
    short,
    step_ratio,
    sure,
    trace_ratio,
)
from softprior.activations.findings.record import BETWEEN, Findings, Found, known
from softprior.activations.findings.sites import SiteFindings
from softprior.inputs.labels import counted
from softprior.statistics.swaps import Swaps
from softprior.statistics.units import VOCABULARY

Sites = Mapping[str, SiteFindings]
Pairs = Mapping[str, PairFindings]


def sentences(found: Findings) -> tuple[str, ...]:
    """One line per claim and task (or pair of tasks, or task with groups), in the order of `claims.CLAIMS`.

    Each begins with the words of its claim. `Claim.rule` says how sites are counted.
    """
    tasks = {task: known(sites) for task, sites in found.tasks.items() if task != VOCABULARY}
    pairs = {pair: known(sites) for pair, sites in found.pairs.items()}
    groups = {task: known(sites) for task, sites in found.groups.items()}
    lines = {
        claims.TRAJECTORIES: _of_each(tasks, _trajectories),
        claims.CLUSTERS: _of_each(pairs, _separated),
        claims.BEYOND_WORDS: _of_each(pairs, _beyond_words),
        claims.NEAREST: list(_nearest(known(found.nearest))),
        claims.GROUPS: _of_each(groups, _groups),
        claims.ONE_MODE: _of_each(tasks, _unimodal),
        claims.ANSWERS: _of_each(tasks, _answers),
        claims.GAUSSIAN: _of_each(tasks, _gaussian),
    }
    said: list[str] = []
    for claim, own in lines.items():
        if not own and claim.missing:
            own = [f": undecided, {claim.missing}"]
        said += [f"{claim.words}{line}" for line in own]
    return tuple(said)


def middle(sites: Iterable[str]) -> str:
    """The site in the middle of the residual stream, for which a line gives its number."""
    every = list(sites)
    names = [site for site in every if "resid." in site] or every
    return names[(len(names) - 1) // 2]


def _of_each(
    found: Mapping[str, Mapping[str, Found]], lines: Callable[[str, Mapping[str, Found]], Iterator[str]]
) -> list[str]:
    """The lines of all tasks or pairs, each as it follows the words of the claim."""
    return [line for name, sites in found.items() for line in lines(name, sites)]


def _trajectories(task: str, sites: Sites) -> Iterator[str]:
    traces, steps = _ratios(sites, trace_ratio), _ratios(sites, step_ratio)
    if traces:
        at = middle(traces)
        step = f"; steps are {steps[at]} of shuffled ones" if at in steps else ""
        yield (
            f" ({task}): tokens of a text spread {traces[at]} times as widely as their "
            f"{sites[at].trace_null} null at {at}; {_verdict(traces, 'narrower', 'wider')}{step}"
        )


def _answers(task: str, sites: Sites) -> Iterator[str]:
    ratios = _ratios(sites, answer_ratio)
    if ratios:
        at = middle(ratios)
        yield (
            f" ({task}): they spread {ratios[at]} times as widely as a random span of their text at "
            f"{at}; {_verdict(ratios, 'closer together', 'farther apart')}"
        )


def _separated(pair: str, sites: Pairs) -> Iterator[str]:
    distances = _ratios(sites, separation_of)
    if distances:
        at = middle(distances)
        a, b = pair.split(BETWEEN)
        ratio, accuracy = sites[at].separation.ratio, sites[at].probe.accuracy
        halves = "" if ratio is None else f" ({short(ratio)} times that of halves of one task in this sample)"
        told = sum(sure(sites[site].probe_holm) for site in distances)
        probe = f"; a held-out probe tells them apart at {told}, right on {{:.0%}} of tokens at {at}"
        count = sum(distance.sure for distance in distances.values())
        yield (
            f": {a} is separated from {b} at {count} of {counted(len(distances), 'site')}, undecided at "
            f"{len(distances) - count}: MMD^2 {distances[at]} at {at}{halves}, p there "
            f"{_p(sites[at].swaps)}{'' if accuracy is None else probe.format(accuracy)}"
        )


def _p(swaps: Swaps) -> str:
    """A p-value, not corrected, and how it varies with the tokens that were kept."""
    if swaps.p is None or swaps.p_low is None or swaps.p_high is None:
        return "unknown"
    return f"{swaps.p:.2g} ({swaps.p_low:.2g} to {swaps.p_high:.2g} with half of the tokens)"


def _beyond_words(pair: str, sites: Pairs) -> Iterator[str]:
    """What is left of two tasks' distance where tokens of the same ids are compared."""
    differences = {site: found.lexical.swaps.difference for site, found in sites.items()}
    tested = {site: difference for site, difference in differences.items() if difference is not None}
    if tested:
        at = middle(tested)
        here = sites[at].lexical
        a, b = pair.split(BETWEEN)
        count = sum(sure(sites[site].lexical_holm) for site in tested)
        accuracy, told = here.probe.accuracy, here.unigram
        probe = "" if accuracy is None else f"; there a probe of such tokens is right on {accuracy:.0%}"
        words = "" if told is None else f", ids alone tell {told:.0%} of all tokens"
        yield (
            f": within token ids, {a} and {b} differ at {count} of {counted(len(tested), 'site')}, "
            f"undecided at {len(tested) - count}: MMD^2 {short(tested[at])} at {at}, p "
            f"there {_p(here.swaps)}{probe}{words}"
        )


def _nearest(sites: Mapping[str, NearestFindings]) -> Iterator[str]:
    """Which two of three or more tasks are nearest, on one kernel and by a test of the differences."""
    margins = _ratios(sites, _margin)
    if margins:
        at = middle(margins)
        here = sites[at]
        decided = [sites[site].nearest for site, margin in margins.items() if margin.sure]
        counts = [
            f"{pair.replace(BETWEEN, ' and ')} at {decided.count(pair)}" for pair in dict.fromkeys(decided)
        ]
        counts.append(f"undecided at {len(margins) - len(decided)}")
        numbers = ", ".join(
            f"{pair} {short(value)}" for pair, value in zip(here.pairs, here.between, strict=True)
        )
        yield (
            f" ({counted(len(margins), 'site')}): {', '.join(counts)}; MMD^2 of {numbers} with one kernel at "
            f"{at}, where the second smallest exceeds the smallest by {margins[at]}"
        )


def _margin(found: NearestFindings) -> Ratio | None:
    if found.margin is None or found.low is None or found.high is None:
        return None
    return Ratio(found.margin, found.low, found.high, sure(found.holm))


def _groups(task: str, sites: Mapping[str, GroupFindings]) -> Iterator[str]:
    shares = {site: found.share for site, found in sites.items() if found.share is not None}
    if shares:
        at = middle(shares)
        here = sites[at]
        distances = here.distances
        count = sum(sure(sites[site].holm) for site in shares)
        a, b = max(combinations(range(len(here.names)), 2), key=lambda pair: distances[pair[0]][pair[1]])
        yield (
            f" ({task}): at {count} of {counted(len(shares), 'site')}, undecided at {len(shares) - count}; "
            f"they contain {shares[at]:.0%} of the variance of text means at {at}, {here.null:.1%} when "
            f"shuffled (95% below {here.null_high:.1%}); farthest are {here.names[a]} and {here.names[b]}, "
            f"{distances[a][b]:.2g} of a token's distance from the mean"
        )


def _unimodal(task: str, sites: Sites) -> Iterator[str]:
    tested = {site: found for site, found in sites.items() if found.dip_holm}
    if tested:
        count = sum(sure(min(found.dip_holm)) for found in tested.values())
        tests = [
            (dip, p, site, i)
            for site, found in tested.items()
            for i, (dip, p) in enumerate(zip(found.dips, found.dip_holm, strict=True))
        ]
        # A dip of many tokens of few documents may be large and not rejected.
        rejected = [test for test in tests if sure(test[1])]
        dip, p, site, component = max(rejected or tests)
        low, high = tested[site].dip_p_low[component], tested[site].dip_p_high[component]
        largest = "rejected dip" if rejected else "dip, not rejected,"
        shown = "p < 0.001" if p < 0.001 else f"p {p:.2g}"
        yield (
            f" ({task}): rejected at {count} of {counted(len(tested), 'site')}, undecided at "
            f"{len(tested) - count}; largest {largest} {dip:.3f} at {site}, component "
            f"{component + 1} ({shown}; on its own {low:.2g} to {high:.2g} with one token a document)"
        )


def _gaussian(task: str, sites: Sites) -> Iterator[str]:
    ratios = _ratios(sites, radii_ratio)
    if ratios:
        at = middle(ratios)
        data, gaussian = sites[at].fit.data, sites[at].fit.gaussian
        held = ""
        if data is not None and gaussian is not None:
            own, other = data.log_likelihood, gaussian.log_likelihood
            held = f"; held-out log-likelihood {own:.3g} nats a dimension, of Gaussian data {other:.3g}"
        yield (
            f" ({task}): radii spread {ratios[at]} times as widely as those of Gaussian data at {at}; by "
            f"intervals alone {_verdict(ratios, 'narrower', 'wider')}{held}"
        )


def _ratios(sites: Mapping[str, Found], number: Callable[[Found], Ratio | None]) -> dict[str, Ratio]:
    found = {site: number(own) for site, own in sites.items()}
    return {site: ratio for site, ratio in found.items() if ratio is not None}


def _verdict(ratios: Mapping[str, Ratio], below: str, above: str) -> str:
    """At how many sites the interval lies below 1, above it, or across it."""
    low = sum(ratio.high < 1 and ratio.sure for ratio in ratios.values())
    high = sum(ratio.low > 1 and ratio.sure for ratio in ratios.values())
    rest = len(ratios) - low - high
    return f"{below} at {low} of {counted(len(ratios), 'site')}, {above} at {high}, undecided at {rest}"
