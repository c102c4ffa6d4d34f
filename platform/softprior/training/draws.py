"""Which random numbers a trial draws its prompt with."""

from __future__ import annotations

from softprior.inputs.entries import Entry
from softprior.inputs.specs import TrialSpec
from softprior.priors import Prior


def draw_names(trial: TrialSpec, prior: Prior) -> tuple[str, ...]:
    """The names between a trial's seed and the place, for the generator of the place's sample.

    With `pairing: noise` they are the same for every prior. With `none` they are the prior's own: its
    parameters, and what it reads from files in place of the files' paths. Task, rate and regularisers never
    enter, so trials that differ in these alone start alike.

    Raises:
        UserError: a file that the prior reads is missing or damaged.
    """
    if trial.pairing == "noise" or trial.prior is None:
        return ("prior",)
    own = Entry.model_validate(trial.without_paths()["prior"])
    return ("prior", own.canonical(), *prior.contents())
