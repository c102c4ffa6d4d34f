"""The claim that it makes no difference whether token-level vectors are cut after block 0 or kept."""

from __future__ import annotations

from itertools import combinations

from analysis.findings.common import Judged, equal, few_seeds, is_encoder, pair, together
from analysis.findings.evidence import Evidence
from analysis.findings.rules import Equal
from analysis.findings.study import Cell, Side, Study
from analysis.findings.values import Claim

CLAIM = Claim(
    name="cut-or-keep",
    number=9,
    words="Cutting token-level vectors after block 0 is equal to keeping them",
    primary="Difference of test losses of two methods that differ in `token_level` (cut or keep) alone, "
    "each at the rate chosen on validation.",
    rule="Supported if two one-sided t-tests show that the difference lies inside the margin. Contradicted "
    "if the sign-flip test shows that it lies outside. Otherwise undecided. The paper says it of prompts "
    "whose token-level vectors alone train: `deep` with `blocks: []`. Otherwise the deeper vectors of `deep` "
    "train in both.",
    formerly=(
        "Supported if two one-sided t-tests show that the difference lies inside the margin. Contradicted "
        "if the sign-flip test shows that it lies outside. Otherwise undecided. The paper says it of prompts "
        "whose token-level vectors alone train; of `deep`, the deeper vectors train in both.",
    ),
    margin="5% of (no prompt - better of the two), in nats.",
    quantity="nats",
)


def evidence(study: Study) -> list[Evidence]:
    """A finding for each cell of methods and each pair."""
    found = []
    for cell in study.cells("method"):
        pairs = [both for both in combinations(cell.sides, 2) if _apart(cell, *both)]
        if not pairs:
            found.append(Evidence(where=cell.where, missing=together(_missing(cell), few_seeds(cell))))
        for both in pairs:
            where = cell.where if len(pairs) == 1 else f"{cell.where} · {pair(*both)}"
            own = Cell(where, {name: cell.sides[name] for name in both}, cell.baseline)
            found.append(equal(study, own, both))
    return found


def _missing(cell: Cell) -> str:
    """Why no two methods are compared, and what would give some."""
    reason = "no two methods differ in token_level alone"
    if is_encoder(cell.runs):
        return f"{reason}, and an encoder's prompts have no token_level; use a decoder-only model"
    return f"{reason}; add deep with token_level: cut and with keep"


def _apart(cell: Cell, a: str, b: str) -> bool:
    """Whether two methods differ in `token_level` alone, one cutting and one keeping."""
    methods = [_method(cell.sides[name]) for name in (a, b)]
    levels = {params.pop("token_level", None) for _, params in methods}
    return levels == {"cut", "keep"} and methods[0] == methods[1]


def _method(side: Side) -> tuple[str, dict[str, object]]:
    method = next(iter(side.runs.values())).record.spec.method
    return method.name, dict(method.params)


JUDGED = Judged(CLAIM, Equal(), evidence)
