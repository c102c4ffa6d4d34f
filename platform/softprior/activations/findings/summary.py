"""Computes everything a store says about tasks, sites and pairs, with corrected p-values and in sentences.

Nothing is observed again and nothing is drawn here. Only a model's residual sites are read: keys and
values are there for priors, and the claims (`claims`) are about the residual stream.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import combinations
from pathlib import Path
from typing import ParamSpec, TypeVar

from pydantic import ValidationError

from softprior.activations.findings.common import PERMUTATIONS
from softprior.activations.findings.groups import GroupFindings, group_findings
from softprior.activations.findings.pairs import (
    NearestFindings,
    PairFindings,
    nearest_findings,
    pair_findings,
)
from softprior.activations.findings.prompts import SitePrompts, prompt_findings
from softprior.activations.findings.record import BETWEEN, Findings, Found, Unread, known
from softprior.activations.findings.sentences import sentences
from softprior.activations.findings.sites import SiteFindings, site_findings
from softprior.errors import UserError
from softprior.results.provenance import SOURCES, commit
from softprior.statistics.store import stored
from softprior.statistics.unimodality import over_sites
from softprior.statistics.units import PROMPTS, VOCABULARY

Report = Callable[[int, int, str], None]
"""Told how many sites are done, of how many, and which comes next."""

Arguments = ParamSpec("Arguments")
Computed = TypeVar("Computed")


def residual_sites(store: Path) -> dict[str, list[str]]:
    """The sites of every task that findings are about, in the model's order; prompts are not a task.

    Raises:
        UserError: there is no store.
    """
    return {
        task: [site for site in sites if not site.startswith(("key.", "value."))]
        for task, sites in stored(store).items()
        if task != PROMPTS
    }


def findings(store: Path, report: Report | None = None, seed: int = 0) -> Findings:
    """The numbers of all tasks, sites and pairs, with corrected p-values and in sentences.

    p-values are corrected by Holm over the sites of one task or pair, those of dips over its sites and
    components.

    Raises:
        UserError: there is no store.
    """
    of_task = residual_sites(store)
    compared = [task for task in of_task if task != VOCABULARY]
    # Vocabulary is at one site alone; tasks give the order of all.
    sites = list(dict.fromkeys(site for task in [*compared, *of_task] for site in of_task[task]))
    permutations = max(PERMUTATIONS, 40 * len(sites) - 1)
    tasks: dict[str, dict[str, SiteFindings | Unread]] = {task: {} for task in of_task}
    pairs: dict[str, dict[str, PairFindings | Unread]] = {
        BETWEEN.join(both): {} for both in combinations(compared, 2)
    }
    groups: dict[str, dict[str, GroupFindings | Unread]] = {}
    nearest: dict[str, NearestFindings | Unread] = {}
    prompts: dict[str, SitePrompts | Unread] = {}
    followed = stored(store).get(PROMPTS, ())
    for done, site in enumerate(sites):
        if report is not None:
            report(done, len(sites), site)
        here = [task for task in of_task if site in of_task[task]]
        for task in here:
            tasks[task][site] = _or_note(site_findings, store, task, site, seed)
            apart = _or_note(group_findings, store, task, site, seed, permutations)
            if apart is not None and task != VOCABULARY:
                groups.setdefault(task, {})[site] = apart
        others = [task for task in here if task != VOCABULARY]
        if len(others) > 2:
            nearest[site] = _or_note(nearest_findings, store, others, site, seed, permutations)
        for a, b in combinations(others, 2):
            pairs[f"{a}{BETWEEN}{b}"][site] = _or_note(pair_findings, store, a, b, site, seed, permutations)
        if site in followed:
            norms = [own.norm for task in others for own in known({site: tasks[task][site]}).values()]
            prompts[site] = _or_note(prompt_findings, store, site, norms)
    found = Findings(
        seed=seed,
        sites=tuple(sites),
        tasks={task: _task_corrected(own) for task, own in tasks.items()},
        pairs={pair: _pair_corrected(own) for pair, own in pairs.items()},
        groups={task: _groups_corrected(own) for task, own in groups.items()},
        nearest=_nearest_corrected(nearest),
        prompts=prompts,
        commit=commit(),
        sources=SOURCES,
    )
    return found.amended(sentences=sentences(found))


def by_depth(found: Findings) -> dict[str, dict[int, float]]:
    """The plain numbers of every task by name (`squad/participation`), over the number of the site."""
    numbers: dict[str, dict[int, float]] = {}

    def add(name: str, site: str, value: object) -> None:
        if isinstance(value, int | float):
            numbers.setdefault(name, {})[found.sites.index(site)] = float(value)

    for task, sites in found.tasks.items():
        for site, own in known(sites).items():
            for name, value in own:
                add(f"{task}/{name}", site, value)
    for pair, places in found.pairs.items():
        name = pair.replace(BETWEEN, "-")
        for site, both in known(places).items():
            add(f"{name}/mmd2", site, both.separation.between)
            add(f"{name}/mmd2_within_words", site, both.lexical.swaps.difference)
    for site, here in known(found.prompts).items():
        for prompt, states in here.prompts.items():
            for name, value in states:
                add(f"prompts/{prompt}/{name}", site, value)
    return numbers


def _or_note(
    compute: Callable[Arguments, Computed], *arguments: Arguments.args, **named: Arguments.kwargs
) -> Computed | Unread:
    """What a function found, or why it found nothing."""
    try:
        return compute(*arguments, **named)
    except UserError as error:
        return Unread(note=str(error))
    except ValidationError as error:  # a number that is not finite where there has to be one
        return Unread(note=f"a number is not finite: {str(error).splitlines()[0]}")


def _task_corrected(sites: Mapping[str, SiteFindings | Unread]) -> dict[str, SiteFindings | Unread]:
    own = known(sites)
    dips = over_sites({site: found.dip_p for site, found in own.items() if found.dip_p})
    traces = _holm(own, lambda found: found.trace.p)
    steps = _holm(own, lambda found: found.step.p)
    answers = _holm(own, lambda found: found.answer.p)
    corrected = {
        site: found.amended(
            dip_holm=tuple(dips.get(site, ())),
            trace_holm=traces.get(site),
            step_holm=steps.get(site),
            answer_holm=answers.get(site),
        )
        for site, found in own.items()
    }
    return {**sites, **corrected}


def _pair_corrected(sites: Mapping[str, PairFindings | Unread]) -> dict[str, PairFindings | Unread]:
    own = known(sites)
    swaps = _holm(own, lambda found: found.swaps.p)
    probes = _holm(own, lambda found: found.probe.swaps.p)
    lexical = _holm(own, lambda found: found.lexical.swaps.p)
    lexical_probes = _holm(own, lambda found: found.lexical.probe.swaps.p)
    corrected = {
        site: found.amended(
            holm=swaps.get(site),
            probe_holm=probes.get(site),
            lexical_holm=lexical.get(site),
            lexical_probe_holm=lexical_probes.get(site),
        )
        for site, found in own.items()
    }
    return {**sites, **corrected}


def _groups_corrected(sites: Mapping[str, GroupFindings | Unread]) -> dict[str, GroupFindings | Unread]:
    own = known(sites)
    corrected = _holm(own, lambda found: found.p)
    return {**sites, **{site: found.amended(holm=corrected.get(site)) for site, found in own.items()}}


def _nearest_corrected(
    sites: Mapping[str, NearestFindings | Unread],
) -> dict[str, NearestFindings | Unread]:
    own = known(sites)
    corrected = _holm(own, lambda found: found.p)
    return {**sites, **{site: found.amended(holm=corrected.get(site)) for site, found in own.items()}}


def _holm(sites: Mapping[str, Found], p: Callable[[Found], float | None]) -> dict[str, float]:
    """Holm's p-values over the sites that have one."""
    of_site = {site: p(found) for site, found in sites.items()}
    corrected = over_sites({site: [value] for site, value in of_site.items() if value is not None})
    return {site: adjusted for site, [adjusted] in corrected.items()}
