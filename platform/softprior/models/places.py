"""Places of a decoder: which exist, and which belong together."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from softprior.errors import UserError
from softprior.prompt import Place, Prompt


@dataclass(frozen=True)
class Places:
    """The places of a decoder-only model.

    Attributes:
        blocks: L.
        positions: how it encodes positions, see `ModelInfo.embedding`.
        family: for errors.
    """

    blocks: int
    positions: Literal["rotary", "learned", "other"]
    family: str

    def check(self, prompt: Prompt) -> None:
        """Raises a `UserError` for a prompt that the model cannot take."""
        for place in prompt:
            self.check_place(place)
        if len({place.placement for place in prompt}) > 1:
            raise UserError(
                "the vectors of a prompt are all in front of the text or all behind its first token, but "
                "this one has both; choose one placement"
            )
        prefix = [place for place in prompt if place.kind != "residual"]
        if not prefix:
            return
        if len(prefix) < len(prompt):
            raise UserError(
                "this host takes residual vectors or prefix keys and values, not both in one prompt; leave "
                "one kind out"
            )
        alone = next((place for place in prompt if partner(place) not in prompt), None)
        if alone is not None:
            raise UserError(f"a prompt with the place {alone.name} also needs {partner(alone).name}; add it")
        counts = sorted({len(vectors) for vectors in prompt.values()})
        if len(counts) > 1:
            raise UserError(
                f"a prefix must have the same number of vectors at every place, but this one has {counts}"
            )

    def check_place(self, place: Place) -> None:
        """Raises a `UserError` for a place that the model does not have."""
        if place.stack != "decoder":
            raise UserError(f"this host has no place {place.name}; the model is decoder-only")
        if not 0 <= place.block < self.blocks:
            raise UserError(
                f"block {place.block} does not exist: the model has blocks 0 to {self.blocks - 1}"
            )
        if place.kind != "residual" and place.after == "cut":
            raise UserError(f"there is no place {place.name}: keys and values are never in the sequence")
        if place.kind != "residual" and place.placement != "front":
            raise UserError(
                f"there is no place {place.name}: keys and values are in front of the whole text, its first "
                "token included"
            )
        if place.kind == "residual" and place.after == "keep" and place.block != 0:
            raise UserError(
                f"the place {place.name} does not exist: only vectors at block 0 stay in the sequence"
            )
        if self.positions == "other" and (place.after == "cut" or place.kind != "residual"):
            raise UserError(
                f"the model family '{self.family}' has neither rotary nor GPT-2's learned "
                "positions, so cut prompts and prefixes have no position in it; use the method soft"
            )


def partner(place: Place) -> Place:
    """The place of the values that belong to keys, or of the keys that belong to values."""
    return replace(place, kind="value" if place.kind == "key" else "key")
