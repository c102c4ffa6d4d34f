"""The paper's deep prompts: vectors at the token level and at the last blocks, cut after each."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from softprior.errors import UserError
from softprior.methods.base import BlockNumber, PlacedMethod, chosen_blocks, in_order
from softprior.prompt import Place, Stack

LAST = 3
"""The paper's number."""

OtherBlocks = Annotated[tuple[BlockNumber, ...], AfterValidator(in_order)]
"""As `ChosenBlocks`, or none."""


class Deep(PlacedMethod):
    """P vectors at the embedding level and P more at each of the last blocks, or of any.

    At each of these blocks the vectors are prepended to the block's input and cut from its output, so
    the other blocks see the text alone (arXiv 2412.18582, section 3). With `placement: after_bos` they are
    inserted behind the first token and cut from there, which at each block comes first, then the deeper
    vectors, then those that travel.

    Attributes:
        last: how many of the last blocks have vectors of their own.
        blocks: these blocks in place of the last ones; `[]` trains the token level alone.
        token_level: `cut` removes the token-level vectors after block 0 as in the paper; `keep` lets
            them travel through every block as in `soft`; `none` has no vectors there.
    """

    last: Annotated[int, Field(ge=1)] = LAST
    blocks: OtherBlocks | None = None
    token_level: Literal["cut", "keep", "none"] = "cut"

    @model_validator(mode="after")
    def _either(self) -> Deep:
        if self.blocks is not None and self.last != LAST:
            raise ValueError("blocks replaces the last blocks, so last has no effect; leave it out")
        if self.blocks == () and self.token_level == "none":
            raise ValueError("blocks = [] with token_level = 'none' trains nothing; change one of them")
        return self

    def places(self, blocks: int, stack: Stack = "decoder") -> tuple[Place, ...]:
        deeper = chosen_blocks("deep", self.blocks or (), blocks, stack)
        if self.blocks is None:
            if self.last >= blocks:
                raise UserError(
                    f"deep.last = {self.last} leaves no block between the token level and the last blocks of "
                    f"a model with {blocks}; use at most {blocks - 1}"
                )
            deeper = tuple(range(blocks - self.last, blocks))
        if self.token_level != "none" and 0 in deeper:
            raise UserError(
                f"deep.blocks names block 0, where token_level = '{self.token_level}' has vectors already; "
                "set token_level to 'none' or leave block 0 out"
            )
        first = () if self.token_level == "none" else (Place(0, after=self.token_level),)
        places = (*first, *(Place(block, after="cut") for block in deeper))
        return tuple(self.placed(place) for place in places)
