"""How a trial fails for reasons of its numbers."""

import math

REMEDY = "lower the rate or the scale of the prior, or use dtype float32"


class TrialFailedError(Exception):
    """A trial cannot go on; the message says at which step, why, and what may help."""


def require_finite(step: int, name: str, value: float) -> None:
    """Checks one number of a trial.

    Raises:
        TrialFailedError: it is infinite or not a number.
    """
    if not math.isfinite(value):
        raise TrialFailedError(f"step {step}: the {name} is {value}; {REMEDY}")
