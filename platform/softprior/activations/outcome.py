"""What a worker tells the driver about a shard."""

from __future__ import annotations

import json
from typing import Literal, NamedTuple


class Outcome(NamedTuple):
    """What came of a shard; it travels as JSON in a row of Ray Data.

    Attributes:
        shard: its name.
        error: why it failed; None if its sums are on disk.
        ends: what of the results folder ends the whole run: it is `refused` with a sentence of its own, or
            `unwritable`; None if the other shards can go on.
    """

    shard: str
    error: str | None = None
    ends: Literal["refused", "unwritable"] | None = None

    def to_json(self) -> str:
        return json.dumps(self._asdict())

    @classmethod
    def of(cls, text: str) -> Outcome:
        """The outcome that `to_json` wrote."""
        return cls(**json.loads(text))
