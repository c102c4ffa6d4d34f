"""Prompts between two clusters work."""

from __future__ import annotations

from analysis.findings.common import Judged, equal, few_seeds, together
from analysis.findings.evidence import Evidence
from analysis.findings.rules import Equal
from analysis.findings.study import Cell, Side, Study
from analysis.findings.values import Claim
from softprior.inputs.entries import Entry

DOMAIN = ("statistics", "task", "site", "tokens", "part")
"""What says which real vectors a prior is fitted on."""

CLAIM = Claim(
    name="between",
    number=7,
    words="Prompts that start between two clusters work as well",
    primary="Difference of test losses of `interpolation` and of `fitted` on each of its two domains, each "
    "at the rate chosen on validation.",
    rule="Supported if two one-sided t-tests show that both differences lie inside the margin. Contradicted "
    "if the sign-flip test shows that one lies outside. Otherwise undecided.",
    margin="5% of (no prompt - best of these priors), in nats.",
    quantity="nats",
)


def evidence(study: Study) -> list[Evidence]:
    """A finding for each cell and interpolation."""
    found = []
    for cell in study.cells("prior"):
        for name, side in cell.sides.items():
            prior = _prior(side)
            if prior.name != "interpolation":
                continue
            where = f"{cell.where} · {name}"
            ends = [_fitted(cell, prior.params.get(key)) for key in ("first", "second")]
            known = [end for end in ends if end is not None]
            if len(known) < 2:
                reason = "its end points are not priors of the study; add fitted on each of its two domains"
                found.append(Evidence(where=where, missing=together(reason, few_seeds(cell))))
                continue
            names = [name, *dict.fromkeys(known)]
            own = Cell(where, {each: cell.sides[each] for each in names}, cell.baseline)
            found.append(equal(study, own, names))
        if not any(_prior(side).name == "interpolation" for side in cell.sides.values()):
            reason = "the study has no interpolation here; add interpolation with fitted on its two domains"
            found.append(Evidence(where=cell.where, missing=together(reason, few_seeds(cell))))
    return found


def _prior(side: Side) -> Entry:
    prior = next(iter(side.runs.values())).record.spec.prior
    assert prior is not None
    return prior


def _fitted(cell: Cell, domain: object) -> str | None:
    """The side that is `fitted` on a domain."""
    wanted = domain if isinstance(domain, dict) else {}
    for name, side in cell.sides.items():
        prior = _prior(side)
        if prior.name == "fitted" and all(prior.params.get(key) == wanted.get(key) for key in DOMAIN):
            return name
    return None


JUDGED = Judged(CLAIM, Equal(), evidence)
