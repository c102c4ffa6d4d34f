"""Which priors can start which methods and support which regularisers: the gaps in a study's grid."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from softprior.errors import UserError
from softprior.inputs.labels import by_number
from softprior.methods import METHODS, Method
from softprior.priors import PRIORS, Assignment, Prior, assignment
from softprior.priors.mixture import Mixture
from softprior.prompt import Kind, Shape
from softprior.regularisers import Regulariser

_VECTORS: Mapping[Kind, str] = {
    "residual": "vectors in the residual stream",
    "key": "keys",
    "value": "values",
}
"""The kinds of vectors in words."""


def can_start(prior: Assignment, method: Method, shape: Shape | None) -> bool:
    """Whether a prior can start every place of a method, as far as these are known."""
    if shape is None:
        return method.kinds <= prior.can_start()
    return all(p.kind in prior.at(p).kinds() for p in method.places(shape.blocks, shape.stack))


class Limit(NamedTuple):
    """Why a prior cannot start a method.

    Attributes:
        rule: what the prior is for.
        has: what the method has instead, in words.
    """

    rule: str
    has: str


def limit(named: Prior, method: Method, shape: Shape | None, index: int) -> Limit:
    """Why a prior cannot start a method, where `can_start` says so.

    Args:
        index: of the prior in its study.
    """
    prior = assignment(named)
    if shape is None:
        asked = [(one, kind) for one in prior.priors for kind in method.kinds]
    else:
        asked = [(prior.at(place), place.kind) for place in method.places(shape.blocks, shape.stack)]
    unable, kind = next((one, kind) for one, kind in asked if kind not in one.kinds())
    inside = "" if unable is named else f"{PRIORS.name(named)}: "
    if isinstance(unable, Mixture):
        place, unable = next((i, one) for i, one in enumerate(unable.priors) if kind not in one.kinds())
        inside = f"priors[{index}].{inside}mixture.priors[{place}]: "
    own = " and ".join(words for known, words in _VECTORS.items() if known in unable.kinds())
    reason = f" ({unable.limits()})" if unable.limits() else ""
    return Limit(
        f"{inside}{PRIORS.name(unable)} is only for {own or 'no vectors at all'}{reason}", _VECTORS[kind]
    )


def limit_notes(priors: Iterable[Prior], methods: Iterable[Method], shape: Shape | None) -> list[str]:
    """A sentence for each prior that cannot start some of these methods.

    Raises:
        UserError: no prior can start any of them.
    """
    trained, named = list(methods), list(priors)
    limits: dict[Limit, list[str]] = {}
    for i, prior in enumerate(named):
        for method in trained:
            if not can_start(assignment(prior), method, shape):
                limits.setdefault(limit(prior, method, shape, i), []).append(METHODS.name(method))
    notes = []
    for (rule, has), names in limits.items():
        there = list(dict.fromkeys(names))
        notes.append(f"{rule}, but {' and '.join(there)} {by_number(len(there), 'has', 'have')} {has}")
    if trained and not any(
        can_start(assignment(prior), method, shape) for prior in named for method in trained
    ):
        able = [
            name
            for name, kind in METHODS.kinds.items()
            if kind.trained and any(_starts_everywhere(prior, kind) for prior in named)
        ]
        use = f"the method {' or '.join(able)}, or another prior" if able else "another prior"
        raise UserError(f"{'; '.join(notes)}; use {use}, such as isotropic")
    return [f"{note}; left out there" for note in notes]


def _starts_everywhere(prior: Prior, method: type[Method]) -> bool:
    """Whether a prior can start a method wherever that has its vectors."""
    return all(method.kinds <= one.kinds() for one in assignment(prior).priors)


def can_carry(prior: Assignment, method: Method, terms: Iterable[Regulariser], shape: Shape | None) -> bool:
    """Whether a prior suits regularisers at every place of a method, in the same way."""
    parts = list(prior.priors)
    if shape is not None:
        parts = [prior.at(place) for place in method.places(shape.blocks, shape.stack)]
    return all(term.suits(part) for term in terms for part in parts)


def carry_notes(
    priors: Mapping[str, Assignment],
    methods: Mapping[str, Method],
    terms: Mapping[str, Regulariser],
    shape: Shape | None,
) -> list[str]:
    """One sentence for each term of a list that some priors do not suit.

    Args:
        priors, methods, terms: by label; only methods with trained prompts.

    Raises:
        UserError: no prior that can start a method suits them all, so no trial would have them.
    """
    started = [(p, m) for p in priors for m in methods if can_start(priors[p], methods[m], shape)]
    reasons = []
    for name, term in terms.items():
        left = [(p, m) for p, m in started if not can_carry(priors[p], methods[m], [term], shape)]
        called = []
        for prior in dict.fromkeys(p for p, _ in left):
            there = [m for p, m in left if p == prior]
            everywhere = len(there) == sum(p == prior for p, _ in started)
            called.append(prior if everywhere else f"{prior} at the places of {', '.join(there)}")
        if called:
            reasons.append(
                f"{name} needs a prior with {term.needs}, which {' and '.join(called)} cannot give"
            )
    if started and not any(can_carry(priors[p], methods[m], terms.values(), shape) for p, m in started):
        raise UserError(f"{'; '.join(reasons)}; add such a prior or leave {' and '.join(terms)} out")
    return [f"{reason}; left out there" for reason in reasons]
