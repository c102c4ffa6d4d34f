"""Values made of numbers: frozen, with declared fields, and unchanged by a round trip through JSON."""

from __future__ import annotations

import math
from typing import Annotated, Self

from pydantic import BeforeValidator

from softprior.inputs.base import Spec


def _known(value: object) -> object:
    return None if isinstance(value, float) and not math.isfinite(value) else value


Number = Annotated[float | None, BeforeValidator(_known)]
"""A number, or None if it could not be computed. Arithmetic says so with nan or infinity, which JSON does not
have, and nan is not equal to itself."""


class Numbers(Spec):
    """Base of what a computation found: a frozen value whose fields are documented numbers.

    A field that may have no number is a `Number`, and a `note` says why it has none.
    """

    def amended(self, **fields: object) -> Self:
        """The same value with other values of some fields, checked like the first ones."""
        return type(self).model_validate({**dict(self), **fields})
