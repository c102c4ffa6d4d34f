"""Which priors can start which methods and support which regularisers: the gaps in a study's grid."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from softprior.errors import UserError
from softprior.methods import Method
from softprior.priors import Assignment
from softprior.prompt import Shape
from softprior.regularisers import Regulariser


def can_start(prior: Assignment, method: Method, shape: Shape | None) -> bool:
    """Whether a prior can start every place of a method, as far as these are known."""
    if shape is None:
        return method.kinds <= prior.can_start()
    return all(p.kind in prior.at(p).kinds() for p in method.places(shape.blocks, shape.stack))


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
