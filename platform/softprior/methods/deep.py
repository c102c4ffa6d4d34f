"""The paper's deep prompts: vectors at the token level and at the last blocks, cut after each."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from softprior.errors import UserError
from softprior.methods.base import Method
from softprior.prompt import Place


class Deep(Method):
    """P vectors at the embedding level and P more at each of the last blocks.

    At each of these blocks the vectors are prepended to the block's input and cut from its output, so
    the other blocks see the text alone (arXiv 2412.18582, section 3).

    Attributes:
        tokens: P.
        last: how many of the last blocks have vectors of their own.
        token_level: `cut` removes the token-level vectors after block 0 as in the paper; `keep` lets
            them travel through every block as in `soft`.
    """

    tokens: Annotated[int, Field(ge=1)] = 20
    last: Annotated[int, Field(ge=1)] = 3
    token_level: Literal["cut", "keep"] = "cut"

    def places(self, blocks: int) -> tuple[Place, ...]:
        if self.last >= blocks:
            raise UserError(
                f"deep.last = {self.last} leaves no block between the token level and the last blocks of a "
                f"model with {blocks}; use at most {blocks - 1}"
            )
        deeper = (Place(block, after="cut") for block in range(blocks - self.last, blocks))
        return (Place(0, after=self.token_level), *deeper)

    def count(self) -> int:
        return self.tokens
