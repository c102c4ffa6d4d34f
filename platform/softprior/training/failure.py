"""How a trial fails because of its numbers or of the machine."""

import errno
import math
import re

import torch

from softprior.errors import full_disk, system_codes

REFUSED = ("can't allocate memory", "out of memory", "not enough memory")
"""What torch says in its various errors when memory is refused."""


class TrialFailedError(Exception):
    """A trial cannot continue; the message says at which step, why, and what may help."""


def require_finite(step: int, name: str, value: float) -> None:
    """Checks one number of a trial.

    Raises:
        TrialFailedError: it is infinite or not a number.
    """
    if not math.isfinite(value):
        remedy = "lower the rate or the scale of the prior" if step else "lower the scale of the prior"
        raise TrialFailedError(f"step {step}: the {name} is {value}; {remedy}")


def shortage(error: Exception) -> str | None:
    """What the machine ran out of, and what may help; None for other errors."""
    full = full_disk(error)
    if full is not None:
        return (
            f"a file cannot be written ({full}); free some space and run the study again, which continues "
            "from the trial's last checkpoint"
        )
    refused = isinstance(error, RuntimeError) and any(words in str(error) for words in REFUSED)
    if (
        refused
        or isinstance(error, MemoryError | torch.OutOfMemoryError)
        or errno.ENOMEM in system_codes(error)
    ):
        first = (str(error).splitlines() or [""])[0]
        return (
            f"there was not enough memory ({_short(first) or 'no more is given'}); lower training.batch, "
            "evaluation.batch or resources.concurrent, or placement.tokens with shared hosts"
        )
    return None


def _short(text: str) -> str:
    """The text without its place in torch's source: `[enforce fail at alloc_cpu.cpp:127] ...`."""
    return re.sub(r"^\[enforce fail at [^\]]*\]\s*(err == 0\.\s*)?", "", text).rstrip(".")
