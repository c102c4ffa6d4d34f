"""What findings say about the claims of design/science.md, in sentences made of their numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import combinations
from math import exp
from typing import Any, NamedTuple

from softprior.inputs.labels import counted

LEVEL = 0.05
"""Corrected p-values up to this one count."""

Sites = Mapping[str, Mapping[str, Any]]


class Ratio(NamedTuple):
    """A number and its interval at one site.

    Attributes:
        value: the number.
        low: end of its interval.
        high: the other end.
        sure: whether a corrected p-value is at most `LEVEL`.
    """

    value: float
    low: float
    high: float
    sure: bool = False

    def __str__(self) -> str:
        return f"{_short(self.value)} ({_short(self.low)} to {_short(self.high)})"


def _short(value: float) -> str:
    if 0 < abs(value) < 0.1:
        return f"{value:.2g}"
    return f"{value:.2f}" if abs(value) < 10 else f"{value:.1f}"


def sentences(found: Mapping[str, Any]) -> list[str]:
    """One line per claim and task (or pair of tasks, or task with groups), in the order of the claims.

    Trajectories and answers are decided at a site where the interval lies on one side of 1 and the corrected
    p is at most `LEVEL`; tasks, groups and modes by the corrected p alone. Radii have no test, and their line
    says that it counts intervals.

    Args:
        found: what `findings` computes: JSON values, null for a missing number.
    """
    tasks = {task: sites for task, sites in found["tasks"].items() if task != "vocabulary"}
    lines = {
        5: [line for task, sites in tasks.items() for line in _trajectories(task, sites)],
        6: [
            *[line for pair, sites in found["pairs"].items() for line in _separated(pair, sites)],
            *[line for pair, sites in found["pairs"].items() for line in _beyond_words(pair, sites)],
            *_nearest(found.get("nearest", {})),
            *[line for task, sites in found["groups"].items() for line in _groups(task, sites)],
        ],
        11: [line for task, sites in tasks.items() for line in _unimodal(task, sites)],
        12: [line for task, sites in tasks.items() for line in _answers(task, sites)],
        14: [line for task, sites in tasks.items() for line in _gaussian(task, sites)],
    }
    missing = {
        5: "no text was also read shuffled",
        6: "it takes two tasks with some documents each",
        11: "no sample could be tested",
        12: "no text has an answer of two tokens and room for a span before it",
        14: "no task has tokens enough for its dimensions",
    }
    return [
        f"claim {claim}: {line}"
        for claim, own in lines.items()
        for line in own or [f"undecided: {missing[claim]}"]
    ]


def middle(sites: Iterable[str]) -> str:
    """The site in the middle of the residual stream, for which a line gives its number."""
    known = list(sites)
    names = [site for site in known if "resid." in site] or known
    return names[(len(names) - 1) // 2]


def over_null(found: Mapping[str, Any], name: str) -> Ratio | None:
    """A trajectory's number over its null at one site: the geometric mean over texts."""
    summary = found.get(name) or {}
    if summary.get("mean_log_ratio") is None or summary.get("low") is None:
        return None
    value, low, high = (exp(summary[key]) for key in ("mean_log_ratio", "low", "high"))
    return Ratio(value, low, high, _sure(found.get(f"{name}_holm")))


def radii(found: Mapping[str, Any]) -> Ratio | None:
    """How widely radii spread, over a Gaussian's own."""
    values = found.get("radii") or {}
    if values.get("ratio") is None or values.get("low") is None:
        return None
    # There is no test beside the interval, and the line says so.
    return Ratio(values["ratio"], values["low"], values["high"], sure=True)


def between(found: Mapping[str, Any]) -> Ratio | None:
    """MMD^2 of two tasks at one site, whose zero is "no difference"."""
    values = found.get("separation") or {}
    if values.get("between") is None or values.get("low") is None:
        return None
    return Ratio(values["between"], values["low"], values["high"], _sure(found.get("holm")))


def _sure(p: float | None) -> bool:
    return p is not None and p <= LEVEL


def _trajectories(task: str, sites: Sites) -> Iterator[str]:
    traces, steps = _known(sites, over_null, "trace"), _known(sites, over_null, "step")
    if traces:
        at = middle(traces)
        step = f"; steps are {steps[at]} of shuffled ones" if at in steps else ""
        yield (
            f"{task}: tokens of a text spread {traces[at]} times as widely as their "
            f"{sites[at]['trace_null']} null at {at}; {_verdict(traces, 'narrower', 'wider')}{step}"
        )


def _answers(task: str, sites: Sites) -> Iterator[str]:
    ratios = _known(sites, over_null, "answer")
    if ratios:
        at = middle(ratios)
        yield (
            f"{task}: answer tokens spread {ratios[at]} times as widely as a random span of their text at "
            f"{at}; {_verdict(ratios, 'closer together', 'farther apart')}"
        )


def _separated(pair: str, sites: Sites) -> Iterator[str]:
    distances = _known(sites, between)
    if distances:
        at = middle(distances)
        a, b = pair.split(" / ")
        ratio, accuracy = sites[at]["separation"]["ratio"], sites[at]["probe"]["accuracy"]
        halves = (
            "" if ratio is None else f" ({_short(ratio)} times that of halves of one task in this sample)"
        )
        told = sum(_sure(sites[site].get("probe_holm")) for site in distances)
        probe = f"; a held-out probe tells them apart at {told}, right on {{:.0%}} of tokens at {at}"
        count = sum(distance.sure for distance in distances.values())
        yield (
            f"{a} is separated from {b} at {count} of {counted(len(distances), 'site')}, undecided at "
            f"{len(distances) - count}: MMD^2 {distances[at]} at {at}{halves}, p there "
            f"{_p(sites[at]['swaps'])}{'' if accuracy is None else probe.format(accuracy)}"
        )


def _p(swaps: Mapping[str, Any]) -> str:
    """A p-value, not corrected, and how it varies with the tokens that were kept."""
    if swaps.get("p") is None:
        return "unknown"
    return f"{swaps['p']:.2g} ({swaps['p_low']:.2g} to {swaps['p_high']:.2g} with half of the tokens)"


def _beyond_words(pair: str, sites: Sites) -> Iterator[str]:
    """What is left of two tasks' distance where tokens of the same ids are compared."""
    known = {
        site: found["lexical"]
        for site, found in sites.items()
        if (found.get("lexical") or {}).get("swaps", {}).get("p") is not None
    }
    if known:
        at = middle(known)
        here = known[at]
        a, b = pair.split(" / ")
        count = sum(_sure(sites[site].get("lexical_holm")) for site in known)
        accuracy, told = here["probe"]["accuracy"], here["unigram"]
        probe = "" if accuracy is None else f"; there a probe of such tokens is right on {accuracy:.0%}"
        words = "" if told is None else f", ids alone tell {told:.0%} of all tokens"
        yield (
            f"within token ids, {a} and {b} differ at {count} of {counted(len(known), 'site')}, undecided at "
            f"{len(known) - count}: MMD^2 {_short(here['swaps']['difference'])} at {at}, p "
            f"there {_p(here['swaps'])}{probe}{words}"
        )


def _nearest(sites: Sites) -> Iterator[str]:
    """Which two of three or more tasks are nearest, on one kernel and by a test of the differences."""
    known = {site: found for site, found in sites.items() if found.get("nearest")}
    if known:
        at = middle(known)
        here = known[at]
        sure = [found["nearest"] for found in known.values() if _sure(found.get("holm"))]
        counts = [f"{pair.replace(' / ', ' and ')} at {sure.count(pair)}" for pair in dict.fromkeys(sure)]
        counts.append(f"undecided at {len(known) - len(sure)}")
        numbers = ", ".join(
            f"{pair} {_short(value)}" for pair, value in zip(here["pairs"], here["between"], strict=True)
        )
        margin = Ratio(here["margin"], here["low"], here["high"])
        yield (
            f"nearest of all pairs at {counted(len(known), 'site')}: {', '.join(counts)}; MMD^2 of "
            f"{numbers} with one kernel at {at}, where the second smallest exceeds the smallest by {margin}"
        )


def _groups(task: str, sites: Sites) -> Iterator[str]:
    known = {site: found for site, found in sites.items() if found.get("share") is not None}
    if known:
        at = middle(known)
        here = known[at]
        names, distances = here["names"], here["distances"]
        count = sum(_sure(found.get("holm")) for found in known.values())
        a, b = max(combinations(range(len(names)), 2), key=lambda pair: distances[pair[0]][pair[1]])
        yield (
            f"groups of {task} lie apart at {count} of {counted(len(known), 'site')}: they contain "
            f"{here['share']:.0%} of the variance of text means at {at}, {here['null']:.1%} when shuffled "
            f"(95% below {here['null_high']:.1%}); farthest are {names[a]} and {names[b]}, "
            f"{distances[a][b]:.2g} of a token's distance from the mean"
        )


def _unimodal(task: str, sites: Sites) -> Iterator[str]:
    known = {site: found for site, found in sites.items() if found.get("dip_holm")}
    if known:
        count = sum(min(found["dip_holm"]) <= LEVEL for found in known.values())
        tests = [
            (dip, p, site, i)
            for site, found in known.items()
            for i, (dip, p) in enumerate(zip(found["dips"], found["dip_holm"], strict=True))
        ]
        # A dip of many tokens of few documents may be large and not rejected.
        rejected = [test for test in tests if test[1] <= LEVEL]
        dip, p, site, component = max(rejected or tests)
        own = known[site]
        spread = ""
        if own.get("dip_p_low"):
            low, high = own["dip_p_low"][component], own["dip_p_high"][component]
            spread = f"; on its own {low:.2g} to {high:.2g} with one token a document"
        yield (
            f"{task}: one mode is rejected at {count} of {counted(len(known), 'site')}, undecided at "
            f"{len(known) - count}; largest {'rejected dip' if rejected else 'dip, not rejected,'} {dip:.3f} "
            f"at {site}, component {component + 1} "
            f"({'p < 0.001' if p < 0.001 else f'p {p:.2g}'}{spread})"
        )


def _gaussian(task: str, sites: Sites) -> Iterator[str]:
    ratios = _known(sites, radii)
    if ratios:
        at = middle(ratios)
        data, gaussian = (sites[at]["fit"][name] for name in ("data", "gaussian"))
        held = ""
        if data is not None and gaussian is not None:
            own, other = data["log_likelihood"], gaussian["log_likelihood"]
            held = f"; held-out log-likelihood {own:.3g} nats a dimension, of Gaussian data {other:.3g}"
        yield (
            f"{task}: radii under the fitted Gaussian spread {ratios[at]} times as widely as those "
            f"of Gaussian data at {at}; by intervals alone {_verdict(ratios, 'narrower', 'wider')}{held}"
        )


def _known(sites: Sites, number: Callable[..., Ratio | None], *arguments: str) -> dict[str, Ratio]:
    found = {site: number(own, *arguments) for site, own in sites.items()}
    return {site: ratio for site, ratio in found.items() if ratio is not None}


def _verdict(ratios: Mapping[str, Ratio], below: str, above: str) -> str:
    """At how many sites the interval lies below 1, above it, or across it."""
    low = sum(ratio.high < 1 and ratio.sure for ratio in ratios.values())
    high = sum(ratio.low > 1 and ratio.sure for ratio in ratios.values())
    rest = len(ratios) - low - high
    return f"{below} at {low} of {counted(len(ratios), 'site')}, {above} at {high}, undecided at {rest}"
