"""How a trial fails for reasons of its numbers."""

import math


class TrialFailedError(Exception):
    """A trial cannot go on; the message says at which step, why, and what may help."""


def require_finite(step: int, name: str, value: float) -> None:
    """Checks one number of a trial.

    Raises:
        TrialFailedError: it is infinite or not a number.
    """
    if not math.isfinite(value):
        remedy = "lower the rate or the scale of the prior" if step else "lower the scale of the prior"
        raise TrialFailedError(f"step {step}: the {name} is {value}; {remedy}")
