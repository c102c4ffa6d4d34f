"""What decides a trial's result besides names and settings: the contents of files."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from softprior.assets import fingerprints
from softprior.errors import UserError
from softprior.inputs.components import Table
from softprior.inputs.specs import TrialSpec
from softprior.priors import PRIORS, Prior
from softprior.regularisers import REGULARISERS, Regulariser

ReadT = TypeVar("ReadT", Prior, Regulariser)


def files_fingerprint(prior: Prior, regularisers: Sequence[Regulariser]) -> str | None:
    """Identifies the contents of all that a prior and regularisers read from files; None if they read none.

    Corrections that concern the trial count too: they changed what its parameters mean.

    Raises:
        UserError: a file is missing or damaged, or a component does not give the contents of a file it names.
    """
    _require_contents(PRIORS, prior)
    for term in regularisers:
        _require_contents(REGULARISERS, term)
    corrections = prior.corrections(density=any(term.uses_density for term in regularisers))
    parts = [*prior.contents(), *(part for term in regularisers for part in term.contents()), *corrections]
    return fingerprints.combined(*parts) if parts else None


def _require_contents(table: Table[ReadT], component: ReadT) -> None:
    if table.names_files(component) and not component.contents():
        raise UserError(
            f"{table.name(component)} has a parameter that says where a file is, but its contents() returns "
            "no fingerprint of it, so another file would reuse its results; return one"
        )


def found_files(trial: TrialSpec) -> str | None:
    """The fingerprint of the current contents of a trial's files, to compare with `prior_fingerprint`."""
    if trial.prior is None:
        return None
    prior = PRIORS.component(trial.prior)
    terms = [REGULARISERS.component(entry) for entry in trial.regularisers]
    return files_fingerprint(prior, terms)
