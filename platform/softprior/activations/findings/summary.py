"""Everything a store says, of all tasks, sites and pairs, with corrected p-values and in sentences.

Nothing is observed again and nothing is drawn here. Of a model's sites the residual ones are read: keys and
values are there for priors, and the claims of design/science.md are about the residual stream.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict
from itertools import combinations
from pathlib import Path
from typing import Any

from softprior.activations.findings.claims import sentences
from softprior.activations.findings.common import PERMUTATIONS
from softprior.activations.findings.groups import group_findings
from softprior.activations.findings.pairs import nearest_findings, pair_findings
from softprior.activations.findings.sites import site_findings
from softprior.errors import UserError
from softprior.results.files import finite, write_json
from softprior.results.provenance import code
from softprior.results.storage import Location
from softprior.statistics.store import stored
from softprior.statistics.unimodality import over_sites
from softprior.statistics.units import VOCABULARY

Report = Callable[[int, int, str], None]
"""Told how many sites are done, of how many, and which comes next."""


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
    """The numbers of all tasks, sites and pairs, with corrected p-values and in sentences.

    `tasks`, `pairs` ("a / b") and `groups` contain fields by name and site, `nearest` by site (with three
    tasks or more); what could not be computed is null and has a note. p-values are corrected by Holm over the
    sites of one task or pair, dips over its sites and components: `dip_holm`, `trace_holm`, `step_holm`,
    `answer_holm`; `holm`, `probe_holm`, `lexical_holm`, `lexical_probe_holm` of pairs; `holm` of groups and
    of the nearest pair. `commit` and `sources` say which code found them.

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
    closest: dict[str, Any] = {}
    for done, site in enumerate(known):
        if report is not None:
            report(done, len(known), site)
        here = [task for task in of_task if site in of_task[task]]
        for task in here:
            tasks[task][site] = _or_note(site_findings, store, task, site, seed)
            apart = _or_note(group_findings, store, task, site, seed, permutations)
            if apart is not None and task != VOCABULARY:
                groups.setdefault(task, {})[site] = apart
        others = [task for task in here if task != VOCABULARY]
        if len(others) > 2:
            closest[site] = _or_note(nearest_findings, store, others, site, seed, permutations)
        for a, b in combinations(others, 2):
            pairs[f"{a} / {b}"][site] = _or_note(pair_findings, store, a, b, site, seed, permutations)
    for own in tasks.values():
        dips = over_sites({site: found["dip_p"] for site, found in own.items() if found.get("dip_p")})
        for site, adjusted in dips.items():
            own[site]["dip_holm"] = adjusted
        for name in ("trace", "step", "answer"):
            _correct(own, f"{name}_holm", name)
    for own in pairs.values():
        _correct(own, "holm", "swaps")
        _correct(own, "probe_holm", "probe", "swaps")
        _correct(own, "lexical_holm", "lexical", "swaps")
        _correct(own, "lexical_probe_holm", "lexical", "probe", "swaps")
    for own in [*groups.values(), closest]:
        _correct(own, "holm")
    found = finite(
        {"seed": seed, "sites": known, "tasks": tasks, "pairs": pairs, "groups": groups, "nearest": closest}
    )
    return {**found, "sentences": sentences(found), **code()}


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
            mmd2 = parts.get("separation", {}).get("between")
            if mmd2 is not None:
                name = f"{pair.replace(' / ', '-')}/mmd2"
                numbers.setdefault(name, {})[found["sites"].index(site)] = float(mmd2)
            lexical = parts.get("lexical", {}).get("swaps", {}).get("difference")
            if lexical is not None:
                name = f"{pair.replace(' / ', '-')}/mmd2_within_words"
                numbers.setdefault(name, {})[found["sites"].index(site)] = float(lexical)
    return numbers


def save_findings(path: Location, found: dict[str, Any]) -> None:
    """Writes what `findings` returned; the file reads back as the same value."""
    write_json(path, found)


def _or_note(compute: Callable[..., Any], *arguments: Any) -> dict[str, Any] | None:
    """The fields that a function found, or why it found none."""
    try:
        found = compute(*arguments)
    except UserError as error:
        return {"note": str(error)}
    return None if found is None else asdict(found)


def _correct(sites: dict[str, Any], name: str, *path: str) -> None:
    """Adds Holm's p-values over the sites that have one, `path` leading to the part with `p`."""
    known = {}
    for site, part in sites.items():
        for step in path:
            part = part.get(step, {})
        if not math.isnan(part.get("p", math.nan)):
            known[site] = [part["p"]]
    for site, [adjusted] in over_sites(known).items():
        sites[site][name] = adjusted
